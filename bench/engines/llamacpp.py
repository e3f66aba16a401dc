"""llama.cpp through llama-cpp-python's low-level API: GGUF written by `gguf`, quantized by llama.cpp itself, greedy.

llama-cpp-python's `Llama` class keeps one sequence and moves all logits through numpy on every token; the calls used here
are those of llama.cpp's own tools (llama-bench, llama-batched-bench): one batch for the prompts, one per step for all
rows, an arg max over each row's logits. The context is the library's default but for threads and size: keys and values
in fp16, 2048 tokens a batch in pieces of 512, flash attention where it thinks fit. With `cache=f32:attention=plain` an
fp32 file gives PyTorch's logits to 4e-6 (GPT-2's to 4e-4: its GELU is a table in fp16): the checkpoint is read faithfully.
"""

import json
import time
from pathlib import Path

import numpy as np
from workloads.decoder import Texts, Writer

PACKAGES = ("llama-cpp-python", "gguf", "numpy")
OPTIONS = {"precision": ("q8_0", "q4_0", "f32"), "cache": ("f16", "f32"), "attention": ("auto", "plain")}
NOTE = (
    "GGUF by gguf, llama_model_quantize (tables and head as it chooses), llama_decode; built from source for this CPU; "
    "a batch of 2048 tokens in pieces of 512"
)
CACHE_TYPES = {"f32": 0, "f16": 1}  # ggml.h, enum ggml_type
FILE_TYPES = {"f32": 0, "q4_0": 2, "q8_0": 7}  # llama.h, enum llama_ftype
WINDOW = 1024  # tokens that a row may hold; the cases need 640


def prepare_decoder(checkpoint: Path, out: Path, options: dict[str, str]) -> None:
    """Write the checkpoint as fp32 GGUF and have llama.cpp quantize it."""
    import llama_cpp

    precision = options["precision"]
    plain = out / "model-f32.gguf"
    write_gguf(checkpoint, plain)
    if precision == "f32":
        return
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = FILE_TYPES[precision]
    target = out / f"model-{precision}.gguf"
    if failed := llama_cpp.llama_model_quantize(str(plain).encode(), str(target).encode(), settings):
        raise RuntimeError(f"llama_model_quantize returned {failed}")
    plain.unlink()


