"""What a bundle says of its traced graphs: bundles that write by it, and bundles and graphs that lie."""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from growing_models import facts, seq2seq, session
from test_generate import options_of
from text_generation_cases import CHAT, SPECIAL, build_tokenizer
from toy_growing import TARGETS, decoder_graph, reading_graph, writing_graph
from toy_model import COLUMNS, EOS, WINDOW, ToyDecoder

import edgenlp
from edgenlp.bundle import Bundle, File, Head, Source, Vocabulary, open_bundle, write_manifest
from edgenlp.decode.generate import generate
from edgenlp.errors import BundleError
from edgenlp.growing.decoder import GrowingDecoder, GrowingRows
from edgenlp.growing.encoder_decoder import GrowingEncoderDecoder
from edgenlp.growing.facts import Growing
from edgenlp.model import open_model
from edgenlp.session import Session


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
