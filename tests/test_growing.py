"""Traced decoders, whose keys and values grow: against known answers, against themselves, and against bundles that lie."""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from test_generate import _CASES, PROMPTS, WAYS, ids_of, options_of, text_of
from text_generation_cases import CHAT, SPECIAL, build_tokenizer
from toy_growing import MULTIPLE, TARGETS, decoder_graph, reading_graph, writing_graph, written
from toy_model import COLUMNS, EOS, WINDOW, ToyDecoder, forward, weights

import edgenlp
from edgenlp.bundle import Bundle, Crossing, File, Growing, Grows, Head, Source, Vocabulary, open_bundle, write_manifest
from edgenlp.decode.generate import generate, stream
from edgenlp.errors import BundleError, InputError, TooLongError
from edgenlp.growing import GrowingDecoder, GrowingRows
from edgenlp.growing_seq2seq import GrowingEncoderDecoder
from edgenlp.model import open_model
from edgenlp.session import Session

EXACT = 1e-4
LAYOUTS = {"heads before time": (0, 1, 2, 3), "time before heads": (0, 2, 1, 3), "time last": (1, 0, 3, 2)}
_CACHES = [f"{layer}.{part}" for layer in (0, 1) for part in ("key", "value")]
_MADE: dict[Any, Session] = {}


def session(maker: Any, **options: Any) -> Session:
    """A graph, loaded once for all tests."""
    key = (maker, *options.items())
    if key not in _MADE:
        _MADE[key] = Session(maker(**options), threads=1)
    return _MADE[key]


def facts(axes: tuple[int, ...] = (0, 1, 2, 3), positions: str = "given", **others: Any) -> Growing:
    names = (Grows(f"past_key_values.{name}", f"present.{name}", axes.index(0), axes.index(2)) for name in _CACHES)
    masked = positions in ("given", "mask")
    return Growing(
        caches=tuple(names),
        hidden="last_hidden_state",
        mask="attention_mask" if masked else None,
        positions="position_ids" if positions == "given" else None,
        cache_positions="cache_position" if positions == "column" else None,
        **{"ragged": masked, **others},
    )


def decoder(
    axes: tuple[int, ...] = (0, 1, 2, 3), positions: str = "given", *, tokens: int = 2048, **others: Any
) -> GrowingDecoder:
    graph = session(decoder_graph, axes=axes, positions=positions)
    return GrowingDecoder(graph, facts(axes, positions, **others), window=WINDOW, tokens=tokens)


def seq2seq(*, tokens: int = 2048, lengths: bool = False, **others: Any) -> GrowingEncoderDecoder:
    caches = tuple(
        Grows(f"past_key_values.{layer}.decoder.{part}", f"present.{layer}.decoder.{part}")
        for layer in (0, 1)
        for part in ("key", "value")
    )
    crossings = tuple(
        Crossing(f"present.{layer}.encoder.{part}", f"past_key_values.{layer}.encoder.{part}")
        for layer in (0, 1)
        for part in ("key", "value")
    )
    said = Growing(
        caches, crossings=crossings, source_mask="encoder_attention_mask", source_multiple=MULTIPLE, **others
    )
    both = session(reading_graph, lengths=lengths), session(writing_graph)
    return GrowingEncoderDecoder(*both, said, window=40, target_window=TARGETS, tokens=tokens)


def logits_of(ids: Sequence[int]) -> NDArray[np.float32]:
    return forward(weights(), ids)[0]


def random_rows(*lengths: int) -> list[list[int]]:
    random = np.random.RandomState(sum(lengths))
    return [random.randint(8, COLUMNS, length).tolist() for length in lengths]


