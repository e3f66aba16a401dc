"""Record what the processors and StopStringCriteria of transformers 4.57.6 make of processor_cases.py, row by row.

Run by hand: python tests/record_processors.py. Needs torch and transformers.
"""

import copy
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import transformers
from processor_cases import CALLS, CASES, DIVERSITY, STOPS, Case, Stop, save
from transformers import GenerationConfig
from transformers.generation import GenerationMixin
from transformers.generation.logits_process import HammingDiversityLogitsProcessor, LogitsProcessor
from transformers.generation.stopping_criteria import StopStringCriteria


class Bare(GenerationMixin):
    """As much of a model as the processors ask for: the scores without the prompt."""

    def __init__(self, scores: np.ndarray) -> None:
        self.config = SimpleNamespace(is_encoder_decoder=False)
        self._scores = torch.from_numpy(scores)

    def __call__(self, ids: torch.Tensor, **options: Any) -> Any:
        class Output(dict):
            logits = self._scores[:, None]

        return Output()


class Call(LogitsProcessor):
    def __init__(self, call: Any) -> None:
        self._call = call

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return self._call(input_ids, scores)


def configured(case: Case, model: Bare, prompt: int) -> GenerationConfig:
    """The config as `generate` has it once lengths and end tokens are prepared."""
    given = copy.deepcopy(case.given)
    if "sequence_bias" in given:
        given["sequence_bias"] = {tuple(ids): bias for ids, bias in given["sequence_bias"]}
    config = GenerationConfig(**given)
    ends = given.get("eos_token_id")
    config._eos_token_tensor = None if ends is None else torch.tensor([ends] if isinstance(ends, int) else ends)
    lengths = {"has_default_max_length": "max_length" not in given, "has_default_min_length": "min_length" not in given}
    return model._prepare_generated_length(
        config, **lengths, model_input_name="input_ids", input_ids_length=prompt, inputs_tensor=torch.zeros(1, prompt)
    )


def answer(name: str, case: Case) -> np.ndarray:
    ids, sources, scores, without = case.inputs(name)
    rows = []
    for number, (prompt, _) in enumerate(case.rows):
        model = Bare(without[number : number + 1])
        read = torch.from_numpy(ids[number])[None]
        source = torch.from_numpy(sources[number])[None] if case.sources else read[:, :prompt]
        allowed, user = case.calls.get("prefix_allowed_tokens_fn"), case.calls.get("logits_processor")
        chain = model._get_logits_processor(
            configured(case, model, prompt),
            input_ids_seq_length=prompt,
            encoder_input_ids=source,
            # the row is alone here: its number in the call is put in
            prefix_allowed_tokens_fn=None
            if allowed is None
            else lambda _, row, n=number, f=CALLS[allowed or "one"]: f(n, row),
            logits_processor=None if user is None else [Call(CALLS[user])],
            device="cpu",
        )
        rows.append(chain(read, torch.from_numpy(scores[number : number + 1].copy())).numpy())
    return np.concatenate(rows)


def diverse(number: int) -> tuple[np.ndarray, np.ndarray]:
    penalty, earlier = DIVERSITY[number]
    scores = np.random.RandomState(number).normal(0, 3, (4, 97)).astype(np.float32)
    group = len(earlier[0]) // 2
    processor = HammingDiversityLogitsProcessor(penalty, num_beams=6, num_beam_groups=3)
    tokens = torch.tensor([[*chosen, *[0] * (6 - len(chosen))] for chosen in earlier]).ravel()
    return scores, processor(None, torch.from_numpy(scores.copy()), current_tokens=tokens, beam_group_idx=group).numpy()


class Tokenizer:
    """As much of a tokenizer as StopStringCriteria asks for."""

    def __init__(self, stop: Stop) -> None:
        self._texts = (*stop.vocabulary, "abcdef")

    def get_vocab(self) -> dict[str, int]:
        return {text: number for number, text in enumerate(self._texts[:-1])}

    def __call__(self, text: str, add_special_tokens: bool = False) -> dict[str, list[int]]:
        return {"input_ids": [self._texts.index(text)]}

    def _convert_id_to_token(self, number: int) -> str:
        return self._texts[number]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return "".join(tokens)


def stopped(stop: Stop) -> str:
    criterion = StopStringCriteria(Tokenizer(stop), list(stop.strings))
    return "".join(str(int(criterion(torch.tensor([row]), None)[0])) for row in stop.rows)


def main() -> None:
    torch.set_num_threads(1)
    inputs = {name: case.inputs(name)[2] for name, case in CASES.items()}
    answers = {name: answer(name, case) for name, case in CASES.items()}
    for number in range(len(DIVERSITY)):
        inputs[f"diversity {number}"], answers[f"diversity {number}"] = diverse(number)
    save(answers, inputs, stops=[stopped(stop) for stop in STOPS], version=transformers.__version__)


if __name__ == "__main__":
    main()
