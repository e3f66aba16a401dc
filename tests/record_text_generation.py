"""Record what the text-generation pipeline of transformers 4.57.6 answers to the calls of text_generation_cases.py, or how it fails.

Run by hand: python tests/record_text_generation.py. Needs torch and transformers.
"""

import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
from text_generation_cases import ANSWERS, CALLS, CHAT, MODELS, WINDOW_OF_TOKENIZER, build_tokenizer
from toy_model import CONFIG, weights

Json = dict[str, Any]


def plain(value: Any) -> Any:
    """`value` as JSON, floats to six digits."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def write(folder: Path, begins: bool, generation: Json, config: Json) -> None:
    """A checkpoint of the toy model."""
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**CONFIG, **config))
    state = {name: torch.from_numpy(value) for name, value in weights().items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert not [name for name in missing if not name.endswith((".bias", ".masked_bias"))], missing
    own = {"bos_token_id": 0, "eos_token_id": CONFIG["eos_token_id"], "pad_token_id": CONFIG["pad_token_id"]}
    model.generation_config = transformers.GenerationConfig(**own, **generation)
    model.save_pretrained(folder)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=build_tokenizer(begins=begins),
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        model_max_length=WINDOW_OF_TOKENIZER,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)


def answer(folder: Path, call: Json) -> Json:
    """{"result"} or {"error"}."""
    copied = json.loads(json.dumps(call))
    try:
        options = {"attn_implementation": "eager"}
        pipe = transformers.pipeline(
            "text-generation", model=str(folder), device="cpu", model_kwargs=options, **copied["init"]
        )
        return {"result": plain(pipe(copied["inputs"], **copied["options"]))}
    except KeyboardInterrupt:
        raise
    except Exception as error:  # noqa: BLE001  # whatever it raises is the answer
        return {"error": f"{type(error).__name__}: {str(error)[:160]}"}


def main() -> None:
    """Record every call."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    found = []
    with tempfile.TemporaryDirectory() as place:
        for name, model in MODELS.items():
            write(Path(place, name), *model)
        for number, call in enumerate(CALLS):
            found.append(answer(Path(place, call["model"]), call))
            print(number, json.dumps(found[-1], ensure_ascii=False)[:200])
    lines = ",\n".join(json.dumps(item, ensure_ascii=False) for item in found)
    ANSWERS.write_text(
        f'{{"transformers": "{transformers.__version__}", "answers": [\n{lines}\n]}}\n', encoding="utf-8"
    )


if __name__ == "__main__":
    main()
