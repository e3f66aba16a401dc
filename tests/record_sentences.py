"""Record what `encode` of sentence-transformers 5.1.2 answers to the calls of sentence_cases.py.

Run by hand: python tests/record_sentences.py. Needs torch, transformers and sentence-transformers.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import sentence_transformers
import torch
import transformers
from goldens import GOLDENS
from sentence_cases import CALLS, SENTENCES, write_sentence_folder

_DIGITS = 7
_SMALLEST = 1e-4  # components nearer to zero than this would make a bit of a binary vector a matter of rounding


def answer(model: Any, options: dict[str, Any]) -> list[list[float]]:
    """One vector per sentence; the batch must not change them."""
    together = model.encode(SENTENCES, **options)
    alone = np.stack([model.encode(text, **options) for text in SENTENCES])
    if np.abs(together.astype(np.float64) - alone).max() > 1e-5:
        raise SystemExit(f"the batch changes the vectors: {options}")
    if "precision" in options and np.abs(model.encode(SENTENCES)).min() < _SMALLEST:
        raise SystemExit(f"a component is too near to zero: {options}")
    if together.dtype.kind in "iu":
        return [[int(value) for value in row] for row in together]
    return [[float(f"{value:.{_DIGITS}g}") for value in row.tolist()] for row in together]


def main() -> None:
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    cases = []
    for name, calls in CALLS.items():
        with tempfile.TemporaryDirectory() as place:
            folder = write_sentence_folder(Path(place), name)
            options = {"attn_implementation": "eager"}
            model = sentence_transformers.SentenceTransformer(str(folder), device="cpu", model_kwargs=options)
            print(name, model.max_seq_length, model.similarity_fn_name)
            cases += [{"folder": name, "kwargs": call, "result": answer(model, call)} for call in calls]
    versions = {"sentence-transformers": sentence_transformers.__version__, "transformers": transformers.__version__}
    versions["torch"] = torch.__version__
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (GOLDENS / "sentences.json").write_text(f'{{"versions":{json.dumps(versions)},"cases":[\n{lines}\n]}}\n', "utf-8")


if __name__ == "__main__":
    main()
