"""The command line: exit codes, streams, JSON lines, and what people see on a terminal. Bundles are tiny and random."""

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import edgenlp_export
import numpy as np
import pytest
from checkpoints import ENTITIES, NLI, write_checkpoint
from composite_checkpoints import write_composite
from decoder_goldens import case_of
from edgenlp_export.traced import optimum
from seq2seq_checkpoints import write_seq2seq

import edgenlp
from edgenlp import bench
from edgenlp.cli import main, show
from edgenlp.cli.flags import as_flags
from edgenlp.cli.lines import Form, answers, decoded, inputs
from edgenlp.cli.options import build_parser, task_options
from edgenlp.errors import InputError

HEADS = {
    "sequence_classification": "distilbert",
    "token_classification": "bert",
    "question_answering": "bert",
    "masked_lm": "bert",
    "sentence_transformer": "mpnet",
}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Head to the folder of a bundle with it."""
    root = tmp_path_factory.mktemp("cli")
    for head, architecture in HEADS.items():
        source = write_checkpoint(root / f"{head}-checkpoint", architecture, head, seed=3)
        edgenlp_export.export(source, root / head, tolerance=float("inf"))
    return {head: str(root / head) for head in HEADS}


# Of T5's own kind: what stands before a text says what is to be done with it.
T5_TASKS = {
    "summarization": {"prefix": "summarize: ", "max_length": 40, "num_beams": 2},
    "translation_en_to_de": {"prefix": "translate English to German: "},
    "translation_en_to_fr": {"prefix": "translate English to French: "},
}


@pytest.fixture(scope="module")
def rewriters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Architecture to the folder of an encoder-decoder's bundle; that of "bert" has a precision for each part."""
    root = tmp_path_factory.mktemp("rewriters")
    write_seq2seq(root / "t5-checkpoint", architecture="t5", seed=3, config={"task_specific_params": T5_TASKS})
    for architecture in ("mbart", "marian-separate"):
        write_seq2seq(root / f"{architecture}-checkpoint", architecture=architecture, seed=3)
    write_composite(root / "bert-checkpoint", encoder="bert", decoder="bert", seed=3)
    names = ("t5", "mbart", "marian-separate", "bert")
    for name in names:
        precision = "encoder=int8-block,decoder=int4" if name == "bert" else "fp32"
        edgenlp_export.export(root / f"{name}-checkpoint", root / name, precision=precision, tolerance=float("inf"))
    return {name: str(root / name) for name in names}


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch):
    def give(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))

    return give


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Runs a command as on a terminal of 60 columns without colour, and gives its lines."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")

    def run(*arguments: str) -> list[str]:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)  # pytest changes stdout after setup
        return screen(capsys, *arguments)

    return run


def screen(capsys, *arguments: str) -> list[str]:
    assert main(arguments) == 0
    return capsys.readouterr().out.splitlines()


def usage_error(*arguments: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2


# Help and usage


def test_without_a_command_all_are_listed(capsys):
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert all(command in err for command in ("export", "run", "inspect", "probe-bias", "bench"))


def test_version_and_help(capsys):
    for arguments, wanted in ((["--version"], f"edgenlp {edgenlp.__version__}"), (["run", "--help"], "examples:")):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 0
        assert wanted in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nonsense",),
        ("run",),
        ("export", "only-one"),
        ("bench", "m", "--batch", "1,x"),
        ("bench", "m", "--length", "0"),
        ("run", "ner", "a", "--option", "no-value"),
        ("run", "ner", "a", "--top-k", "-1"),
        ("run", "ner", "a", "--file", "b"),
        ("run", "ner", "a", "--context", "b"),
        ("run", "ner", "a", "--pair", "b"),
        ("run", "ner", "a", "--source", "b"),
        ("run", "question-answering", "who?"),
        ("run", "zero-shot-classification", "a"),
        ("run", "zero-shot-classification", "a", "--labels", " , "),
        ("run", "summarization", "a", "--num-beams", "x"),
        ("run", "summarization", "a", "--whole"),
        ("run", "summarization", "--whole", "--jsonl"),
        ("run", "summarization", "a", "--chat"),
        ("run", "summarization", "a", "--greedy", "--sample"),
        ("bench", "m", "--beams", "0"),
    ],
)
def test_usage_errors_exit_with_2(arguments, capsys):
    usage_error(*arguments)
    assert "usage: edgenlp" in capsys.readouterr().err


