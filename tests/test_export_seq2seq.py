"""What an export of an encoder-decoder writes: two graphs and one weights file, sizes, precisions of parts, and what it refuses."""

import itertools
import re
import shutil
from pathlib import Path
from typing import Any

import edgenlp_export
import onnx
import pytest
from checkpoints import write_checkpoint
from composite_checkpoints import write_composite
from decoder_checkpoints import VOCABULARY, write_decoder
from seq2seq_checkpoints import write_seq2seq

import edgenlp
from edgenlp.cli import main
from edgenlp.encoder_decoder import EncoderDecoder
from edgenlp.errors import BundleError, CheckpointError, ExportError, UnsupportedError, VerificationError
from edgenlp.model import open_model
from edgenlp.session import Session

T5 = {"architecture": "t5", "seed": 1, "gain": 2.0}
MARIAN = {"architecture": "marian", "seed": 2, "gain": 1.0}
ANY = {"tolerance": float("inf")}
WIDE = {"d_model": 384, "d_ff": 1536, "d_kv": 64, "num_heads": 6, "num_layers": 2, "num_decoder_layers": 2}
GRAPHS = ("encoder.onnx", "decoder.onnx")


def graph_of(folder: Path, name: str) -> onnx.GraphProto:
    return onnx.load(folder / name, load_external_data=False).graph


def products(folder: Path, name: str) -> dict[str, str]:
    """Name of each matrix product of weights to its operator, and its bits where it has them."""
    found = {}
    for node in graph_of(folder, name).node:
        if "MatMul" in node.op_type or node.op_type == "Gemm":
            bits = [str(item.i) for item in node.attribute if item.name == "bits"]
            found[node.name] = node.op_type + "".join(bits)
    return found


def places(folder: Path, name: str) -> dict[str, tuple[int, int]]:
    """Name of each of a graph's weights to its offset and length in the weights file."""
    found = {}
    for tensor in graph_of(folder, name).initializer:
        values = {entry.key: entry.value for entry in tensor.external_data}
        if values:
            assert values["location"] == "model.weights"
            found[tensor.name] = (int(values["offset"]), int(values["length"]))
    return found


def stored(folder: Path) -> int:
    """Bytes of all weights, each counted once; no two of them overlap."""
    spans = sorted({span for name in GRAPHS for span in places(folder, name).values()})
    assert all(begin + length <= after for (begin, length), (after, _) in itertools.pairwise(spans))
    return sum(length for _, length in spans)


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_seq2seq(tmp_path_factory.mktemp("t5") / "checkpoint", **T5)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_seq2seq(tmp_path_factory.mktemp("wide") / "checkpoint", **{**T5, "gain": 1.0, "config": WIDE})