def write_gguf(checkpoint: Path, file: Path) -> None:
    """Write config, tokenizer and tensors (gpt2, llama, qwen2) under GGUF's names, all in fp32."""
    import gguf
    from safetensors.numpy import load_file

    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    kind = config["model_type"]
    architecture = {"gpt2": gguf.MODEL_ARCH.GPT2, "llama": gguf.MODEL_ARCH.LLAMA, "qwen2": gguf.MODEL_ARCH.QWEN2}[kind]
    writer = gguf.GGUFWriter(file, gguf.MODEL_ARCH_NAMES[architecture])
    writer.add_file_type(FILE_TYPES["f32"])
    writer.add_vocab_size(config["vocab_size"])
    if kind == "gpt2":
        layers, heads, groups = config["n_layer"], config["n_head"], config["n_head"]
        writer.add_context_length(config["n_positions"])
        writer.add_embedding_length(config["n_embd"])
        writer.add_feed_forward_length(4 * config["n_embd"])
        writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    else:
        layers, heads, groups = (
            config[key] for key in ("num_hidden_layers", "num_attention_heads", "num_key_value_heads")
        )
        writer.add_context_length(config["max_position_embeddings"])
        writer.add_embedding_length(config["hidden_size"])
        writer.add_feed_forward_length(config["intermediate_size"])
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
        writer.add_rope_freq_base(config["rope_theta"])
        writer.add_rope_dimension_count(config["hidden_size"] // heads)
        writer.add_head_count_kv(groups)
    writer.add_block_count(layers)
    writer.add_head_count(heads)
    add_tokenizer(writer, checkpoint, kind)
    names = gguf.get_tensor_name_map(architecture, layers)
    for name, values in load_file(checkpoint / "model.safetensors").items():
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if target is None:
            raise ValueError(f"GGUF has no name for {name}")
        if kind == "gpt2" and values.ndim == 2 and ".h." in name:  # Conv1D keeps [in, out]
            values = values.T
        if kind == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            values = interleave(values, heads if "q_proj" in name else groups)
        writer.add_tensor(target, np.ascontiguousarray(values, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def interleave(values: np.ndarray, heads: int) -> np.ndarray:
    """Return rows [heads x size, in] with the two halves of each head interleaved: llama.cpp rotates neighbours."""
    rows, inputs = values.shape
    return values.reshape(heads, 2, rows // heads // 2, inputs).swapaxes(1, 2).reshape(rows, inputs)


def add_tokenizer(writer, checkpoint: Path, kind: str) -> None:
    """Add the byte-level BPE of tokenizer.json."""
    import gguf

    model = json.loads((checkpoint / "tokenizer.json").read_text(encoding="utf-8"))
    special = {entry["content"]: entry["id"] for entry in model["added_tokens"]}
    vocabulary = {**model["model"]["vocab"], **special}
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    kinds = [gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in tokens]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["model"]["merges"]]
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre({"gpt2": "gpt-2", "llama": "smollm", "qwen2": "qwen2"}[kind])
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])


def facts_decoder(prepared: Path, config: dict, options: dict[str, str]) -> dict[str, float]:
    """Return what a step reads: all tensors but the position table, and the embedding where the head has its own."""
    import gguf

    tensors = {tensor.name: int(tensor.n_bytes) for tensor in gguf.GGUFReader(next(prepared.glob("*.gguf"))).tensors}
    tensors.pop("position_embd.weight", None)
    if "output.weight" in tensors:
        tensors.pop("token_embd.weight")
    return {"read_mb": sum(tensors.values()) / 1e6, "cache_bits": int(options["cache"][1:])}


def load_decoder(prepared: Path, threads: int, options: dict[str, str]) -> Writer:
    """Open the model; contexts are made when a number of rows is first asked for, the one before is freed."""
    import llama_cpp

    quiet = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(quiet, None)
    llama_cpp.llama_backend_init()
    settings = llama_cpp.llama_model_default_params()
    settings.n_gpu_layers = 0
    model = llama_cpp.llama_model_load_from_file(str(next(prepared.glob("*.gguf"))).encode(), settings)
    if not model:
        raise RuntimeError(f"llama.cpp cannot load {next(prepared.glob('*.gguf')).name}")
    columns = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    held: dict[int, Context] = {}

    def context(rows: int) -> Context:
        if rows not in held:
            for old in held.values():
                old.close()
            held.clear()
            held[rows] = Context(model, rows, threads, columns, options)
        return held[rows]

    def write(prompts: Texts, new: int) -> tuple[Texts, float]:
        opened = context(len(prompts))
        tokens = opened.read(prompts)
        first = time.perf_counter()
        written = [tokens]
        for _ in range(new - 1):
            tokens = opened.step(tokens)
            written.append(tokens)
        return [list(row) for row in zip(*written, strict=True)], first

    def logits(text: list[int]) -> np.ndarray:
        opened = context(1)
        opened.read([text])
        return opened.logits(-1).copy()

    load_decoder.quiet = quiet  # the library keeps the pointer only
    return Writer(write, logits)


class Context:
    """A llama.cpp context for so many rows, and its batch.

    Args:
        model: the opened model.
        rows: sequences at once.
        threads: for prompts and for steps.
        columns: of the logits.
        options: the engine's.
    """

    def __init__(self, model, rows: int, threads: int, columns: int, options: dict[str, str]) -> None:
        import llama_cpp

        self.api, self.rows, self.columns = llama_cpp, rows, columns
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx = rows * WINDOW
        settings.n_seq_max = rows
        settings.n_threads = settings.n_threads_batch = threads
        settings.type_k = settings.type_v = CACHE_TYPES[options["cache"]]
        if options["attention"] == "plain":
            settings.flash_attn_type = 0
        settings.no_perf = True
        self.most = settings.n_batch
        self.context = llama_cpp.llama_init_from_model(model, settings)
        if not self.context:
            raise RuntimeError(f"llama.cpp makes no context for {rows} rows")
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.batch = llama_cpp.llama_batch_init(self.most, 0, 1)
        as_array = np.ctypeslib.as_array  # views of the batch's own C arrays
        self.tokens, self.places, self.counts, self.wanted = (
            as_array(getattr(self.batch, name), (self.most,)) for name in ("token", "pos", "n_seq_id", "logits")
        )
        self.counts[:] = 1
        self.lengths = 0

    def decode(self, tokens: np.ndarray, rows: np.ndarray, places: np.ndarray, wanted: np.ndarray) -> None:
        """Run one batch of tokens of the rows named."""
        count = len(tokens)
        self.tokens[:count], self.places[:count], self.wanted[:count] = tokens, places, wanted
        for entry, row in enumerate(rows.tolist()):
            self.batch.seq_id[entry][0] = row
        self.batch.n_tokens = count
        if failed := self.api.llama_decode(self.context, self.batch):
            raise RuntimeError(f"llama_decode returned {failed}")

    def logits(self, entry: int) -> np.ndarray:
        """Return the logits of an entry of the last batch (-1: of the last one wanted), a view."""
        return np.ctypeslib.as_array(self.api.llama_get_logits_ith(self.context, entry), (self.columns,))

    def read(self, prompts: Texts) -> list[int]:
        """Forget everything, read prompts of one length, return each row's most likely token."""
        self.api.llama_memory_clear(self.memory, True)
        self.lengths = length = len(prompts[0])
        found = []
        together = max(1, self.most // length)  # rows per batch
        for start in range(0, len(prompts), together):
            some = prompts[start : start + together]
            rows = np.repeat(np.arange(start, start + len(some)), length)
            wanted = np.tile(np.arange(length) == length - 1, len(some))
            self.decode(np.concatenate(some), rows, np.tile(np.arange(length), len(some)), wanted)
            found += [int(self.logits((place + 1) * length - 1).argmax()) for place in range(len(some))]
        return found

    def step(self, tokens: list[int]) -> list[int]:
        """Append one token to every row and return the next of each."""
        count = len(tokens)
        self.decode(np.asarray(tokens), np.arange(count), np.full(count, self.lengths), np.ones(count, bool))
        self.lengths += 1
        return [int(self.logits(row).argmax()) for row in range(count)]

    def close(self) -> None:
        """Free the context and its batch."""
        self.api.llama_batch_free(self.batch)
        self.api.llama_free(self.context)