@pytest.mark.parametrize("order", ["ab--model m", "--model m ab", "a--model m b"])
def test_texts_stand_anywhere_among_the_options(order):
    words = {"ab--model m": ["a", "b", "--model", "m"], "--model m ab": ["--model", "m", "a", "b"]}
    args = build_parser().parse_args(["run", "ner", *words.get(order, ["a", "--model", "m", "b"])])
    assert (args.task, args.texts, args.model) == ("ner", ["a", "b"], "m")


def test_task_options_are_those_given_and_no_others():
    parse = build_parser().parse_args
    assert task_options(parse(["run", "ner", "a"])) == {}
    flags = [
        "--top-k",
        "all",
        "--labels",
        "a, b,",
        "--multi-label",
        "--option",
        "stride=4",
        "--option",
        "delimiter=x y",
    ]
    given = {"top_k": None, "candidate_labels": ["a", "b"], "multi_label": True, "stride": 4, "delimiter": "x y"}
    assert task_options(parse(["run", "ner", "a", *flags])) == given


def test_greedy_and_sample_are_one_beam_unless_told_otherwise():
    def options(*flags: str) -> dict:
        return task_options(build_parser().parse_args(["run", "summarization", "a", *flags]))

    assert options("--greedy") == {"do_sample": False, "num_beams": 1}
    assert options("--greedy", "--num-beams", "3") == {"do_sample": False, "num_beams": 3}
    assert options("--sample", "--seed", "3") == {"do_sample": True, "num_beams": 1, "seed": 3}
    assert options("--src-lang", "en", "--return-scores") == {"src_lang": "en", "return_scores": True}


@pytest.mark.parametrize(
    ("message", "spoken"),
    [
        ("pass long_input='truncate' or long_input='stride'", "pass --long-input truncate or --long-input stride"),
        ("give long_input='truncate' or 'stride'", "give --long-input truncate or stride"),
        ("src_lang='xx' is no language", "--src-lang xx is no language"),
        ("found src_lang='a' and tgt_lang=None; give both", "found --src-lang a and no --tgt-lang; give both"),
        ("num_return_sequences=3 is more than num_beams=2", "--num-return-sequences 3 is more than --num-beams 2"),
        ("did you mean 'top_k'?", "did you mean 'top_k'?"),
        ("'src_lang' num_beams_x=1", "'src_lang' num_beams_x=1"),
        ("candidate_labels is empty", "--labels is empty"),
    ],
)
def test_messages_name_options_as_the_command_line_does(message, spoken):
    assert as_flags(message, build_parser().parse_args(["run", "translation", "a"])) == spoken


# run, in a pipe


