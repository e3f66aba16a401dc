"""Fine-tuning an encoder to sort texts, and what it then says of others. Knows tokens and labels, no data set.

A classifier is BERT's: the first token's state, a dense layer with tanh, and the labels' scores.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from saving import save
from training import Plan, fit
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Classifier", "agreement", "new_classifier"]

Text = str | tuple[str, str]


class Classifier:
    """A model and its tokenizer.

    Args:
        model: With a sequence classification head.
        tokenizer: Its own.
        longest: Tokens at which a text is cut.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, longest: int) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.longest = longest

    def ids(self, texts: Sequence[Text]) -> list[dict[str, list[int]]]:
        """What the model reads of each text or pair."""
        first = [text if isinstance(text, str) else text[0] for text in texts]
        second = None if isinstance(texts[0], str) else [text[1] for text in texts]
        found = self.tokenizer(first, second, truncation=True, max_length=self.longest)
        return [
            {"input_ids": ids, "token_type_ids": types}
            for ids, types in zip(found["input_ids"], found["token_type_ids"], strict=True)
        ]

    def logits(self, rows: Sequence[Mapping[str, list[int]]]) -> torch.Tensor:
        """Scores [texts, labels]."""
        return self.model(**self.tokenizer.pad(list(rows), return_tensors="pt")).logits

    def tune(
        self,
        texts: Sequence[Text],
        targets: np.ndarray,
        plan: Plan,
        *,
        run: Path,
        seed: int,
        smoothing: float = 0.0,
        temperature: float = 1.0,
    ) -> None:
        """Train on texts and their labels [texts], or on a teacher's scores [texts, labels] (Hinton et al., 2015)."""
        rows = self.ids(texts)

        def loss(members: list[int]) -> torch.Tensor:
            found = self.logits([rows[number] for number in members])
            wanted = torch.from_numpy(targets[members])
            if targets.ndim == 1:
                return torch.nn.functional.cross_entropy(found, wanted, label_smoothing=smoothing)
            told = torch.log_softmax(found / temperature, dim=-1)
            teacher = torch.softmax(wanted / temperature, dim=-1)
            return torch.nn.functional.kl_div(told, teacher, reduction="batchmean") * temperature**2

        fit(self.model, loss, [len(row["input_ids"]) for row in rows], plan, run=run, seed=seed)

    @torch.inference_mode()
    def scores(self, texts: Sequence[Text], size: int = 64) -> np.ndarray:
        """Scores [texts, labels]."""
        self.model.eval()
        rows = self.ids(texts)
        order = sorted(range(len(rows)), key=lambda number: len(rows[number]["input_ids"]))
        found = np.empty((len(rows), self.model.config.num_labels), np.float32)
        for begin in range(0, len(order), size):
            members = order[begin : begin + size]
            found[members] = self.logits([rows[number] for number in members]).numpy()
        return found

    def save(self, folder: Path, **said: Any) -> None:
        """Write the checkpoint; see `saving.save`."""
        save(self.model, self.tokenizer, folder, **said)


def new_classifier(source: Path, labels: Sequence[str], *, longest: int) -> Classifier:
    """The encoder in `source` with a new head."""
    names = dict(enumerate(labels))
    model = AutoModelForSequenceClassification.from_pretrained(
        source,
        num_labels=len(labels),
        id2label=names,
        label2id={label: number for number, label in names.items()},
    )
    return Classifier(model, AutoTokenizer.from_pretrained(source), longest=longest)


def agreement(scores: np.ndarray, labels: Sequence[int]) -> float:
    """Share of texts, in percent, whose highest score is their label's."""
    return 100 * float((scores.argmax(axis=1) == np.asarray(labels)).mean())