@pytest.fixture(scope="module")
def whole(t5: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that no test changes."""
    out = tmp_path_factory.mktemp("bundle") / "bundle"
    edgenlp_export.export(t5, out, precision="fp32")
    return out


@pytest.fixture
def bundle(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "bundle"))


def test_a_bundle_has_two_graphs_and_one_weights_file(whole: Path) -> None:
    names = {path.name for path in whole.iterdir()}
    assert names == {*GRAPHS, "model.weights", "tokenizer.json", "edgenlp.json"}
    bundle = edgenlp.open_bundle(whole)
    assert bundle.graphs == {"encoder": "encoder.onnx", "decoder": "decoder.onnx"}
    assert bundle.tasks == ("text2text-generation", "summarization", "translation")
    assert bundle.head.kind == "seq2seq-lm"
    assert bundle.generation["decoder_start_token_id"] == 0
    assert set(bundle.files) == names - {"edgenlp.json"}
    assert bundle.size == sum((whole / name).stat().st_size for name in bundle.files)


def test_separate_vocabularies_have_two_tokenizers(tmp_path: Path) -> None:
    source = write_seq2seq(tmp_path / "checkpoint", architecture="marian-separate", seed=1)
    edgenlp_export.export(source, tmp_path / "bundle", precision="fp32")
    bundle = edgenlp.open_bundle(tmp_path / "bundle")
    assert bundle.target_tokenizer is not None
    assert bundle.target_tokenizer.file == "target_tokenizer.json"
    assert (bundle.tokenizer.size, bundle.target_tokenizer.size) == (384, 350)
    assert set(bundle.files) == {*GRAPHS, "model.weights", "tokenizer.json", "target_tokenizer.json"}
    assert open_model(tmp_path / "bundle").target_tokens.facts == bundle.target_tokenizer


def test_two_vocabularies_that_were_joined_need_two_tokenizers(tmp_path: Path) -> None:
    writes = write_decoder(tmp_path / "gpt2", architecture="gpt2", seed=1)
    joined = {"encoder": "bert", "decoder": "gpt2", "decoder_config": {"vocab_size": VOCABULARY}, "seed": 1}
    source, out = write_composite(tmp_path / "checkpoint", **joined), tmp_path / "bundle"
    with pytest.raises(CheckpointError, match="--target-tokenizer"):
        edgenlp_export.export(source, out, precision="fp32")
    assert not out.exists()
    given = ["--target-tokenizer", str(writes), "--precision", "fp32", "--quiet"]
    assert main(["export", str(source), str(out), *given]) == 0
    model = open_model(out)
    assert model.bundle.target_tokenizer is not None
    assert model.target_tokens.facts.size == VOCABULARY != model.tokens.facts.size
    text = "All human beings are born free."
    ids = model.target_tokens.encode([text], special_tokens=False)[0][0].ids
    assert model.target_tokens.decode(ids) == text
    (answer,) = edgenlp.pipeline("text2text-generation", model)(text, target_prefix=text, max_new_tokens=2)
    assert answer["generated_text"].startswith(text)
    with pytest.raises(UnsupportedError, match="leave target_tokenizer out"):
        edgenlp_export.export(writes, tmp_path / "other", target_tokenizer=writes)


@pytest.mark.parametrize(
    ("options", "bits", "head", "slack"),
    [
        ({"precision": "fp32"}, 32, 32, 1.005),
        ({"precision": "fp16"}, 16, 16, 1.02),
        ({"precision": "int8"}, 8, 8, 1.02),
        ({"precision": "int8-block"}, 8, 8, 1.05),
        # the encoder, which is not calibrated, has blocks of 32, and the decoder of 128
        ({"precision": "int4"}, 4, 8, 1.12),
        ({"precision": "int4", "head": "int4"}, 4, 4, 1.12),
    ],
)
def test_a_bundle_is_as_small_as_its_bits(
    options: dict[str, Any], bits: int, head: int, slack: float, wide: Path, tmp_path: Path
) -> None:
    bundle = edgenlp_export.export(wide, tmp_path / "bundle", **ANY, **options)
    table = WIDE["d_model"] * 384
    bound = ((bundle.source.parameters - table) * bits + table * head) / 8
    assert stored(tmp_path / "bundle") <= slack * bound + 8192  # tables of relative positions, laid out by distance
    assert bundle.files["model.weights"].size <= stored(tmp_path / "bundle") + 4096 * 80  # what fills up pages
    assert sum(bundle.files[name].size for name in GRAPHS) <= 120_000


def test_a_table_is_one_however_often_it_is_stored(tmp_path: Path) -> None:
    alike = {"head": "copied", "words": ["shared", "encoder", "decoder"]}
    once = write_seq2seq(tmp_path / "once", **T5)
    often = write_seq2seq(tmp_path / "often", **{**T5, **alike})
    for precision in ("fp32", "int8"):
        folders = [tmp_path / f"{precision}-{source.name}" for source in (once, often)]
        for source, folder in zip((once, often), folders, strict=True):
            edgenlp_export.export(source, folder, precision=precision, **ANY)
        assert stored(folders[0]) == stored(folders[1])


@pytest.mark.parametrize("checkpoint", [T5, MARIAN])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int8-block", "int4"])
def test_a_tied_table_is_stored_once(checkpoint: dict[str, Any], precision: str, tmp_path: Path) -> None:
    source = write_seq2seq(tmp_path / "checkpoint", **checkpoint)
    edgenlp_export.export(source, tmp_path / "bundle", precision=precision, **ANY)
    found = {
        span
        for name in GRAPHS
        for tensor, span in places(tmp_path / "bundle", name).items()
        if re.match(r"(model\.)?shared\.weight", tensor) and not re.search(r"(scale16|scale|scales|zero)$", tensor)
    }
    assert len(found) == 1


@pytest.mark.parametrize("precision", ["fp32", "int8", "encoder=int8-block,decoder=int4"])
def test_the_same_export_gives_the_same_bytes(precision: str, t5: Path, tmp_path: Path) -> None:
    first, second = (edgenlp_export.export(t5, tmp_path / name, precision=precision, **ANY) for name in ("a", "b"))
    assert first.files == second.files
    assert (tmp_path / "a" / "edgenlp.json").read_bytes() == (tmp_path / "b" / "edgenlp.json").read_bytes()


def test_encoder_and_decoder_have_a_precision_each(t5: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    edgenlp_export.export(t5, out, precision="encoder=int8,decoder=int4", **ANY)
    reads, writes = (products(out, name) for name in GRAPHS)
    # keys and values of the cross-attention are made where the source is read
    assert set(reads.values()) == {"DynamicQuantizeMatMul"}
    assert writes.pop("/head") == "DynamicQuantizeMatMul"
    assert set(writes.values()) == {"MatMulNBits4"}
    bundle = edgenlp.open_bundle(out)
    assert (bundle.precision, bundle.decoder_precision, bundle.head.precision) == ("int8", "int4", "int8")

    edgenlp_export.export(t5, out, precision="encoder=int4,decoder=fp32", head="int8", force=True, **ANY)
    reads, writes = (products(out, name) for name in GRAPHS)
    assert set(reads.values()) == {"MatMulNBits4"}
    assert writes.pop("/head") == "DynamicQuantizeMatMul"
    assert set(writes.values()) == {"MatMul"}
    assert open_model(out).seq2seq.read([[5, 6, 7]]).start(1).read([[0]]).shape == (1, 384)

    edgenlp_export.export(t5, out, precision="encoder=int8,decoder=int8", force=True, **ANY)
    same = edgenlp_export.export(t5, tmp_path / "same", precision="int8", **ANY)
    assert edgenlp.open_bundle(out).files == same.files
    assert edgenlp.open_bundle(out).decoder_precision is None


def test_4_bits_are_fitted_to_pairs_or_to_what_the_model_writes(t5: Path, tmp_path: Path) -> None:
    pairs, plain = tmp_path / "pairs.txt", tmp_path / "plain.txt"
    pairs.write_text("a man\teine Katze\nthe street\tdie Strasse\n" * 20, encoding="utf-8")
    plain.write_text("a man\nthe street\n" * 20, encoding="utf-8")
    decoders = {}
    for name, calibration in (("none", None), ("pairs", pairs), ("plain", plain)):
        out = tmp_path / name
        edgenlp_export.export(t5, out, precision="encoder=fp32,decoder=int4", calibration=calibration, **ANY)
        decoders[name] = out / "model.weights"
        assert len(products(out, "decoder.onnx")) > 1
    assert len({file.read_bytes() for file in decoders.values()}) == 3
    # what the model wrote for the lines is gone with the graphs that wrote it
    assert sorted(path.name for path in tmp_path.iterdir()) == ["none", "pairs", "pairs.txt", "plain", "plain.txt"]


def test_what_is_kept_is_kept_in_both(t5: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    keep = ["fp32=encoder.block.1.*", "fp32=decoder.block.0.layer.2.*"]
    edgenlp_export.export(t5, out, precision="int8", keep=keep, **ANY)
    reads, writes = (products(out, name) for name in GRAPHS)
    exact = {name for found in (reads, writes) for name, kind in found.items() if kind == "MatMul"}
    assert exact
    assert {name.split("/")[1] for name in exact if name in reads and name not in writes} <= {"layer.1"}
    assert "DynamicQuantizeMatMul" in reads.values()
    assert {name for name, kind in writes.items() if kind == "MatMul"} <= {
        name for name in writes if name.startswith("/layer.0/")
    }
    with pytest.raises(ExportError, match="no such tensor"):
        edgenlp_export.export(t5, tmp_path / "other", keep=["fp32=no such tensor"])


def test_parity_is_measured_on_what_it_writes(t5: Path, tmp_path: Path) -> None:
    parity = edgenlp_export.export(t5, tmp_path / "bundle", precision="fp32").parity
    assert parity["relative_error"] < 1e-4
    assert parity["agreement"] == 1
    assert parity["tokens"] > 100


def test_a_bundle_that_is_too_far_off_is_not_kept(t5: Path, tmp_path: Path) -> None:
    with pytest.raises(VerificationError):
        edgenlp_export.export(t5, tmp_path / "bundle", precision="encoder=fp32,decoder=int4", tolerance=1e-6)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cache": "int8"}, "its cache is fp32"),
        ({"prompt": "fp32"}, "no prompt precision"),
        ({"precision": "encoder=int8,decoder=int8", "prompt": "int8"}, "no prompt precision"),
        ({"cache": "int4"}, "cache precision 'int4'; there are fp32, int8"),
        ({"precision": "encoder=int8"}, "name one, or both as in encoder=int8,decoder=int4"),
        ({"precision": "decoder=int8"}, "name one, or both"),
        ({"precision": "encoder=int8,encoder=int4"}, "name one, or both"),
        ({"precision": "encoder=int8,writer=int4"}, "name one, or both"),
        ({"precision": "encoder=int8,decoder=int9"}, "no precision 'int9'; there are"),
        ({"precision": "encoder=int8,decoder="}, "no precision ''"),
        ({"head": "int2"}, "head precision 'int2'"),
        ({"task": "fill-mask"}, "exported for"),
        ({"task": "text-generation"}, "exported for"),
        ({"task": "text-classification"}, "exported for"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], said: str, t5: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=said):
        edgenlp_export.export(t5, tmp_path / "bundle", **options)
    assert not list(tmp_path.iterdir())


def test_only_encoder_decoders_have_two_precisions(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "bert", "bert", "masked_lm", seed=1)
    with pytest.raises(UnsupportedError, match="only an encoder-decoder has a precision for each"):
        edgenlp_export.export(source, tmp_path / "bundle", precision="encoder=int8,decoder=int4")


@pytest.mark.parametrize("task", ["summarization", "translation", "text2text-generation"])
def test_any_task_that_writes_may_be_named(task: str, t5: Path, tmp_path: Path) -> None:
    assert edgenlp_export.export(t5, tmp_path / "bundle", task=task, precision="fp32").head.kind == "seq2seq-lm"


@pytest.mark.parametrize("name", [*GRAPHS, "model.weights", "tokenizer.json"])
def test_a_damaged_bundle_is_refused(name: str, bundle: Path) -> None:
    path = bundle / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=re.escape(name)):
        open_model(bundle)
    path.unlink()
    with pytest.raises(BundleError, match=re.escape(name)):
        open_model(bundle)


@pytest.mark.parametrize("config", [{"num_decoder_layers": 1}, {"num_heads": 2}, {"d_kv": 8}])
def test_the_decoder_of_another_model_is_refused(config: dict[str, Any], bundle: Path, tmp_path: Path) -> None:
    other = write_seq2seq(tmp_path / "other", **T5, config=config)
    edgenlp_export.export(other, tmp_path / "stranger", precision="fp32", **ANY)
    for name in ("decoder.onnx", "model.weights"):
        shutil.copy(tmp_path / "stranger" / name, bundle / name)
    with pytest.raises(BundleError, match=r"export it again|does not match"):
        open_model(bundle)
    sessions = [Session(bundle / "encoder.onnx"), Session(tmp_path / "stranger" / "decoder.onnx")]
    with pytest.raises(BundleError, match="does not give what the decoder's cross-attention reads"):
        EncoderDecoder(*sessions, window=64, target_window=64, tokens=64)