def run_json(capsys, *arguments: str) -> list:
    assert main(["run", *arguments]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_each_text_gives_the_line_of_json_that_the_pipeline_returns(bundles, capsys):
    model = bundles["sequence_classification"]
    texts = ["a lovely film", "dull"]
    task = edgenlp.pipeline("text-classification", model)
    assert run_json(capsys, "sentiment-analysis", *texts, "--model", model) == task(texts)
    assert run_json(capsys, "sentiment-analysis", texts[0], "--model", model) == task(texts[:1])


def test_stdin_gives_an_answer_for_every_line_also_a_blank_one(bundles, capsys, stdin):
    stdin("\ufeffeins\r\n\nzwei".encode())
    model = bundles["sequence_classification"]
    expected = edgenlp.pipeline("text-classification", model)(["eins", "", "zwei"])
    assert run_json(capsys, "text-classification", "--model", model) == expected


def test_file_and_pair(bundles, capsys, tmp_path):
    (tmp_path / "texts").write_text("one\ntwo\n", encoding="utf-8")
    model = bundles["sequence_classification"]
    pairs = [{"text": text, "text_pair": "other"} for text in ("one", "two")]
    expected = edgenlp.pipeline("text-classification", model)(pairs)
    arguments = ["text-classification", "--file", str(tmp_path / "texts"), "--pair", "other", "--model", model]
    assert run_json(capsys, *arguments) == expected


def test_entities_are_whole_by_default(bundles, capsys):
    model = bundles["token_classification"]
    task = edgenlp.pipeline("ner", model)
    text = "Sarah lives in London."
    grouped = json.loads(json.dumps(task(text, aggregation_strategy="simple"), default=float))
    single = json.loads(json.dumps(task(text), default=float))
    assert run_json(capsys, "ner", text, "--model", model) == [grouped]
    assert run_json(capsys, "ner", text, "--model", model, "--aggregation", "none") == [single]


def test_question_answering_takes_a_context_or_jsonl(bundles, capsys, stdin):
    model = bundles["question_answering"]
    question = {"question": "who?", "context": "Emma is by Austen."}
    expected = run_json(capsys, "question-answering", "who?", "--context", question["context"], "--model", model)
    assert set(expected[0]) == {"score", "start", "end", "answer"}
    stdin(f"{json.dumps(question)}\n\n{json.dumps({'question': 'who?'})}\n".encode())
    context = ["--context", question["context"]]
    assert run_json(capsys, "question-answering", "--jsonl", "--model", model, *context) == expected * 2


def test_similarity_compares_the_first_text_with_the_others(bundles, capsys, stdin):
    model = bundles["sentence_transformer"]
    expected = edgenlp.pipeline("sentence-similarity", model)("a cat", ["a dog", "tea"])
    assert run_json(capsys, "sentence-similarity", "a cat", "a dog", "tea", "--model", model) == [expected]
    stdin(b"a dog\ntea\n")
    assert run_json(capsys, "sentence-similarity", "--source", "a cat", "--model", model) == [expected]
    assert main(["run", "sentence-similarity", "alone", "--model", model]) == 1
    assert "two texts or more" in capsys.readouterr().err


def test_zero_shot_and_fill_mask_and_features(bundles, capsys):
    model = bundles["sequence_classification"]
    (answer,) = run_json(capsys, "zero-shot-classification", "tea", "--labels", "drink,car", "--model", model)
    assert sorted(answer["labels"]) == ["car", "drink"]
    assert sum(answer["scores"]) == pytest.approx(1)
    (answer,) = run_json(capsys, "fill-mask", "a [MASK] b", "--top-k", "3", "--model", bundles["masked_lm"])
    assert len(answer) == 3
    flags = ["--pooling", "mean", "--normalize", "--truncate-dim", "4", "--option", 'return_tensors="np"']
    (answer,) = run_json(capsys, "feature-extraction", "tea", "--model", bundles["sentence_transformer"], *flags)
    assert len(answer) == 4
    assert np.linalg.norm(answer) == pytest.approx(1, abs=1e-5)


def test_what_precedes_a_bad_line_is_answered_and_the_line_is_named(bundles, capsys, stdin):
    model = bundles["sequence_classification"]
    for bad, message in (
        (b"\xff\xfe", "stdin, line 3 is not UTF-8 (byte 0xff at position 1)"),
        (b"word " * 100, "stdin, line 3: the input is"),
    ):
        stdin(b"one\ntwo\n" + bad + b"\nfour\n")
        assert main(["run", "text-classification", "--model", model]) == 1
        out, err = capsys.readouterr()
        assert len(out.splitlines()) == 2
        assert err.startswith(f"edgenlp: {message}")
        assert err.count("\n") == 1
    stdin(b"one\n" + b"word " * 100)
    assert len(run_json(capsys, "text-classification", "--model", model, "--long-input", "truncate")) == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1 is not valid JSON"),
        ("[" * 100_000, "line 1 is not valid JSON"),
        ("3", "line 1: expected an object with text and text_pair, found int"),
        ('{"texte": "a"}', "unknown field 'texte'"),
        ('{"text": "a", "top_k": 2}', "unknown field 'top_k'"),
        ("{}", "field 'text' is missing"),
        ('{"text": 3}', "line 1: text must be a string, found int"),
    ],
)
def test_bad_jsonl(line, message, bundles, capsys, stdin):
    stdin(line.encode())
    assert main(["run", "text-classification", "--jsonl", "--model", bundles["sequence_classification"]]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["text-clasification", "a"], "did you mean 'text-classification'"),
        (["text-classification", "a", "--model", "/nowhere"], "there is no folder '/nowhere'"),
        (["ner", "a", "--model", "sequence_classification"], "not token-classification"),
        (
            ["text-classification", "a", "--model", "sequence_classification", "--option", "top_q=1"],
            "did you mean 'top_k'",
        ),
        (["text-classification", "a\udcff", "--model", "sequence_classification"], "not UTF-8"),
        (["text-classification", "--file", "/nowhere", "--model", "sequence_classification"], "/nowhere: No such file"),
        (["text-classification", "a", "--threads", "0", "--model", "sequence_classification"], "threads must be"),
        (["text-classification", "w " * 99, "--model", "sequence_classification"], "pass --long-input truncate"),
    ],
)
def test_errors_are_one_line_and_exit_with_1(arguments, message, bundles, capsys):
    assert main(["run", *(bundles.get(argument, argument) for argument in arguments)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("edgenlp: ")
    assert err.count("\n") == 1
    assert message in err


def test_no_default_model_names_the_flag(capsys, monkeypatch):
    monkeypatch.setattr("edgenlp.defaults.defaults", dict)
    assert main(["run", "ner", "a"]) == 1
    assert "--model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (KeyboardInterrupt(), 130, ""),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "edgenlp: No space left on device\n"),
        (MemoryError(), 1, "edgenlp: not enough memory; give a smaller --batch-size, or shorter texts\n"),
        (InputError("two\nlines \x1b[31m"), 1, "edgenlp: two lines ·[31m\n"),
    ],
)
def test_exit_codes(raised, code, message, capsys, monkeypatch):
    def fail(*_, **__):
        raise raised

    monkeypatch.setattr(sys.modules["edgenlp.pipeline"], "pipeline", fail)  # the package has a function of that name
    assert main(["run", "ner", "a", "--model", "m"]) == code
    assert capsys.readouterr().err == message


