"""Record tiny random checkpoints of architectures that are traced, their graphs from optimum, and PyTorch's answers.

Run by hand: python tests/record_traced.py. Needs optimum-onnx 0.1, torch, transformers 4.57. What is recorded is random or made here,
and nobody else's. Weights lie on a coarse grid, so that they compress.
"""

import json
import os
import sys
import tarfile
import tempfile
import warnings
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", OMP_NUM_THREADS="1")

import numpy as np
import torch
import transformers
from edgenlp_export.traced import optimum
from edgenlp_export.traced.describe import source_multiple
from edgenlp_export.traced.verify import Question
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from edgenlp.errors import EdgeNLPError

OUT = Path(__file__).parent / "data" / "traced"
HEADS = ("hidden-states", "masked-lm", "question-answering", "sequence-classification", "token-classification")
TASKS = {
    "causal-lm": "text-generation",
    "hidden-states": "feature-extraction",
    "masked-lm": "fill-mask",
    "question-answering": "question-answering",
    "seq2seq-lm": "text2text-generation",
    "sequence-classification": "text-classification",
    "token-classification": "token-classification",
}
LETTERS = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
WORDS = [
    "the",
    "of",
    "and",
    "a",
    "in",
    "to",
    "is",
    "was",
    "it",
    "for",
    "on",
    "as",
    "with",
    "film",
    "price",
    "news",
    "bad",
    "not",
]
VOCABULARY = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *dict.fromkeys([*LETTERS, *(f"##{c}" for c in LETTERS), *WORDS]),
]
SIZES = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
SHORT = {"vocab_size": len(VOCABULARY), "d_model": 32, "n_head": 4, "d_inner": 48}
WRITES = {"vocab_size": 257, "bos_token_id": 256, "eos_token_id": 256}
IDS = {
    "pad_token_id": 0,
    "eos_token_id": 3,
    "decoder_start_token_id": 2,
    "bos_token_id": 2,
    "vocab_size": len(VOCABULARY),
}
CONFIGS: dict[str, Any] = {
    "big_bird": transformers.BigBirdConfig(**SIZES, block_size=4, num_random_blocks=1, sep_token_id=3, pad_token_id=0),
    "convbert": transformers.ConvBertConfig(**SIZES, embedding_size=16, conv_kernel_size=3, pad_token_id=0),
    "mobilebert": transformers.MobileBertConfig(**SIZES, embedding_size=16, intra_bottleneck_size=16, pad_token_id=0),
    "roformer": transformers.RoFormerConfig(**SIZES, embedding_size=16, pad_token_id=0),
    "squeezebert": transformers.SqueezeBertConfig(
        **SIZES, embedding_size=32, q_groups=2, k_groups=2, v_groups=2, intermediate_groups=2, output_groups=2, pad_token_id=0
    ),
    "xlnet": transformers.XLNetConfig(**SHORT, n_layer=2, pad_token_id=0),
    "codegen": transformers.CodeGenConfig(**WRITES, n_positions=64, n_ctx=64, n_embd=32, n_layer=2, n_head=4, rotary_dim=4),
    "gptj": transformers.GPTJConfig(**WRITES, n_positions=64, n_embd=32, n_layer=2, n_head=4, rotary_dim=4),
    "stablelm": transformers.StableLmConfig(**{**SIZES, **WRITES}, num_key_value_heads=2, partial_rotary_factor=0.5),
    "longt5": transformers.LongT5Config(
        **IDS, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_decoder_layers=2, num_heads=4, local_radius=7
    ),
    "longt5_global": transformers.LongT5Config(
        **IDS, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_decoder_layers=2, num_heads=4, local_radius=7,
        encoder_attention_type="transient-global", global_block_size=4
    ),
    "led": transformers.LEDConfig(
        **IDS, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=48, decoder_ffn_dim=48, max_encoder_position_embeddings=64, max_decoder_position_embeddings=48,
        attention_window=[8, 4],
    ),
}  # fmt: skip
# mobilebert has no layer norms that would hold its states within bounds, squeezebert's layers are convolutions one token wide
GAINS = {"mobilebert": 0.5, "squeezebert": 0.4}
LINES = ["the film was not bad", "news of the price: it is for her, as with him", "a"]


def heads_of(kind: str) -> tuple[str, ...]:
    if kind in ("codegen", "gptj", "stablelm"):
        return ("causal-lm",)
    if kind in ("led", "longt5", "longt5_global"):
        return ("seq2seq-lm",)
    return tuple(head for head in HEADS if kind != "xlnet" or head != "masked-lm")


