"""Record what transformers 4.57.6 computes on the checkpoints of decoder_goldens.py: float32, one text at a time.

Run by hand: python tests/record_decoders.py [case ...]. Needs torch and transformers. Each case gets the first seed whose
greedy text has no near tie and is no short loop. Attention is eager but for Falcon with ALiBi.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from decoder_checkpoints import DECODERS, buffers_of, write_decoder
from decoder_goldens import MODELS, NEW, Golden, grows_with_the_text, kept, load_decoders, prompts_of, texts_of
from goldens import GOLDENS
from safetensors.torch import load_file
from torch import nn

_MARGIN = 1e-3  # least distance of the best two logits
_VARIED = 8  # least number of different tokens in a greedy text
_SPREAD = (0.5, 6.0)  # standard deviation of logits


def load(folder: Path, case: dict[str, Any]) -> nn.Module:
    """The model, with every tensor of the file in its place and none left over."""
    if case.get("ffn_widths") or case.get("stored_layers") == [0, 2]:
        return by_hand(folder, case)
    # The eager path of Falcon adds ALiBi twice: once in _update_causal_mask, once in FalconAttention.
    twice = case["architecture"] == "falcon" and case.get("config", {}).get("alibi", False)
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True, attn_implementation="sdpa" if twice else "eager", dtype=torch.float32
    )
    ignored = buffers_of(case["architecture"], range(3), case.get("prefix", True)) if case.get("buffers") else {}
    path = DECODERS[case["architecture"]].layers.format(2)
    extra = [
        key
        for key in report["unexpected_keys"]
        if key not in ignored and not (case.get("stored_layers") and path in key)
    ]
    if report["missing_keys"] or extra or report["mismatched_keys"]:
        raise SystemExit(f"{case}: {report}")
    return model.eval()


def by_hand(folder: Path, case: dict[str, Any]) -> nn.Module:
    """A model that from_pretrained cannot make: layers of unequal width, or the layers 0 and 2 only."""
    config = transformers.AutoConfig.from_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    if case.get("stored_layers"):
        config.num_hidden_layers = 2
        kind = DECODERS[case["architecture"]]
        weights = {key.replace(kind.layers.format(2), kind.layers.format(1)): value for key, value in weights.items()}
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    for name, value in weights.items():
        path, _, last = name.rpartition(".")
        setattr(model.get_submodule(path), last, nn.Parameter(value))
    for module in model.modules():
        if isinstance(module, transformers.pytorch_utils.Conv1D):
            module.nf = module.weight.shape[1]
    missing = {name for name, _ in model.named_parameters()} - set(weights)
    if missing - {"lm_head.weight"}:
        raise SystemExit(f"{case}: {missing}")
    model.tie_weights()
    return model.eval()


def logits_of(model: nn.Module, ids: list[int], *, stepwise: bool) -> np.ndarray:
    """Logits after each id, float32 [ids, columns]."""
    with torch.no_grad():
        if not stepwise:
            return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].numpy()
        cache, rows = transformers.DynamicCache(config=model.config), []
        for number in ids:
            output = model(input_ids=torch.tensor([[number]]), past_key_values=cache, use_cache=True)
            rows.append(output.logits[0])
        return torch.cat(rows).numpy()


def greedy(model: nn.Module, ids: list[int], *, stepwise: bool) -> tuple[np.ndarray, float]:
    """The new tokens, and the least distance of the best two logits."""
    options: dict[str, Any] = {"do_sample": False, "pad_token_id": 0, "max_new_tokens": NEW}
    if stepwise:  # the prompt too is read token by token, which generate() does not do
        text = list(ids)
        cache = transformers.DynamicCache(config=model.config)
        margin = np.inf
        with torch.no_grad():
            for place in range(len(ids) + NEW - 1):
                output = model(input_ids=torch.tensor([[text[place]]]), past_key_values=cache, use_cache=True)
                if place >= len(ids) - 1:
                    best = torch.topk(output.logits[0, -1], 2)
                    margin = min(margin, float(best.values[0] - best.values[1]))
                    text.append(int(best.indices[0]))
        return np.array(text[len(ids) :]), margin
    model.generation_config.eos_token_id = None
    feed = torch.tensor([ids])
    output = model.generate(
        feed,
        attention_mask=torch.ones_like(feed),
        output_logits=True,
        return_dict_in_generate=True,
        **options,
    )
    best = torch.topk(torch.cat(output.logits), 2).values
    return output.sequences[0, len(ids) :].numpy(), float((best[:, 0] - best[:, 1]).min())


def record(name: str) -> tuple[int, Golden]:
    """The seed that was found, and the answers."""
    stepwise = grows_with_the_text(name)
    reason = ""
    for seed in range(40):
        case = {**MODELS[name], "seed": seed}
        with tempfile.TemporaryDirectory() as place:
            model = load(write_decoder(Path(place), **case), case)
        texts = [greedy(model, prompt, stepwise=stepwise) for prompt in prompts_of(name)]
        margin = min(least for _, least in texts)
        varied = min(len(set(tokens.tolist())) for tokens, _ in texts)
        if margin < _MARGIN or varied < _VARIED:
            reason += f" {seed}: margin {margin:.0e}, {varied} tokens;"
            continue
        logits = [logits_of(model, ids, stepwise=stepwise) for ids in texts_of(name)]
        spread = float(np.concatenate(logits).std())
        if not _SPREAD[0] < spread < _SPREAD[1]:
            raise SystemExit(f"{name}: logits spread by {spread}")
        print(f"{name:34} seed {seed:2} margin {margin:.4f} varied {varied:2} spread {spread:.2f}", reason, flush=True)
        return seed, Golden(kept(logits), np.stack([tokens for tokens, _ in texts]))
    raise SystemExit(f"{name}: no good seed:{reason}")


def main() -> None:
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    chosen = sys.argv[1:]
    path = GOLDENS / "decoders.json"
    old = load_decoders() if chosen else {}
    seeds = {name: row["seed"] for name, row in json.loads(path.read_text("utf-8"))["cases"].items()} if chosen else {}
    found = {name: (seeds[name], golden) for name, golden in old.items() if name in MODELS}
    for name in chosen or MODELS:
        found[name] = record(name)
    rows, arrays = {}, {}
    for number, name in enumerate(sorted(found, key=list(MODELS).index)):
        seed, golden = found[name]
        rows[name] = {"key": f"{number:03}", "seed": seed}
        arrays[f"{number:03} logits"] = golden.logits
        arrays[f"{number:03} tokens"] = golden.tokens.astype(np.int16)
    np.savez_compressed(GOLDENS / "decoders.npz", **arrays)
    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    path.write_text(json.dumps({"versions": versions, "cases": rows}, indent=0) + "\n", "utf-8")


if __name__ == "__main__":
    main()