# run, of what reads and writes


def test_rewriting_answers_as_the_pipeline_does(rewriters, capsys, stdin):
    model, texts = rewriters["t5"], ["the cat sat", "a dog"]
    flags = ["--model", model, "--max-new-tokens", "6"]
    task = edgenlp.pipeline("text2text-generation", model)
    expected = [task(text, max_new_tokens=6) for text in texts]
    assert run_json(capsys, "text2text-generation", *texts, *flags) == expected
    stdin(b"the cat sat\n\na dog\n")
    assert len(run_json(capsys, "text2text-generation", *flags)) == 3
    stdin(b'{"text": "the cat sat"}\n"a dog"\n')
    assert run_json(capsys, "text2text-generation", "--jsonl", *flags) == expected
    several = ["--num-beams", "3", "--num-return-sequences", "2", "--return-scores", "--target-prefix", "the"]
    options = {"num_beams": 3, "num_return_sequences": 2, "return_scores": True, "target_prefix": "the"}
    (answer,) = run_json(capsys, "text2text-generation", texts[0], *flags, *several)
    assert answer == task(texts[0], max_new_tokens=6, **options)
    assert len({item["generated_text"] for item in answer}) == 2
    (answer,) = run_json(capsys, "text2text-generation", texts[0], *flags, "--alternatives", "3")
    assert [item["score"] for item in answer] == sorted((item["score"] for item in answer), reverse=True)
    assert len(answer) == 3


def test_the_name_of_a_translation_says_which_languages(rewriters, capsys):
    flags = ["--model", rewriters["t5"], "--max-new-tokens", "6"]
    german, french = (run_json(capsys, f"translation_en_to_{code}", "the cat", *flags) for code in ("de", "fr"))
    assert german != french
    assert run_json(capsys, "translation", "the cat", *flags, "--src-lang", "en", "--tgt-lang", "fr") == french
    flags[1] = rewriters["mbart"]
    answer = run_json(capsys, "translation_en_XX_to_fr_XX", "the cat", *flags)
    assert run_json(capsys, "translation", "the cat", *flags, "--src-lang", "en_XX", "--tgt-lang", "fr_XX") == answer


def test_what_the_command_says_counts_more_than_what_the_checkpoint_sets(rewriters, capsys):
    model = rewriters["t5"]
    written = edgenlp.pipeline("summarization", model)
    long = "the cat sat on the mat and the dog sat on the cat and they all sat on the mat."
    options = {"max_length": 7, "num_beams": 1, "max_new_tokens": None}
    flags = ["--option", "max_length=7", "--num-beams", "1"]
    assert run_json(capsys, "summarization", long, "--model", model, *flags) == [written(long, **options)]


def test_a_file_may_be_one_text(rewriters, capsys, tmp_path):
    (tmp_path / "text").write_text("the cat\nsat.\n", encoding="utf-8")
    flags = ["--model", rewriters["bert"], "--max-new-tokens", "4"]
    expected = run_json(capsys, "text2text-generation", "the cat\nsat.", *flags)
    assert run_json(capsys, "text2text-generation", "--whole", "--file", str(tmp_path / "text"), *flags) == expected


