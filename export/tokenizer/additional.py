"""The additional special tokens of the classes that have some of their own. Knows no vocabulary file.

What each class adds to the list of the settings, or puts in its place, is what its constructor in transformers 4.57 does.
"""

from collections.abc import Callable

from .codes import NLLB
from .files import Settings
from .tokens import Special, content

__all__ = ["extra_ids", "languages", "nllb_languages", "not_used", "unknowns"]


def extra_ids(settings: Settings) -> list[Special]:
    """T5's <extra_id_0> ..., unless the settings list them themselves.

    Raises:
        CheckpointError: They list another number of them than `extra_ids`.
    """
    listed = settings.specials("additional_special_tokens")
    count = settings.count("extra_ids", 100)
    extra: list[Special] = [f"<extra_id_{index}>" for index in range(count)]
    if listed is None:
        return extra
    given = sum("<extra_id_" in content(token) for token in listed)
    if given and count and given != count:
        raise settings.error("extra_ids", count, f"{given}, which is how many additional_special_tokens lists")
    return listed if given else listed + extra


def not_used(settings: Settings) -> list[Special]:
    """CamemBERT's tokens of fairseq that no text becomes."""
    if "additional_special_tokens" in settings.values:
        return settings.specials("additional_special_tokens") or []
    return ["<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"]


def languages(codes: tuple[str, ...], *, first: bool) -> Callable[[Settings], list[Special]]:
    """The language codes, before or behind the additional tokens of the settings."""

    def additional(settings: Settings) -> list[Special]:
        listed = settings.specials("additional_special_tokens") or []
        if first:
            return [*codes, *(token for token in listed if token not in codes)]
        return [*listed, *(code for code in codes if code not in listed)]

    return additional


def nllb_languages(settings: Settings) -> list[Special]:
    """NLLB's languages, unless the settings list them themselves."""
    listed = settings.specials("additional_special_tokens")
    return list(NLLB) if listed is None else listed


def unknowns(settings: Settings) -> list[Special]:
    """PEGASUS' <mask_1> and <unk_2> ..., or those of the settings filled up with them.

    Raises:
        CheckpointError: A token comes twice.
    """
    listed, offset = settings.specials("additional_special_tokens"), settings.count("offset", 103)
    sentence = settings.special("mask_token_sent", "<mask_1>")
    first = [] if sentence is None else [sentence]
    if listed is None:
        return [*first, *(f"<unk_{index}>" for index in range(2, offset))]
    tokens = [*(token for token in first if token not in listed), *listed]
    tokens += [f"<unk_{index}>" for index in range(len(tokens), offset - 1)]
    if len(set(tokens)) < len(tokens):
        raise settings.error(
            "additional_special_tokens", listed, "a list that can be filled up with <unk_2>, <unk_3> ..."
        )
    return tokens
