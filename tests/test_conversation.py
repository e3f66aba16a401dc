"""Conversations over a real cache: what a turn reads, how a conversation is saved and loaded, and which files are refused."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import edgenlp_export
import numpy as np
import pytest
from decoder_checkpoints import write_decoder

import edgenlp
from edgenlp.cli import main
from edgenlp.cli.show import harmless
from edgenlp.errors import InputError
from edgenlp.tasks.prompts import prompt_of
from edgenlp.tasks.text_generation import TextGeneration

TEMPLATE = (
    "{% for m in messages %}{{ m.role[0] }}:{{ m.content }};{% endfor %}{% if add_generation_prompt %}a:{% endif %}"
)
GREEDY = {"do_sample": False, "max_new_tokens": 16, "eos_token_id": []}
TURNS = ("the first of many things", "and the second", "some more")


@pytest.fixture(scope="module")
def pipes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TextGeneration]:
    """Two models that differ in their weights only, and one that differs in its cache."""
    folder = tmp_path_factory.mktemp("talk")
    found = {}
    for name, architecture, seed in (("one", "llama", 1), ("other", "llama", 2), ("third", "gpt2", 3)):
        source = write_decoder(
            folder / f"{name}-checkpoint",
            architecture=architecture,
            seed=seed,
            config={"n_positions" if architecture == "gpt2" else "max_position_embeddings": 512},
            tokenizer_config={"chat_template": TEMPLATE, "model_max_length": 512},
        )
        edgenlp_export.export(source, folder / name, precision="fp32")
        found[name] = edgenlp.pipeline("text-generation", folder / name, threads=1)
    return found


def separate(pipe: TextGeneration, turns: tuple[str, ...]) -> list[dict[str, str]]:
    """The messages of a conversation made of calls that know nothing of each other."""
    messages: list[dict[str, str]] = []
    for turn in turns:
        messages = pipe([*messages, {"role": "user", "content": turn}], **GREEDY)[0]["generated_text"]
    return messages


@pytest.mark.parametrize("name", ["one", "third"])
def test_turns_equal_separate_calls(name: str, pipes: dict[str, TextGeneration]) -> None:
    pipe = pipes[name]
    talk = pipe.conversation(**GREEDY)
    for turn in TURNS:
        talk.say(turn)
    assert talk.messages == separate(pipe, TURNS)
    talk.rewind()
    talk.say("instead this")
    assert talk.messages == separate(pipe, (*TURNS[:2], "instead this"))


def test_a_turn_reads_what_is_new(pipes: dict[str, TextGeneration], monkeypatch: pytest.MonkeyPatch) -> None:
    talk = pipes["one"].conversation(**GREEDY)
    talk.say(TURNS[0] * 4)
    held = talk.cached
    assert held > 60
    read: list[int] = []
    inner = talk._memory.sequences.read
    monkeypatch.setattr(
        talk._memory.sequences, "read", lambda ids, **more: (read.append(len(ids[0])), inner(ids, **more))[1]
    )
    messages = [*talk.messages, {"role": "user", "content": "x"}]
    whole = len(prompt_of(pipes["one"].model, messages, pipes["one"]._plan(GREEDY)).ids)
    again = talk.stream("x")
    next(again)
    again.close()  # type: ignore[attr-defined]  # it is a generator
    assert len(read) == 1
    assert read[0] < whole - held + 20  # the answer may be cut into other tokens when it is read


def test_saved_and_loaded(pipes: dict[str, TextGeneration], tmp_path: Path) -> None:
    pipe = pipes["one"]
    talk = pipe.conversation([{"role": "system", "content": "be kind"}], **GREEDY)
    talk.say(TURNS[0])
    talk.say(TURNS[1])
    file = tmp_path / "talk.npz"
    file.write_bytes(b"older")
    talk.save(file)
    assert [path.name for path in tmp_path.iterdir()] == ["talk.npz"]
    second = pipe.conversation(**GREEDY)
    second.load(file)
    assert second.messages == talk.messages
    assert second.cached == talk.cached
    assert second.say(TURNS[2]) == talk.say(TURNS[2])
    second.load(file)
    second.rewind()
    assert second.messages[-1]["role"] == "assistant"
    empty = pipe.conversation()
    empty.save(file)
    second.load(file)
    assert second.messages == []
    assert second.cached == 0


def test_files_that_are_refused(pipes: dict[str, TextGeneration], tmp_path: Path) -> None:
    talk = pipes["one"].conversation(**GREEDY)
    talk.say(TURNS[0])
    file = tmp_path / "talk.npz"
    talk.save(file)
    for name in ("other", "third"):
        with pytest.raises(InputError, match="another model"):
            pipes[name].conversation().load(file)
    with pytest.raises(InputError, match="cannot read"):
        talk.load(tmp_path / "missing.npz")
    before = list(talk.messages)

    def refused(path: Path) -> None:
        with pytest.raises(InputError):
            talk.load(path)
        assert talk.messages == before

    broken = tmp_path / "broken.npz"
    broken.write_bytes(file.read_bytes()[:200])
    refused(broken)
    broken.write_bytes(b"")
    refused(broken)
    broken.write_text("hello")
    refused(broken)
    with np.load(file) as stored:
        arrays: dict[str, Any] = {name: stored[name] for name in stored.files}
    for name, value in (
        ("ids", arrays["ids"][:-1]),
        ("ids", arrays["ids"].astype(float)),
        ("ids", arrays["ids"] + 10**6),
        ("ids", arrays["ids"][None]),
        ("facts", np.frombuffer(b"[1]", np.uint8)),
        (
            "facts",
            np.frombuffer(json.dumps(json.loads(arrays["facts"].tobytes()) | {"messages": [3]}).encode(), np.uint8),
        ),
        (next(name for name in arrays if name.startswith("state.")), np.zeros((1, 2, 3), np.float32)),
    ):
        np.savez(broken, **{**arrays, name: value})
        refused(broken)
    first = next(name for name in arrays if name.startswith("state."))
    np.savez(broken, **{name: value for name, value in arrays.items() if name != first})
    refused(broken)
    np.savez(broken, **{**arrays, "ids": np.array([{"a": 1}], object)})
    refused(broken)
    with zipfile.ZipFile(broken, "w") as archive:
        archive.writestr("facts.npy", "x")
    refused(broken)
    assert talk.say("a") == separate_after(pipes["one"], before, "a")


def separate_after(pipe: TextGeneration, messages: list[dict[str, str]], turn: str) -> str:
    answer: str = pipe([*messages, {"role": "user", "content": turn}], **GREEDY)[0]["generated_text"][-1]["content"]
    return answer


def test_the_command_line(
    pipes: dict[str, TextGeneration], capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    pipe = pipes["one"]
    common = ["run", "text-generation", "--model", str(pipe.bundle.folder), "--greedy", "--max-new-tokens", "8"]
    options = {"do_sample": False, "max_new_tokens": 8}
    assert main([*common, "the first", "and"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == pipe(["the first", "and"], **options)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert main([*common, "the first"]) == 0
    expected = pipe("the first", **options)[0]["generated_text"]
    assert capsys.readouterr().out == harmless(expected) + "\n"
    assert main([*common, "the first", "--option", "num_beams=2"]) == 0
    assert capsys.readouterr().out == harmless(pipe("the first", **options, num_beams=2)[0]["generated_text"]) + "\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"hi\n\nyou\n")))
    assert main([*common, "--chat", "--system", "be kind"]) == 0
    talk = pipe.conversation([{"role": "system", "content": "be kind"}], **options)
    assert capsys.readouterr().out == "".join(harmless(talk.say(turn)) + "\n" for turn in ("hi", "you"))