def test_greedy_answers_are_shown_as_they_come(rewriters, capsys, terminal, monkeypatch):
    from edgenlp.tasks.rewriting import Rewriting

    model = ["--model", rewriters["bert"], "--max-new-tokens", "5"]
    (answer,) = run_json(capsys, "text2text-generation", "the cat", *model, "--greedy")
    seen = []
    stream = Rewriting.stream
    monkeypatch.setattr(
        Rewriting, "stream", lambda self, *given, **options: seen.append(1) or stream(self, *given, **options)
    )
    text = answer[0]["generated_text"]
    assert terminal("run", "text2text-generation", "the cat", *model, "--greedy") == [text]
    assert len(seen) == 1
    assert terminal("run", "text2text-generation", "the cat", *model) != []
    scored = terminal("run", "text2text-generation", "the cat", *model, "--greedy", "--return-scores")
    assert scored[0] == "the cat"
    assert scored[1].split(maxsplit=1)[1] == show.plain(text)
    assert len(seen) == 1  # beams and scores are known at the end
    drawn = ["text2text-generation", "the cat", *model, "--sample", "--seed", "3"]
    assert terminal("run", *drawn) == [json.loads(terminal("run", *drawn, "--json")[0])[0]["generated_text"]]
    assert len(seen) == 2


def test_several_answers_stand_below_their_text():
    view = show.View()
    result = [{"translation_text": "un chat", "score": -0.25}, {"translation_text": "le\nchat", "score": -1.5}]
    assert show.answer("translation", "a cat", result, view).splitlines() == [
        "a cat",
        "  -0.2500  un chat",
        "  -1.5000  le chat",
    ]
    plain = [{"summary_text": "one"}, {"summary_text": "two"}]
    assert show.answer("summarization", "text", plain, view).splitlines() == ["text", "  1  one", "  2  two"]
    assert show.answer("summarization", "text", plain[:1], view) == "one"
    assert "\x1b" not in show.answer("summarization", "text", [{"summary_text": "\x1b[2J"}], view)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["translation", "a", "--model", "mbart"], "give both, found no --src-lang and no --tgt-lang"),
        (
            ["translation", "a", "--model", "mbart", "--src-lang", "en_XX", "--tgt-lang", "xx"],
            "--tgt-lang xx is no language of this model; it knows ar_AR,",
        ),
        (["translation_en_to_xx", "a", "--model", "t5"], "it knows translation_en_to_de, translation_en_to_fr"),
        (["translation", "a", "--model", "bert", "--src-lang", "en"], "leave --src-lang out"),
        (["text2text-generation", "the " * 99, "--model", "bert"], "give --long-input truncate or stride"),
        (["text2text-generation", "a", "--model", "bert", "--target-prefix", "☃"], "vocabulary"),
        (
            ["text2text-generation", "a", "--model", "bert", "--num-beams", "2", "--num-return-sequences", "3"],
            "more than --num-beams 2",
        ),
        (["text-generation", "a", "--model", "bert"], "not text-generation"),
        (["fill-mask", "a", "--model", "t5"], "not fill-mask"),
    ],
)
def test_errors_of_rewriting_are_one_line(arguments, message, rewriters, capsys):
    assert main(["run", *(rewriters.get(argument, argument) for argument in arguments)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("edgenlp: ")
    assert err.count("\n") == 1
    assert message in err


def test_a_text_that_cannot_be_streamed_is_named(rewriters, capsys, terminal):
    terminal("inspect", rewriters["bert"])
    flags = ["--model", rewriters["bert"], "--max-new-tokens", "2", "--greedy"]
    assert main(["run", "text2text-generation", "a", "the " * 99, *flags]) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert err.startswith("edgenlp: text 2: ")


# Lines


def test_inputs_are_read_lazily():
    def endless():
        while True:
            yield b"text\n"

    placed = inputs(decoded(endless(), "stdin"), Form("fill-mask"))
    assert [next(placed) for _ in range(2)] == [("stdin, line 1", "text"), ("stdin, line 2", "text")]


def test_answers_keep_inputs_and_order_while_the_task_reads_ahead():
    def ahead(texts):
        texts = list(texts)
        return iter([text.upper() for text in texts])

    assert list(answers(ahead, [("", "a"), ("", "b")])) == [("a", "A"), ("b", "B")]


# On a terminal


def test_labels_are_aligned_and_long_texts_cut(bundles, terminal):
    model = bundles["sequence_classification"]
    lines = terminal("run", "text-classification", "short", "long " * 20, "日本語" * 12, "--model", model)
    starts = {line.index(word) for line, word in zip(lines, ("short", "long", "日本語"), strict=True)}
    assert len(starts) == 1
    assert lines[1].endswith("…")
    assert len(lines[1]) <= 60
    assert all(line.split()[0].endswith("%") and line.split()[1] in NLI for line in lines)
    raw = terminal("run", "text-classification", "a", "--model", model, "--option", "function_to_apply=none")
    assert "%" not in raw[0]
    assert json.loads(terminal("run", "text-classification", "a", "--model", model, "--json")[0])["label"] in NLI


def test_entities_stand_in_brackets_in_their_text():
    view = show.View(width=80, labels=ENTITIES)
    found = [
        {"entity_group": "PER", "score": 0.99, "word": "Sarah", "start": 0, "end": 5},
        {"entity_group": "LOC", "score": 0.5, "word": "London", "start": 15, "end": 21},
    ]
    assert show.answer("token-classification", "Sarah lives in\nLondon.", found, view).splitlines() == [
        "[Sarah PER] lives in [London LOC].",
        "  99.00%  PER  Sarah   0–5",
        "  50.00%  LOC  London  15–21",
    ]
    assert show.answer("token-classification", "nobody", [], view) == "nobody\n  no entities"


def test_every_task_has_a_screen(bundles, terminal):
    sequence, sentence = bundles["sequence_classification"], bundles["sentence_transformer"]
    lines = terminal("run", "text-classification", "a", "--top-k", "all", "--model", sequence)
    assert lines[0] == "a"
    assert {line.split()[1] for line in lines[1:]} == set(NLI)
    lines = terminal("run", "zero-shot-classification", "a", "--labels", "x,y", "--model", sequence)
    assert (lines[0], sorted(line.split()[1] for line in lines[1:])) == ("a", ["x", "y"])
    qa = ["run", "question-answering", "who?", "--context", "by Austen", "--model", bundles["question_answering"]]
    assert terminal(*qa)[0] == "who?"
    lines = terminal("run", "fill-mask", "a [MASK] b [MASK]", "--top-k", "1", "--model", bundles["masked_lm"])
    assert [lines[0], lines[1], lines[3]] == ["a [MASK] b [MASK]", "  mask 1", "  mask 2"]
    lines = terminal("run", "sentence-similarity", "a", "zzz", "a", "--model", sentence)
    assert lines[:2] == ["a", "  1.0000  a"]
    lines = terminal("run", "feature-extraction", "a", "--pooling", "cls", "--normalize", "--model", sentence)
    assert lines[1] == "  32 numbers, length 1"


def test_no_text_can_steer_the_terminal():
    assert show.plain("a\x1b[2Jb\r\nc\td\u202e") == "a·[2Jb c d·"
    view = show.View()
    result = {"label": "evil\x1b]0;title\x07", "score": 0.5}
    assert "\x1b" not in show.answer("text-classification", "\x1b[31mred", result, view)
    found = [{"entity": "\x1b", "score": 0.5, "word": "\x1b", "start": 0, "end": 1}]
    assert "\x1b" not in show.answer("token-classification", "\x1bx", found, view)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (show.amount(0), "0 B"),
        (show.amount(999), "999 B"),
        (show.amount(1000), "1.0 kB"),
        (show.amount(22_900_000), "22.9 MB"),
        (show.amount(999_999_999), "1.0 GB"),
        (show.seconds(1.5), "1.50 s"),
        (show.seconds(0.0123), "12.3 ms"),
        (show.seconds(123e-6), "123 µs"),
        (show.cut("abcdef", 4), "abc…"),
        (show.cut("日本語", 5), "日本…"),
        (show.cut("日本語", 6), "日本語"),
        (show.table([("a", "1"), ("日本", "22")], right={1}, indent=0), "a      1\n日本  22"),
        (show.table([]), ""),
    ],
)
def test_forms(shown, expected):
    assert shown == expected