VARIANTS: dict[str, dict[str, Any]] = {
    **{name: {"axes": axes} for name, axes in LAYOUTS.items()},
    "positions of the mask": {"positions": "mask"},
    "positions of what was read": {"positions": "past"},
    "positions of columns": {"positions": "column"},
    "apart, though there is a mask": {"ragged": False},
    "one token a run": {"width": 1},
    "pieces": {"tokens": 12},
    "pieces, apart": {"tokens": 5, "positions": "past"},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_rows_of_all_lengths_equal_a_full_pass(name: str) -> None:
    rows = random_rows(7, 1, 30, 18, 18)
    sequences = decoder(**VARIANTS[name]).start(5, most=6)
    found = [[part] for part in sequences.read(rows, every=True)]
    more = random_rows(3, 9, 1, 2, 2)
    for row, part in enumerate(sequences.read(more, every=True)):
        found[row].append(part)
        rows[row] += more[row]
    for token in (11, 12, 13):
        for row, part in enumerate(sequences.step(np.arange(token, token + 5)).copy()):
            found[row].append(part[None])
            rows[row].append(token + row)
    for row, parts in enumerate(found):
        np.testing.assert_allclose(np.concatenate(parts), logits_of(rows[row]), atol=EXACT)
    kept = [5, 0, 31, 20, 2]
    sequences.rewind(kept)
    rows = [row[:length] for row, length in zip(rows, kept, strict=True)]
    parents = [3, 3, 0, 2, 1, 4]
    sequences.select(parents)
    rows = [[*rows[parent], 40 + place] for place, parent in enumerate(parents)]
    assert sequences.lengths.tolist() == [len(row) - 1 for row in rows]
    last = sequences.read([row[-1:] for row in rows])
    np.testing.assert_allclose(last, [logits_of(row)[-1] for row in rows], atol=EXACT)
    sequences.select([5])
    np.testing.assert_allclose(sequences.step(np.array([9]))[0], logits_of([*rows[5], 9])[-1], atol=EXACT)


@pytest.mark.parametrize("name", _CASES)
def test_writes_what_transformers_writes(name: str) -> None:
    case = _CASES[name]
    given = {"max_new_tokens": 24, **case["options"]}
    if "negative_prompt_ids" in given:
        given["negative_prompt_ids"] = [given["negative_prompt_ids"]]
    answers = generate(decoder(), PROMPTS, options_of(**given))
    assert ids_of(answers) == case["ids"]


@pytest.mark.parametrize("name", WAYS)
def test_every_way_to_write_equals_the_known_model(name: str) -> None:
    options = options_of(**{"max_new_tokens": 14, **WAYS[name]})
    known = ids_of(generate(ToyDecoder(), PROMPTS, options, decode=text_of))
    assert ids_of(generate(decoder(), PROMPTS, options, decode=text_of)) == known
    assert ids_of(generate(decoder(), PROMPTS[1:2], options, decode=text_of)) == known[1:2]


@pytest.mark.parametrize("name", ["greedy", "sampling, three each", "lookup", "beams", "contrastive"])
def test_rows_that_must_be_run_apart_are_written_no_differently(name: str) -> None:
    options = options_of(**{"max_new_tokens": 10, **WAYS[name]})
    known = ids_of(generate(ToyDecoder(), PROMPTS, options, decode=text_of))
    assert ids_of(generate(decoder(positions="past"), PROMPTS, options, decode=text_of)) == known


def test_what_is_streamed_is_what_is_written() -> None:
    options = options_of(num_return_sequences=2, do_sample=True, seed=3)
    tokens: dict[tuple[int, int], list[int]] = {}
    for step in stream(decoder(), PROMPTS, options):
        for item in step:
            tokens.setdefault((item.prompt, item.place), []).extend(item.tokens)
    whole = ids_of(generate(decoder(), PROMPTS, options))
    assert {(prompt, place): ids for prompt, row in enumerate(whole) for place, ids in enumerate(row)} == tokens


def test_hidden_states_are_those_of_the_ids_just_read() -> None:
    rows = random_rows(7, 3)
    sequences = decoder(tokens=4).start(2, hidden=True)
    sequences.read(rows)
    for states, row in zip(sequences.hidden, rows, strict=True):
        np.testing.assert_allclose(states, forward(weights(), row)[1], atol=EXACT)
    sequences.step(np.array([4, 5]))
    np.testing.assert_allclose(sequences.hidden[1], forward(weights(), [*rows[1], 5])[1][-1:], atol=EXACT)


def test_a_graph_without_hidden_states_says_so() -> None:
    bare = session(decoder_graph, hidden=False)
    model = GrowingDecoder(bare, dataclasses.replace(facts(), hidden=None), window=WINDOW, tokens=64)
    with pytest.raises(BundleError, match="no hidden states, which contrastive search compares"):
        generate(model, PROMPTS, options_of(penalty_alpha=0.6, top_k=4))
    assert ids_of(generate(model, PROMPTS, options_of())) == ids_of(generate(ToyDecoder(), PROMPTS, options_of()))


def test_steps_take_what_the_last_one_gave_where_it_lies() -> None:
    sequences = decoder().start(2, WINDOW)
    sequences.read(random_rows(9, 5))
    places = set()
    for _ in range(40):
        sequences.step(np.array([8, 9]))
        places.add(sequences.cache.arrays["past_key_values.0.key"].__array_interface__["data"][0])
    assert len(places) <= 6  # two memories, a few times larger ones
    exact = 2 * len(_CACHES) * 2 * 32 * WINDOW * 4
    assert sequences.cache.nbytes <= exact * 2


def test_nothing_is_read_beyond_the_window() -> None:
    model = decoder()
    with pytest.raises(TooLongError, match="the model's window is 96"):
        model.start(1, WINDOW + 1)
    sequences = model.start(2)
    with pytest.raises(TooLongError, match="97 tokens"):
        sequences.read([[8] * 3, [8] * 97])
    sequences.read([[8] * 3, [8] * 96])
    with pytest.raises(TooLongError, match="97 tokens"):
        sequences.step(np.array([8, 8]))
    sequences.rewind([3, 95])
    # side by side 95 and 60 would be longer than the positions that the model has
    rows = [[8] * 3 + random_rows(60)[0], [8] * 95 + [9]]
    last = sequences.read([rows[0][3:], [9]])
    np.testing.assert_allclose(last, [logits_of(row)[-1] for row in rows], atol=EXACT)


@pytest.mark.parametrize("ids", [[[1]], [[1], []], []])
def test_rows_without_ids_are_refused(ids: list[list[int]]) -> None:
    with pytest.raises(InputError, match="at least one id each"):
        decoder().start(2).read(ids)


def test_rows_that_do_not_exist_are_refused() -> None:
    sequences = decoder().start(2, most=3)
    sequences.read([[8], [9]])
    for parents in ([2], [0, 0, 0, 0], [-1]):
        with pytest.raises(InputError, match="cannot go on with rows"):
            sequences.select(parents)
    for lengths in ([2, 1], [1], [-1, 0]):
        with pytest.raises(InputError, match="cannot rewind"):
            sequences.rewind(lengths)


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_a_row_holds_can_be_put_back(name: str) -> None:
    axes, (row, other) = LAYOUTS[name], random_rows(12, 20)
    first = decoder(axes).start(2)
    first.read([row, other])
    second = decoder(axes).start(2)
    second.read([[3, 4, 5], [6]])
    second.cache.restore(first.cache.state(1), 0)
    assert second.lengths.tolist() == [20, 1]
    assert {array.shape[1] for array in first.cache.state().values()} == {12}
    np.testing.assert_allclose(
        second.step(np.array([9, 9])), [logits_of([*other, 9])[-1], logits_of([6, 9])[-1]], atol=EXACT
    )
    state = first.cache.state()
    state.pop("past_key_values.0.key")
    with pytest.raises(InputError, match="belongs to another model"):
        second.cache.restore(state)


# Encoder-decoders.


SOURCES = random_rows(4, 11, 7, 26, 1)


@pytest.mark.parametrize("given", [{}, {"lengths": True}, {"tokens": 12}, {"width": 1}])
def test_targets_equal_a_full_pass(given: dict[str, Any]) -> None:
    targets = random_rows(3, 9, 1, 5, 5)
    sequences = seq2seq(**given).read(SOURCES).start(5, most=8)
    for part, source, target in zip(sequences.read(targets, every=True), SOURCES, targets, strict=True):
        np.testing.assert_allclose(part, written(source, target), atol=EXACT)
    parents = [3, 3, 0, 1, 1, 1]
    sequences.select(parents)
    rows = [[*targets[parent], 20 + place] for place, parent in enumerate(parents)]
    found = sequences.step(np.arange(20, 26))
    expected = [written(SOURCES[parent], row)[-1] for parent, row in zip(parents, rows, strict=True)]
    np.testing.assert_allclose(found, expected, atol=EXACT)
    sequences.rewind([2, 1, 4, 9, 3, 0])
    found = sequences.read([[9], [9, 8], [7], [6], [5], [4, 3, 2]])
    kept = [[*rows[0][:2], 9], [*rows[1][:1], 9, 8], [*rows[2], 7], [*rows[3][:9], 6], [*rows[4][:3], 5], [4, 3, 2]]
    expected = [written(SOURCES[parent], row)[-1] for parent, row in zip(parents, kept, strict=True)]
    np.testing.assert_allclose(found, expected, atol=EXACT)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"num_beams": 4, "num_return_sequences": 2, "length_penalty": 2.0},
        {"num_beams": 4, "length_penalty": -1.0, "early_stopping": True},
        {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5},
        {"do_sample": True, "seed": 4, "num_return_sequences": 3},
        {"prompt_lookup_num_tokens": 3},
    ],
)
@pytest.mark.parametrize("begin", [[0], [0, 17, 23]])
def test_a_batch_of_sources_is_written_as_singles_are(given: dict[str, Any], begin: list[int]) -> None:
    model, options = seq2seq(), options_of(**given)
    together = generate(model.read(SOURCES), [begin] * len(SOURCES), options)
    singles = [generate(model.read(SOURCES).of([place]), [begin], options)[0] for place in range(len(SOURCES))]
    assert ids_of(together) == ids_of(singles)
    assert len({tuple(item.ids) for found in together for item in found}) > 2
    if not given:
        for source, (found,) in zip(SOURCES, together, strict=True):
            whole = written(source, [*begin, *found.ids])
            assert whole[len(begin) - 1 : -1].argmax(axis=1).tolist() == list(found.ids)


