"""Record what transformers computes and writes on the checkpoints of seq2seq_goldens.py: float32, one source at a time.

Run by hand: python tests/record_seq2seq.py [case ...], with transformers 4.57.6, and then with 4.53.3 for `OLD`, which is the last
release with groups of beams and contrastive search in its own tree. Needs torch. Each case gets the first seed whose texts have no
near tie, are no short loops, and come out alike in float64. Attention is eager.
"""

import json
import re
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from goldens import GOLDENS
from safetensors.torch import load_file
from seq2seq_goldens import (
    BEAMS,
    CALLS,
    GREEDY,
    MODELS,
    OLD,
    Call,
    Golden,
    kept,
    load_seq2seq,
    prefixes_of,
    sources_of,
    targets_of,
    write_case,
)
from torch import nn

_MARGIN = 1e-3  # least distance of the best two scores of a greedy text
_APART = 2e-5  # least distance of the scores of two beams
_VARIED = 8  # least number of different tokens in a greedy text
_SPREAD = (0.5, 8.0)  # standard deviation of logits
_FILE = GOLDENS / "seq2seq.json"
_IGNORED = re.compile(r"(final_logits_bias|embed_positions\.weight|pooler\.dense\.(weight|bias))$")
_TIED = ("embed_tokens.weight", "lm_head.weight")

Json = dict[str, Any]


def load(folder: Path, case: Json) -> nn.Module:
    """The model, with every tensor of the file in its place and none left over."""
    if case.get("ffn_widths") or case.get("stored_layers") or (case.get("pruned_heads") and "architecture" in case):
        return by_hand(folder, case)
    model, report = transformers.AutoModelForSeq2SeqLM.from_pretrained(
        folder, output_loading_info=True, attn_implementation="eager", dtype=torch.float32
    )
    missing = [key for key in report["missing_keys"] if not _IGNORED.search(key)]
    if missing or report["unexpected_keys"] or report["mismatched_keys"]:
        raise SystemExit(f"{case}: {report}")
    return ready(model)


def ready(model: nn.Module) -> nn.Module:
    """The model, whose generation takes the columns of logits and the layers of the decoder from keys that are the encoder's."""
    config = model.config
    if hasattr(config, "num_decoder_layers"):
        config.num_layers = config.num_decoder_layers
    if columns := getattr(config, "decoder_vocab_size", None):
        config.vocab_size = columns
    return model.eval()


def by_hand(folder: Path, case: Json) -> nn.Module:
    """A model that from_pretrained cannot make: layers of unequal width, some heads of BART, or layers that are missing."""
    config = transformers.AutoConfig.from_pretrained(folder)
    pruned, config.pruned_heads = config.pruned_heads, {}
    weights = load_file(folder / "model.safetensors")
    for side, numbers in (case.get("stored_layers") or {}).items():
        for place, number in enumerate(numbers):
            weights = {
                re.sub(rf"\b({side}\.(?:layers|block))\.{number}\.", rf"\1.{place}.", key): value
                for key, value in weights.items()
            }
        key = (
            f"{side}_layers"
            if hasattr(config, f"{side}_layers")
            else f"num_{side}_layers".replace("encoder_", "", side == "encoder")
        )
        setattr(config, key, len(numbers))
    model = transformers.AutoModelForSeq2SeqLM.from_config(config, attn_implementation="eager")
    for name, value in weights.items():
        path, _, last = name.rpartition(".")
        module = model.get_submodule(path) if path else model
        if last in module._buffers:
            module._buffers[last] = value
        else:
            setattr(module, last, nn.Parameter(value))
    for name, module in model.named_modules():
        if hasattr(module, "q_proj"):
            module.num_heads = len(module.q_proj.weight) // module.head_dim
        elif hasattr(module, "key_value_proj_dim"):
            module.inner_dim = len(module.q.weight)
            module.n_heads = module.inner_dim // module.key_value_proj_dim
            layer = int(re.findall(r"block\.(\d+)", name)[0])
            module.pruned_heads = set(pruned.get(layer, [])) if name.startswith("encoder") else set()
    missing = {name for name, _ in model.named_parameters()} - set(weights)
    if missing := {name for name in missing if not _IGNORED.search(name) and not name.endswith(_TIED)}:
        raise SystemExit(f"{case}: {missing}")
    model.tie_weights()
    return ready(model)