def write_tokenizer(folder: Path, head: str) -> None:
    if head == "causal-lm":
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        made = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
        made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        names = {"eos_token": "<|endoftext|>", "bos_token": "<|endoftext|>"}
    else:
        made = Tokenizer(models.WordPiece({word: number for number, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
        made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
        made.decoder = decoders.WordPiece()
        single = "$A [SEP]" if head == "seq2seq-lm" else "[CLS] $A [SEP]"
        made.post_processor = processors.TemplateProcessing(
            single=single, pair=f"{single} $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        names = {f"{role}_token": f"[{role.upper()}]" for role in ("pad", "unk", "cls", "sep", "mask")}
        names |= {"eos_token": "[SEP]"} if head == "seq2seq-lm" else {}
    inputs = ["input_ids", "attention_mask", *(["token_type_ids"] if head in HEADS else [])]
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, model_max_length=64, model_input_names=inputs, **names
    )
    tokenizer.save_pretrained(folder)


def write_checkpoint(folder: Path, kind: str, head: str, seed: int) -> None:
    torch.manual_seed(seed)
    config = type(CONFIGS[kind]).from_dict(CONFIGS[kind].to_dict())
    if head in ("sequence-classification", "token-classification"):
        config.num_labels = 3 if head.startswith("sequence") else 5
    model = getattr(transformers, optimum.MODELS[head][0]).from_config(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                spread = GAINS.get(kind, 1.5) / weight.shape[-1] ** 0.5
                weight.copy_(torch.round(torch.randn_like(weight) * 4) / 4 * spread)
            else:
                shift = torch.round(torch.randn_like(weight) * 2) / 16
                weight.copy_(shift + (1 if "weight" in name else 0))
    model.save_pretrained(folder)
    write_tokenizer(folder, head)


def ask_pipeline(folder: Path, head: str) -> list[Any]:
    """Calls of transformers' pipeline, and what it answers."""
    asked = transformers.pipeline(TASKS[head], model=str(folder), device="cpu")
    if head == "question-answering":
        calls: list[Any] = [
            {"question": "what was the film", "context": LINES[0]},
            {"question": "who", "context": LINES[1]},
        ]
        return [[call, asked(**call)] for call in calls]
    if head == "masked-lm":
        return [[text, asked(text)] for text in ("the [MASK] was bad", "it is not for [MASK]")]
    if head in ("causal-lm", "seq2seq-lm"):
        return [[text, asked(text, max_new_tokens=10, do_sample=False)] for text in LINES[:2]]
    found = [[text, asked(text)] for text in LINES[:2]]
    return json.loads(json.dumps(found, default=float))


def record(kind: str, head: str, seed: int) -> tuple[dict[str, Any], list[np.ndarray]]:
    """One case into an archive; what was asked and what the pipeline says, and PyTorch's answers, about 200 numbers of each."""
    stream = np.random.RandomState(seed)
    most = 250 if head == "causal-lm" else len(VOCABULARY)
    windows = [
        Question([int(i) for i in stream.randint(5, most, n)], [int(2 * i >= n) for i in range(n)]) for n in (5, 18, 41)
    ]
    targets = [[2, *(int(i) for i in stream.randint(5, most, n))] for n in (4, 7, 11)] if head == "seq2seq-lm" else []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "checkpoint")
        write_checkpoint(folder, kind, head, seed)
        traced = optimum.trace(
            folder, folder / "onnx", head, windows,
            targets=targets, type_ids=head in HEADS, multiple=source_multiple(CONFIGS[kind].to_dict()),
        )  # fmt: skip
        pipeline = ask_pipeline(folder, head)
        with tarfile.open(OUT / f"{kind}-{head}.tar.xz", "w:xz") as archive:
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    info = archive.gettarinfo(path, str(path.relative_to(folder)))
                    info.mtime, info.uid, info.gid, info.uname, info.gname = 0, 0, 0, "", ""
                    archive.addfile(info, path.open("rb"))
        (size,) = [path.stat().st_size for path in OUT.glob(f"{kind}-{head}.tar.xz")]
    print(kind, head, size, [None if answer is None else answer.shape for answer in traced.answers], flush=True)
    kept = [answer.reshape(-1)[:: max(1, answer.size // 200)] for answer in traced.answers if answer is not None]
    return {"windows": [list(window) for window in windows], "targets": targets, "pipeline": pipeline}, kept


def main() -> None:
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / "answers.json"
    cases = json.loads(path.read_text("utf-8"))["cases"] if path.is_file() else {}
    numbers = dict(np.load(OUT / "answers.npz")) if (OUT / "answers.npz").is_file() else {}
    for number, kind in enumerate(CONFIGS):
        for place, head in enumerate(heads_of(kind)):
            if sys.argv[1:] and kind not in sys.argv[1:]:
                continue
            try:
                cases[f"{kind}-{head}"], answers = record(kind, head, 100 * number + place)
                numbers |= {f"{kind}-{head}-{index}": answer for index, answer in enumerate(answers)}
            except (RuntimeError, ValueError, EdgeNLPError) as error:  # one that fails does not cost the others
                print("FAILED", kind, head, type(error).__name__, error, flush=True)
            versions = {"transformers": transformers.__version__, "torch": torch.__version__}
            path.write_text(json.dumps({"versions": versions, "cases": cases}) + "\n", "utf-8")
            np.savez_compressed(OUT / "answers.npz", **numbers)


if __name__ == "__main__":
    main()