def test_beams_of_one_source_move_no_cross_attention() -> None:
    reading = seq2seq().read(SOURCES[:2]).of([0, 0, 0, 1, 1, 1])
    targets = reading.start(6)
    targets.read([[0]] * 6)
    before = targets._more(np.arange(6))["past_key_values.0.encoder.key"]
    targets.select([2, 2, 0, 3, 3, 4])
    assert targets._more(np.arange(6))["past_key_values.0.encoder.key"] is before
    targets.select([0, 1, 2])
    assert targets._more(np.arange(3))["past_key_values.0.encoder.key"].shape[0] == 3


def test_sources_and_targets_that_cannot_be() -> None:
    model = seq2seq()
    for sources in ([], [[]]):
        with pytest.raises(InputError, match="a source has no tokens"):
            model.read(sources)
    with pytest.raises(TooLongError, match="41 tokens long, the model takes 40"):
        model.read([[8] * 41])
    reading = model.read(SOURCES)
    with pytest.raises(InputError, match="cannot write from sources"):
        reading.of([5])
    with pytest.raises(InputError, match="2 targets are asked for"):
        reading.start(2)
    with pytest.raises(TooLongError, match="the model's window is 48"):
        reading.start(5, 49)
    with pytest.raises(BundleError, match="no hidden states"):
        reading.start(5, hidden=True)