def numbers_of(model: nn.Module, name: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Hidden states of the encoder and logits of the decoder as `kept` keeps them, and how far logits spread."""
    hidden, logits = [], []
    with torch.no_grad():
        for source, target in zip(sources_of(name), targets_of(name, start_of(model)), strict=True):
            output = model(
                input_ids=torch.tensor([source]),
                attention_mask=torch.ones(1, len(source), dtype=torch.long),
                decoder_input_ids=torch.tensor([target]),
                use_cache=False,
            )
            states = output.encoder_last_hidden_state[0]
            bridge = getattr(model, "enc_to_dec_proj", None)
            hidden.append((states if bridge is None else bridge(states)).numpy())
            logits.append(output.logits[0].numpy())
    return kept(hidden), kept(logits), float(np.concatenate(logits).std())


def start_of(model: nn.Module) -> int:
    """The token before every target."""
    found = model.generation_config.decoder_start_token_id
    return int(model.config.decoder_start_token_id if found is None else found)


def ends_of(model: nn.Module, options: Json) -> set[int]:
    """Tokens that end a text."""
    found = options.get("eos_token_id", model.generation_config.eos_token_id)
    return set(found) if isinstance(found, list) else {found}


def write(model: nn.Module, name: str, options: Json, *, prefixed: bool = False) -> Json:
    """Per source, by itself: the new ids of each sequence; scores of beams; the least distance of two of them, or of two tokens."""
    options = {"do_sample": False, **options}
    starts = prefixes_of(name, start_of(model))
    ends = ends_of(model, options)
    texts: list[list[list[int]]] = []
    scores: list[list[float]] = []
    least = np.inf
    for source, prefix in zip(sources_of(name), starts, strict=True):
        feed = torch.tensor([source])
        before = prefix if prefixed else prefix[:1]
        output = model.generate(
            feed,
            attention_mask=torch.ones_like(feed),
            decoder_input_ids=torch.tensor([before]),
            output_scores=True,
            return_dict_in_generate=True,
            **options,
        )
        rows = [row[len(before) :].tolist() for row in output.sequences]
        texts.append([cut(row, ends) for row in rows])
        found = getattr(output, "sequences_scores", None)
        if found is not None:
            scores.append([round(float(value), 5) for value in found])
            least = min([least, *np.abs(np.diff(scores[-1])).tolist()])
        elif "penalty_alpha" not in options:
            best = torch.topk(torch.cat(output.scores), 2).values
            least = min(least, float((best[:, 0] - best[:, 1]).min()))
    return {"ids": texts, "scores": scores, "least": least}


def cut(ids: list[int], ends: set[int]) -> list[int]:
    """Up to and with the first end: what follows is padding."""
    for place, token in enumerate(ids):
        if token in ends:
            return ids[: place + 1]
    return ids


def twice(model: nn.Module, name: str, call: Call) -> Json:
    """As `write`; "least" is 0 where float64 does not write the same."""
    answer = write(model, name, call.options, prefixed=call.prefixed)
    if "num_beam_groups" in call.options:  # which compute in float32 only
        return answer
    again = write(model.double(), name, call.options, prefixed=call.prefixed)
    model.float()
    if again["ids"] != answer["ids"]:
        answer["least"] = 0.0
    return answer


def fits(name: str, answer: Json, call: Call) -> bool:
    """Whether nothing in it was a matter of luck."""
    return answer["least"] >= (_APART if call.options.get("num_beams", 1) > 1 else _MARGIN)


def calls_of(name: str) -> dict[str, Call]:
    return {key: call for key, call in CALLS.items() if call.case == name}


def record(name: str) -> tuple[int, Golden, dict[str, Json]]:
    """The seed that was found, and the answers."""
    reason = ""
    for seed in range(60):
        case = {**MODELS[name], "seed": seed}
        with tempfile.TemporaryDirectory() as place:
            model = load(write_case(Path(place), **case), case)
        greedy = write(model, name, GREEDY)
        texts = [text[0] for text in greedy["ids"]]
        varied = min(len(set(text)) for text in texts)
        others = len({tuple(text) for text in texts})
        reason += f" {seed}: {greedy['least']:.0e}, {varied} tokens, {others} texts;"
        if greedy["least"] < _MARGIN or varied < _VARIED or others < len(texts):
            continue
        beams = twice(model, name, call := Call(name, BEAMS))
        reason += f" beams {beams['least']:.0e};"
        if not fits(name, beams, call):
            continue
        answers = {}
        for key, call in calls_of(name).items():
            answers[key] = twice(model, name, call)
            if not fits(name, answers[key], call):
                reason += f" {key} {answers[key]['least']:.0e};"
                break
        else:
            hidden, logits, spread = numbers_of(model, name)
            print(f"{name:34} seed {seed:2} varied {varied:2} spread {spread:.2f}", reason, flush=True)
            if not _SPREAD[0] < spread < _SPREAD[1]:
                raise SystemExit(f"{name}: logits spread by {spread}")
            return seed, Golden(hidden, logits, texts, beams["ids"], beams["scores"]), answers
    raise SystemExit(f"{name}: no good seed:{reason}")


def record_old() -> dict[str, Json]:
    """The answers of transformers 4.53.3, with the seeds that the newer one found."""
    seeds = {name: row["seed"] for name, row in json.loads(_FILE.read_text("utf-8"))["cases"].items()}
    answers = {}
    for key, call in OLD.items():
        case = {**MODELS[call.case], "seed": seeds[call.case]}
        with tempfile.TemporaryDirectory() as place:
            folder = write_case(Path(place), **case)
            model = ready(
                transformers.AutoModelForSeq2SeqLM.from_pretrained(
                    folder, attn_implementation="eager", torch_dtype=torch.float32
                )
            )
        answers[key] = twice(model, call.case, call)
        print(f"{key:34} {answers[key]['least']:.0e} {answers[key]['ids'][3]}", flush=True)
        if "num_beam_groups" not in call.options and not answers[key]["least"]:
            raise SystemExit(f"{key}: float64 writes something else")
    return answers


def save(recorded: Json) -> None:
    """JSON with one case to a line."""
    parts = [
        f"{json.dumps(part)}: {{\n"
        + ",\n".join(f"{json.dumps(key)}: {_compact(row)}" for key, row in rows.items())
        + "\n}"
        for part, rows in recorded.items()
    ]
    _FILE.write_text("{\n" + ",\n".join(parts) + "\n}\n", "utf-8")


def _compact(row: Any) -> str:
    if isinstance(row, dict):
        row = {key: value for key, value in row.items() if key != "least" and not (key == "scores" and not value)}
    return json.dumps(row, separators=(",", ":"))


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    recorded = json.loads(_FILE.read_text("utf-8")) if _FILE.exists() else {}
    recorded = {part: recorded.get(part, {}) for part in ("versions", "cases", "calls", "old")}
    versions = f"transformers {transformers.__version__}, torch {torch.__version__}"
    if transformers.__version__.startswith("4.53"):
        recorded["versions"]["old"] = versions
        recorded["old"] = record_old()
        save(recorded)
        return
    recorded["versions"]["cases"] = versions
    chosen = sys.argv[1:]
    old = load_seq2seq() if chosen and recorded["cases"] else {}
    found = {name: (recorded["cases"][name]["seed"], golden) for name, golden in old.items() if name in MODELS}
    calls = {key: row for key, row in recorded["calls"].items() if key in CALLS}
    for name in chosen or MODELS:
        seed, golden, answers = record(name)
        found[name] = (seed, golden)
        calls |= answers
        _save_cases(recorded, found, calls)


def _save_cases(recorded: Json, found: dict[str, tuple[int, Golden]], calls: dict[str, Json]) -> None:
    rows, arrays = {}, {}
    for number, name in enumerate(sorted(found, key=list(MODELS).index)):
        seed, golden = found[name]
        rows[name] = {
            "key": f"{number:03}",
            "seed": seed,
            "greedy": golden.greedy,
            "beams": golden.beams,
            "scores": golden.scores,
        }
        arrays[f"{number:03} hidden"] = golden.hidden
        arrays[f"{number:03} logits"] = golden.logits
    np.savez_compressed(GOLDENS / "seq2seq.npz", **arrays)
    recorded["cases"] = rows
    recorded["calls"] = {key: calls[key] for key in CALLS if key in calls}
    save(recorded)


if __name__ == "__main__":
    main()
