"""Trace tiny random checkpoints with optimum as `edgenlp export` does, and hold the bundles beside PyTorch: parity, greedy, beams.

Run by hand where the extra `[trace]` is installed: python tests/check_traced.py [MODEL_TYPE ...]. Prints a line for each head, and
exits with 1 where a text that is written differs.
"""

import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import edgenlp_export
import torch
import transformers
from record_traced import CONFIGS, LINES, TASKS, heads_of, write_checkpoint

import edgenlp

WRITTEN: dict[str, dict[str, Any]] = {
    "greedy": {"num_beams": 1},
    "beams": {"num_beams": 4, "length_penalty": 2.0},
    "rules": {"num_beams": 1, "repetition_penalty": 1.3, "no_repeat_ngram_size": 2},
}


def check(kind: str, head: str, seed: int) -> bool:
    """Export one checkpoint; whether it writes what transformers writes."""
    with tempfile.TemporaryDirectory() as place:
        source, out = Path(place, "checkpoint"), Path(place, "bundle")
        write_checkpoint(source, kind, head, seed)
        figures = edgenlp_export.export(source, out, task=TASKS[head], precision="fp32").parity
        line = (
            f"{kind:12} {head:24} relative error {figures['relative_error']:.1e}, most {figures['max_difference']:.1e}"
        )
        equal = True
        if head in ("causal-lm", "seq2seq-lm"):
            theirs = transformers.pipeline(TASKS[head], model=str(source), device="cpu")
            ours = edgenlp.pipeline(TASKS[head], model=out)
            for name, options in WRITTEN.items():
                asked = {**options, "max_new_tokens": 12, "do_sample": False}  # the tiny models have windows of 64
                same = all(ours(text, **asked) == theirs(text, **asked) for text in LINES)
                line += f", {name} {'equal' if same else 'DIFFERENT'}"
                equal &= same
        print(line, flush=True)
        return equal


def main() -> None:
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    kinds = sys.argv[1:] or list(CONFIGS)
    results = [check(kind, head, number) for number, kind in enumerate(kinds) for head in heads_of(kind)]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