# Graphs that are not what is said of them.


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"mask": None, "ragged": False}, "the graph wants attention_mask"),
        ({"cache_positions": "cache_position"}, "the graph has no input 'cache_position'"),
        ({"logits": "scores"}, "the graph has no output 'scores'"),
        ({"hidden": "hidden"}, "the graph has no output 'hidden'"),
        ({"hidden": "present.0.key"}, "present.0.key has shape"),
        ({"caches": facts().caches[1:]}, "the graph wants past_key_values.0.key"),
        ({"caches": (dataclasses.replace(facts().caches[0], time=1), *facts().caches[1:])}, "not what edgenlp.json"),
        ({"caches": (dataclasses.replace(facts().caches[0], time=5), *facts().caches[1:])}, "not what edgenlp.json"),
        ({"caches": (dataclasses.replace(facts().caches[0], present="logits"), *facts().caches[1:])}, "not what"),
    ],
)
def test_a_graph_of_other_names_is_refused(changed: dict[str, Any], message: str) -> None:
    said = dataclasses.replace(facts(), **changed)
    with pytest.raises(BundleError, match=message):
        GrowingDecoder(session(decoder_graph), said, window=WINDOW, tokens=64)


def test_an_encoder_of_other_names_is_refused() -> None:
    with pytest.raises(BundleError, match="the graph wants past_key_values"):
        GrowingEncoderDecoder(
            session(decoder_graph), session(writing_graph), seq2seq().facts, window=9, target_window=9, tokens=9
        )


