"""What a tokenizer answers to a text, in one form for transformers' tokenizers and for a bare `tokenizer.json`."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer

DIGEST = 6  # characters of a fingerprint
Text = str | tuple[str, str]


def answers(tokenizer: Tokenizer, texts: Sequence[Text]) -> list[dict[str, Any]]:
    """Ids, type ids and offsets of each text, straight from the tokenizers library."""
    results = []
    for text in texts:
        encoding = tokenizer.encode(*text) if isinstance(text, tuple) else tokenizer.encode(text)
        offsets = [list(offset) for offset in encoding.offsets]
        results.append({"ids": encoding.ids, "type_ids": encoding.type_ids, "offsets": offsets})
    return results


def expected_answers(tokenizer: Any, texts: Sequence[Text]) -> list[dict[str, Any]]:
    """The same from a tokenizer of transformers; a slow one has no offsets and no type ids."""
    results = []
    for text in texts:
        pair = text if isinstance(text, tuple) else (text,)
        if not tokenizer.is_fast:
            results.append({"ids": tokenizer(*pair)["input_ids"]})
            continue
        encoded = tokenizer(*pair, return_token_type_ids=True, return_offsets_mapping=True)
        offsets = [list(offset) for offset in encoded["offset_mapping"]]
        results.append({"ids": encoded["input_ids"], "type_ids": encoded["token_type_ids"], "offsets": offsets})
    return results


def digest(answer: dict[str, Any]) -> str:
    """A short fingerprint of one answer."""
    return hashlib.sha256(json.dumps(answer, sort_keys=True).encode()).hexdigest()[:DIGEST]


def expected_facts(tokenizer: Any) -> dict[str, Any]:
    """What `Vocabulary` should say, by a tokenizer of transformers."""
    roles = ("pad", "unk", "cls", "sep", "mask", "bos", "eos")
    named = {role: getattr(tokenizer, f"{role}_token") for role in roles}
    return {
        "max_length": tokenizer.model_max_length if tokenizer.model_max_length < 10**20 else None,
        "special": {r: [t, tokenizer.convert_tokens_to_ids(t)] for r, t in named.items() if t is not None},
        "type_ids": "token_type_ids" in tokenizer.model_input_names,
        "truncation_side": tokenizer.truncation_side,
        "clean_up": tokenizer.clean_up_tokenization_spaces,
        "size": len(tokenizer),
    }


def target_answers(tokenizer: Any, texts: Sequence[Text]) -> list[str]:
    """Fingerprints of the ids that a tokenizer of transformers gives each single text that is to be written."""
    if "tgt_lang" in vars(tokenizer) and tokenizer.tgt_lang is None:
        tokenizer.tgt_lang = tokenizer.src_lang  # some classes fail without one, though no special token is asked for
    singles = [text for text in texts if isinstance(text, str)]
    return [digest({"ids": tokenizer(text_target=text, add_special_tokens=False)["input_ids"]}) for text in singles]


def invented(size: int) -> list[list[int]]:
    """Sequences of 1 to 13 ids below `size`, the same ones each time, such as no text becomes."""
    state, rows = 12345, []
    for number in range(60):
        row = []
        for _ in range(1 + number % 13):
            state = (state * 1103515245 + 12345) % (1 << 31)
            row.append((state >> 8) % size)
        rows.append(row)
    return rows