def test_bar_never_reaches_the_last_column():
    for columns in (20, 40, 80, 200):
        for done in (0, 3, 10, 11):
            assert len(show.bar("verifying answers", done, 10, columns)) < columns


# inspect


def test_inspect(bundles, terminal):
    text = "\n".join(terminal("inspect", bundles["token_classification"], "--verify"))
    for fact in ("token-classification", "BertForTokenClassification", "int8", "hashes match", "B-LOC", "[SEP] = 3"):
        assert fact in text
    assert max(map(len, text.splitlines()[1:])) <= 60
    facts = json.loads("\n".join(terminal("inspect", bundles["sentence_transformer"], "--json", "--verify")))
    bundle = edgenlp.open_bundle(bundles["sentence_transformer"])
    assert facts["tasks"] == list(bundle.tasks)
    assert facts["size"] == bundle.size
    assert facts["pooling"]["modes"] == ["mean"]
    assert facts["verified"] is True


def test_inspect_of_encoder_decoders(rewriters, terminal):
    text = "\n".join(terminal("inspect", rewriters["mbart"]))
    for fact in (
        "encoder.onnx",
        "decoder.onnx",
        "128 tokens are read, 128 written",
        "25: ar_AR, cs_CZ",
        "(--json has all)",
    ):
        assert fact in " ".join(text.split())
    facts = json.loads("\n".join(terminal("inspect", rewriters["mbart"], "--json")))
    assert len(facts["languages"]["ids"]) == 25
    assert facts["target_window"] == 128
    text = " ".join("\n".join(terminal("inspect", rewriters["bert"])).split())
    assert "precision encoder int8-block, decoder int4 (head at int8)" in text
    text = " ".join("\n".join(terminal("inspect", rewriters["t5"])).split())
    assert "by task summarization: max_length 40, num_beams 2, prefix 'summarize: '" in text
    text = " ".join("\n".join(terminal("inspect", rewriters["marian-separate"])).split())
    assert "written with 350 tokens" in text