def test_a_graph_that_gives_other_shapes_than_it_says_fails_in_words_of_ours() -> None:
    said = facts(positions="past", ragged=False)
    swapped = (dataclasses.replace(said.caches[0], present="present.0.value"), *said.caches[1:])
    assert swapped[0].present == said.caches[1].present
    graph = onnx.load_from_string(decoder_graph(positions="past"))
    for node in graph.graph.node:  # the keys come back without what was read before
        if node.output[0] == "present.0.key":
            del node.input[0]
    model = GrowingDecoder(Session(graph.SerializeToString(), threads=1), said, window=WINDOW, tokens=64)
    sequences = model.start(1)
    sequences.read([[8, 9]])
    with pytest.raises(BundleError, match="onnxruntime failed"):
        sequences.step(np.array([3]))


# Bundles.


def write_bundle(folder: Path, graphs: dict[str, bytes], growing: Growing, head: str, tasks: tuple[str, ...]) -> Path:
    folder.mkdir()
    build_tokenizer(begins=head == "causal-lm").save(str(folder / "tokenizer.json"))
    for role, graph in graphs.items():
        (folder / f"{role}.onnx").write_bytes(graph)
    files = {
        path.name: File(hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)
        for path in sorted(folder.iterdir())
    }
    bundle = Bundle(
        folder=folder,
        name="toy",
        tasks=tasks,
        precision="fp32",
        graphs={role: f"{role}.onnx" for role in graphs},
        window=WINDOW if head == "causal-lm" else 40,
        target_window=None if head == "causal-lm" else TARGETS,
        tokenizer=Vocabulary("tokenizer.json", COLUMNS, None, SPECIAL, False, "right", False, False),
        head=Head(head),
        files=files,
        source=Source("toy", "toy", 1),
        generation={"bos_token_id": 0, "eos_token_id": EOS, "pad_token_id": EOS, "decoder_start_token_id": 0},
        chat={"default": CHAT},
        growing=growing,
    )
    write_manifest(bundle, folder)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("growing") / "bundle"
    return write_bundle(folder, {"decoder": decoder_graph()}, facts(), "causal-lm", ("text-generation",))


def test_what_is_written_is_read_back_equal(whole: Path, tmp_path: Path) -> None:
    bundle = open_bundle(whole)
    assert bundle.growing == facts()
    write_manifest(bundle, tmp_path)
    assert (tmp_path / "edgenlp.json").read_bytes() == (whole / "edgenlp.json").read_bytes()


