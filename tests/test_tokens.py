"""Windows, truncation and decoding, against the tokenizer's own."""

from dataclasses import replace
from pathlib import Path

import edgenlp_export
import pytest
from checkpoints import write_checkpoint
from tokenizers import Tokenizer

from edgenlp import InputError
from edgenlp.bundle import open_bundle
from edgenlp.tokens import Tokens, as_text

LONG = "All human beings are born free and equal in dignity and rights. " * 6
SHORT = "Everyone has the right to life."


@pytest.fixture(scope="module", params=["bert", "roberta", "xlm-roberta"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokens, Tokenizer]:
    place = tmp_path_factory.mktemp("tokens")
    write_checkpoint(place / "checkpoint", request.param, "encoder", seed=2)
    edgenlp_export.export(place / "checkpoint", place / "bundle")
    bundle = open_bundle(place / "bundle")
    file = bundle.path(bundle.tokenizer.file)
    return Tokens(file, bundle.tokenizer), Tokenizer.from_file(str(file))


@pytest.mark.parametrize("strategy", ["longest_first", "only_first", "only_second"])
@pytest.mark.parametrize("pair", [(LONG, SHORT), (SHORT, LONG), (LONG, LONG), (SHORT, SHORT)])
def test_pairs_are_cut_as_the_tokenizer_cuts_them(
    strategy: str, pair: tuple[str, str], both: tuple[Tokens, Tokenizer]
) -> None:
    tokens, reference = both
    reference.enable_truncation(48, strategy=strategy)
    try:
        expected = reference.encode(*pair)
    except Exception:  # noqa: BLE001  # what must stay whole is too long
        with pytest.raises(InputError, match="no room"):
            tokens.encode([pair], max_length=48, truncation=strategy)
        return
    found = tokens.encode([pair], max_length=48, truncation=strategy)[0][0]
    assert found.ids == expected.ids
    assert found.offsets == expected.offsets
    assert found.type_ids == expected.type_ids
    assert found.sequence_ids == expected.sequence_ids


def test_windows_are_the_tokenizers_own(both: tuple[Tokens, Tokenizer]) -> None:
    tokens, reference = both
    reference.enable_truncation(24, stride=5)
    expected = reference.encode(LONG)
    found = tokens.encode([LONG], max_length=24, stride=5, truncation="longest_first")[0]
    assert [item.ids for item in found] == [expected.ids, *(item.ids for item in expected.overflowing)]
    assert [item.offsets for item in found] == [expected.offsets, *(item.offsets for item in expected.overflowing)]


def test_every_window_of_a_pair_marks_its_second_text(both: tuple[Tokens, Tokenizer]) -> None:
    tokens, _ = both
    windows = tokens.encode([(SHORT, LONG)], max_length=48, stride=5, truncation="only_second")[0]
    assert len(windows) > 2
    for window in windows:
        kinds = [kind for kind, sequence in zip(window.type_ids, window.sequence_ids, strict=True) if sequence == 1]
        assert set(kinds) == {1 if tokens.facts.type_ids else kinds[0]}


def test_many_texts_are_encoded_as_each_alone(both: tuple[Tokens, Tokenizer]) -> None:
    tokens, _ = both
    texts = [LONG, "", (SHORT, LONG), ["All", "human", "beings"], SHORT]
    together = [windows[0].ids for windows in tokens.encode(texts)]
    assert together == [tokens.encode([text])[0][0].ids for text in texts]


def test_special_tokens_are_left_out_of_text(both: tuple[Tokens, Tokenizer]) -> None:
    tokens, _ = both
    ids = tokens.encode([SHORT])[0][0].ids
    text = tokens.decode(ids, skip_special_tokens=True)
    assert text.lower().replace(" ", "") == SHORT.lower().replace(" ", "")
    assert len(tokens.decode(ids)) > len(text)
    assert tokens.special_count() == 2


@pytest.mark.parametrize("value", ["\ud800", "a\udfffb"])
def test_half_a_character_is_named(value: str) -> None:
    with pytest.raises(InputError, match=r"half of a surrogate pair \(U\+D"):
        as_text(value)


def test_pieces_that_the_model_was_never_given_are_unknown_to_it(
    both: tuple[Tokens, Tokenizer], tmp_path: Path
) -> None:
    tokens, reference = both
    encoding = tokens.encode([SHORT])[0][0]
    assert tokens.ids(encoding) == encoding.ids
    reference.save(str(tmp_path / "tokenizer.json"))
    few = Tokens(tmp_path / "tokenizer.json", replace(tokens.facts, size=max(encoding.ids)))
    unknown = few.special_id("unk")
    assert unknown is not None
    assert few.ids(encoding) == [unknown if token == max(encoding.ids) else token for token in encoding.ids]
    assert few.ids(encoding) != encoding.ids