def test_inspect_finds_what_was_altered(bundles, capsys, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in Path(bundles["masked_lm"]).iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    weights = copy / "model.weights"
    data = bytearray(weights.read_bytes())
    data[0] ^= 1
    weights.write_bytes(data)
    assert main(["inspect", str(copy)]) == 0
    capsys.readouterr()
    assert main(["inspect", str(copy), "--verify"]) == 1
    assert "damaged or altered" in capsys.readouterr().err


# export


def test_export_is_quiet_in_a_pipe_and_sums_up_on_a_terminal(capsys, tmp_path, monkeypatch):
    source = write_checkpoint(tmp_path / "checkpoint", "bert", "sequence_classification", seed=5)
    arguments = ["export", str(source), str(tmp_path / "out"), "--tolerance", "inf"]
    assert main(arguments) == 0
    assert capsys.readouterr() == ("", "")
    assert main(arguments) == 1
    assert "--force" in capsys.readouterr().err
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    keep = "fp32=classifier.weight"
    assert main([*arguments, "--force", "--precision", "int8-block", "--keep", keep]) == 0
    out, err = capsys.readouterr()
    assert "int8-block (classifier.weight at fp32)" in out
    assert "relative error" in out
    assert err.endswith("\r\x1b[K")
    assert edgenlp.open_bundle(tmp_path / "out").precision == "int8-block"
    assert main([*arguments, "--force", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_export_of_encoder_decoders_says_how_to_try_them(capsys, tmp_path, monkeypatch):
    source = write_seq2seq(tmp_path / "checkpoint", architecture="mbart", seed=3)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    arguments = ["export", str(source), str(tmp_path / "out"), "--tolerance", "inf"]
    assert main([*arguments, "--precision", "encoder=fp16,decoder=int8"]) == 0
    out = capsys.readouterr().out
    assert "encoder fp16, decoder int8" in out
    assert "run translation --model" in out
    assert "--src-lang en_XX --tgt-lang ar_AR TEXT" in out
    for wrong, message in (
        (["--precision", "encoder=int8"], "encoder=int8,decoder=int4"),
        (["--precision", "encoder=int8,decoder=int3"], "no precision 'int3'"),
        (["--cache", "int8"], "its cache is fp32"),
        (["--task", "fill-mask"], "not fill-mask; choose one with --task"),
    ):
        assert main([*arguments, "--force", *wrong]) == 1
        assert message in capsys.readouterr().err


def test_export_lists_architectures_and_tensors(capsys, tmp_path, monkeypatch):
    own = [name for name, _ in edgenlp_export.architectures()]
    with monkeypatch.context() as patch:
        patch.setattr(optimum, "supported", lambda: {"bert": ("masked-lm",), "roformer": ("masked-lm",)})
        lines = screen(capsys, "export", "--list")
    assert lines[0] == "written by edgenlp:"
    assert [line.split()[0] for line in lines[1 : 1 + len(own)]] == own
    assert lines[1 + len(own) :] == ["traced through optimum-onnx:", "  roformer  fill-mask"]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torch", None)
        lines = screen(capsys, "export", "--list")
    assert lines[1 + len(own) :] == [
        "traced through optimum-onnx: more, listed where it is installed: pip install 'edgenlp[trace]'"
    ]
    source = write_checkpoint(tmp_path / "checkpoint", "bert", "sequence_classification", seed=5)
    lines = screen(capsys, "export", str(source), "--list-tensors")
    assert ["classifier.weight", "3", "×", "32", "float32"] in [line.split() for line in lines]
    assert not any("bias" in line for line in lines)


def test_export_without_its_extra_says_how_to_get_it(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "edgenlp_export", None)
    assert main(["export", "a", "b"]) == 1
    assert "pip install 'edgenlp[export]'" in capsys.readouterr().err


# bench


def test_bench_ends_with_one_line_of_json(bundles, capsys):
    arguments = ["--batch", "1,3", "--length", "8,16,9999", "--seconds", "0.01", "--threads", "1", "--json"]
    assert main(["bench", bundles["masked_lm"], *arguments]) == 0
    out = capsys.readouterr().out
    report = json.loads(out.splitlines()[-1])
    shapes = [(row["batch"], row["length"]) for row in report["rows"]]
    assert shapes == [(1, 8), (1, 16), (3, 8), (3, 16)]
    assert report["skipped"] == [9999]
    assert report["threads"] == 1
    assert all(0 < row["p50"] <= row["p90"] <= row["p99"] and row["runs"] >= 5 for row in report["rows"])
    assert all(
        row["tokens_per_second"] == pytest.approx(row["texts_per_second"] * row["length"]) for row in report["rows"]
    )
    assert report["cold"] > report["load"] > 0
    assert "cold start" in out


def test_bench_of_a_bundle_that_writes_counts_what_is_written(open_decoder_of, capsys):
    folder = open_decoder_of(case_of("gpt2")).bundle.folder
    arguments = ["--seconds", "0.01", "--batch", "1,2", "--length", "8", "--threads", "1", "--json"]
    assert main(["bench", str(folder), *arguments]) == 0
    out = capsys.readouterr().out
    assert "written/s" in out
    rows = json.loads(out.splitlines()[-1])["rows"]
    assert [(row["batch"], row["length"]) for row in rows] == [(1, 8), (2, 8)]
    assert all(row["written_per_second"] > 0 for row in rows)


def test_bench_of_an_encoder_decoder_searches_with_beams(rewriters, capsys):
    arguments = [
        "--seconds",
        "0.01",
        "--batch",
        "1,2",
        "--length",
        "8,999",
        "--beams",
        "1,3",
        "--threads",
        "1",
        "--json",
    ]
    assert main(["bench", rewriters["bert"], *arguments]) == 0
    out = capsys.readouterr().out
    heads = next(line for line in out.splitlines() if "batch" in line).split()
    assert heads == ["batch", "tokens", "beams", "p50", "p90", "p99", "tokens/s", "written/s", "runs"]
    assert "encoder=int8-block,decoder=int4" in out
    report = json.loads(out.splitlines()[-1])
    rows = report["rows"]
    assert [(row["batch"], row["length"], row["beams"]) for row in rows] == [(1, 8, 1), (1, 8, 3), (2, 8, 1), (2, 8, 3)]
    assert report["skipped"] == [999]
    assert all(row["written_per_second"] > 0 and 0 < row["p50"] <= row["p99"] for row in rows)


def test_bench_errors(bundles, capsys):
    for arguments, message in (
        (["--length", "9999"], "no length fits"),
        (["--length", "2"], "no word beside"),
        (["--seconds", "0"], "seconds must be"),
        (["--seconds", "nan"], "seconds must be"),
        (["--beams", "4"], "no encoder-decoder"),
    ):
        assert main(["bench", bundles["masked_lm"], *arguments]) == 1
        assert message in capsys.readouterr().err


def test_peak_memory_is_a_number_of_bytes():
    peak = bench.peak_memory()
    assert peak is None or peak > 10_000_000


# Real processes


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "edgenlp", *arguments]


def test_a_reader_that_leaves_ends_the_run_quietly(bundles):
    arguments = command(
        "run", "text-classification", "--model", bundles["sequence_classification"], "--batch-size", "1"
    )
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        child.stdin.write(b"text\n")
        child.stdin.flush()
        assert json.loads(child.stdout.readline())["label"] in NLI  # answered before the input ended
        child.stdout.close()
        child.stdin.write(b"text\n" * 3)
        child.stdin.close()
        assert child.wait() == 141
        assert child.stderr.read() == b""


def test_a_failed_write_is_one_line(bundles):
    full = Path("/dev/full")
    if not full.exists():
        return  # only Linux has it; test_exit_codes raises the same error everywhere
    arguments = command("run", "text-classification", "a", "--model", bundles["sequence_classification"])
    with full.open("wb") as stdout:
        done = subprocess.run(arguments, stdout=stdout, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (1, b"edgenlp: No space left on device\n")


def test_an_ascii_stdout_gets_escapes(bundles):
    arguments = command("run", "zero-shot-classification", "é", "--labels", "ü,b", "--model")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [*arguments, bundles["sequence_classification"]], capture_output=True, env=environment, check=True
    )
    assert json.loads(done.stdout)["sequence"] == "é"
    assert done.stdout.isascii()