def test_a_bundle_writes_as_the_known_model_does(whole: Path) -> None:
    pipe = edgenlp.pipeline("text-generation", model=whole, max_new_tokens=12, do_sample=False)
    prompts = ["one two", "three"]
    ids = [list(group[0].ids) for group in pipe.model.tokens.encode(prompts)]
    known = generate(ToyDecoder(), ids, options_of(max_new_tokens=12))
    texts = [
        pipe.model.tokens.decode([*row, *found[0].ids], skip_special_tokens=True)
        for row, found in zip(ids, known, strict=True)
    ]
    assert [item["generated_text"] for (item,) in pipe(prompts)] == texts
    assert isinstance(pipe.model.decoder.start(1), GrowingRows)


def test_a_conversation_goes_on_where_it_was_saved(whole: Path, tmp_path: Path) -> None:
    pipe = edgenlp.pipeline("text-generation", model=whole, max_new_tokens=6, do_sample=False)
    talk = pipe.conversation()
    first = talk.say("one")
    talk.save(tmp_path / "talk.npz")
    second = talk.say("two")
    again = pipe.conversation()
    again.load(tmp_path / "talk.npz")
    assert again.say("two") == second
    fresh = pipe([{"role": "user", "content": "one"}])
    assert fresh[0]["generated_text"][-1]["content"] == first


def test_an_encoder_decoder_bundle_writes_what_its_graphs_say(tmp_path: Path) -> None:
    graphs = {"encoder": reading_graph(), "decoder": writing_graph()}
    folder = write_bundle(tmp_path / "bundle", graphs, seq2seq().facts, "seq2seq-lm", ("text2text-generation",))
    pipe = edgenlp.pipeline("text2text-generation", model=folder, max_new_tokens=12)
    texts = ["one two three", "four", "five six"]
    sources = [list(group[0].ids) for group in pipe.model.tokens.encode(texts)]
    known = generate(seq2seq().read(sources), [[0]] * 3, options_of(max_new_tokens=12))
    expected = [pipe.model.tokens.decode(found[0].ids, skip_special_tokens=True) for found in known]
    assert [item["generated_text"] for item in pipe(texts)] == expected
    assert isinstance(open_model(folder).seq2seq, GrowingEncoderDecoder)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("caches",), [], "there are no caches"),
        (("caches",), "all", "expected tuple"),
        (("caches", 0, "time"), 0, "0 and 0 are not two axes"),
        (("caches", 0, "batch"), -1, "-1 and 2 are not two axes"),
        (("caches", 0, "time"), 1 << 40, "are not two axes"),
        (("caches", 0, "time"), True, "expected int, found bool"),
        (("caches", 0, "past"), "", "a name is empty or used twice"),
        (("caches", 0, "past"), "input_ids", "a name is empty or used twice"),
        (("caches", 0, "present"), "logits", "a name is empty or used twice"),
        (("caches", 0, "code"), "x", "unknown field 'code'"),
        (("mask",), None, "cannot share a run without a mask"),
        (("mask",), 3, "expected str"),
        (("width",), 0, "width 0 is out of range"),
        (("width",), -5, "out of range"),
        (("width",), 1 << 60, "out of range"),
        (("first_position",), -1, "out of range"),
        (("source_multiple",), 0, "out of range"),
        (("crossings",), [{"given": "a", "taken": "b"}], r"needs the graphs \['decoder', 'encoder'\]"),
        (("wide",), 1, "unknown field 'wide'"),
    ],
)
def test_facts_that_cannot_be_are_refused(
    whole: Path, tmp_path: Path, path: tuple[Any, ...], value: Any, message: str
) -> None:
    folder = shutil.copytree(whole, tmp_path / "bundle")
    manifest = folder / "edgenlp.json"
    data = json.loads(manifest.read_text())
    place = data["growing"]
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    manifest.write_text(json.dumps(data))
    with pytest.raises(BundleError, match=message):
        open_model(folder)
