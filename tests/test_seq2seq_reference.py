"""The numpy reference of encoder-decoders, and what verification and calibration make of it: tiny models without a file."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from edgenlp_export.calibrate import Calibration
from edgenlp_export.families import parts
from edgenlp_export.families.parts import Dense, Norm
from edgenlp_export.families.relative import relative_buckets
from edgenlp_export.families.sinusoids import table
from edgenlp_export.reference import (
    DecoderForward,
    forward_classifier,
    forward_memory,
    forward_seq2seq,
    forward_source,
)
from edgenlp_export.sample import sample_pairs, split_pairs
from edgenlp_export.verify import compare

COLUMNS, WIDTH, INNER, HEADS, SIZE = 23, 12, 20, 2, 4
SOURCES = [[5, 9, 11], [7], [3, 8, 8, 20, 15, 4, 6]]
TARGETS = [[2, 5, 6, 7, 8], [2, 12, 3], [2]]


class Held:
    """A checkpoint in memory: tensors of any name, made when they are first asked for."""

    def __init__(self, seed: int = 0, **given: Any) -> None:
        self.given = {name: np.asarray(value, np.float32) for name, value in given.items()}
        self.seed = seed

    def make(self, name: str, *shape: int) -> str:
        if name not in self.given:
            noise = np.random.default_rng([self.seed, *name.encode()]).normal(size=shape)
            self.given[name] = (noise / math.sqrt(shape[-1]) if len(shape) == 2 else 0.3 * noise).astype(np.float32)
        return name

    def tensor(self, name: str) -> Any:
        return self.given[name]

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.given[name].shape)

    def release(self) -> None:
        """Nothing is mapped."""

    def dense(self, name: str, out: int, width: int) -> Dense:
        return Dense(self.make(f"{name}.weight", out, width), self.make(f"{name}.bias", out))

    def norm(self, name: str, kind: str = "layer") -> Norm:
        weight = self.make(f"{name}.weight", WIDTH)
        return Norm(weight, None if kind == "rms" else self.make(f"{name}.bias", WIDTH), 1e-5, kind, offset=1.0)

    def projections(self, name: str, read: int = WIDTH) -> dict[str, Any]:
        """Of an attention whose keys and values are made of `read` values."""
        inner = HEADS * SIZE
        layers = {"query": (inner, WIDTH), "key": (inner, read), "value": (inner, read), "output": (WIDTH, inner)}
        return {part: self.dense(f"{name}.{part}", *shape) for part, shape in layers.items()}

    def block(self, name: str, *, pre: bool, crosses: bool, relative: bool, gated: bool) -> parts.Block:
        bias = parts.RelativeBias(self.make(f"{name[0]}.bias", 8, 3), 8, 20, columns=(2, 0)) if relative else None
        own = parts.SelfAttention(
            **self.projections(f"{name}.self"),
            heads=HEADS, kv_heads=HEADS, head_size=SIZE, scale=0.5, relative=bias,
        )  # fmt: skip
        feed = parts.FeedForward(
            self.dense(f"{name}.up", INNER, WIDTH),
            self.dense(f"{name}.down", WIDTH, INNER),
            "relu",
            self.dense(f"{name}.gate", INNER, WIDTH) if gated else None,
        )
        place = "norm" if pre else "sum_norm"
        kind = "rms" if relative else "layer"
        norms = {
            f"{part}_{place}": self.norm(f"{name}.{part}.norm", kind)
            for part in ("attention", "feed_forward", *(["cross"] if crosses else []))
        }
        attention = self.projections(f"{name}.cross")
        cross = parts.CrossAttention(**attention, heads=HEADS, head_size=SIZE, scale=0.7) if crosses else None
        return parts.Block(name, own, feed, cross=cross, **norms)


def model(held: Any, style: str) -> parts.EncoderDecoder:
    """A model like BART ("post"), mBART ("pre") or T5 ("relative"), with a little of everything else."""
    words = held.make("words", COLUMNS, WIDTH)
    options = {"pre": style != "post", "relative": style == "relative", "gated": style == "relative"}
    places: dict[str, Any] = {}
    if style == "post":
        places = {"positions": held.make("positions", 30, WIDTH), "first_position": 2}
    elif style == "pre":
        places = {"sinusoids": parts.Sinusoids(tuple(10.0 ** -np.arange(WIDTH // 2))), "first_position": 2}
    final = held.norm("final") if style != "post" else None
    encoder = parts.SourceEncoder(
        words,
        tuple(held.block(f"e{number}", crosses=False, **options) for number in range(2)),
        window=28,
        scale=2.0,
        embedding_norm=held.norm("embedding"),
        norm=final,
        skipped_id=1 if style == "pre" else None,
        **places,
    )
    decoder = parts.Decoder(
        words,
        tuple(held.block(f"d{number}", crosses=True, **options) for number in range(3)),
        window=28,
        scale=2.0,
        types=held.make("types", 2, WIDTH),
        norm=final,
        head_steps=(held.dense("step", WIDTH, WIDTH), "gelu", held.norm("step.norm")),
        head_bias=held.make("bias", 1, COLUMNS),
        logits_scale=0.5,
        **places,
    )
    return parts.EncoderDecoder(encoder, decoder, start=2)


def logits(held: Any, body: parts.EncoderDecoder, sources: Sequence[Any], targets: Sequence[Any]) -> list[Any]:
    return forward_seq2seq(held, body, sources, targets)


class Again:
    """One text at a time, in float64 and in loops."""

    def __init__(self, held: Held) -> None:
        self.given = {name: value.astype(np.float64) for name, value in held.given.items()}

    def dense(self, x: Any, part: Dense) -> Any:
        return x @ self.given[part.weight].T + self.given[str(part.bias)]

    def norm(self, x: Any, part: Norm | None) -> Any:
        if part is None:
            return x
        centred = x - x.mean(axis=-1, keepdims=True) if part.kind == "layer" else x
        scaled = centred / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + part.eps)
        return scaled * (self.given[str(part.weight)] + 1) + (self.given[part.bias] if part.bias else 0)

    def attend(self, x: Any, read: Any, part: Any, seen: Callable[[int, int], bool], bias: Callable[..., float]) -> Any:
        q, k, v = self.dense(x, part.query), self.dense(read, part.key), self.dense(read, part.value)
        mixed = np.zeros_like(q)
        for head in range(HEADS):
            own = slice(head * SIZE, (head + 1) * SIZE)
            for i in range(len(x)):
                js = [j for j in range(len(read)) if seen(i, j)]
                shares = np.exp([part.scale * q[i, own] @ k[j, own] + bias(head, j - i) for j in js])
                mixed[i, own] = (shares / shares.sum()) @ v[js, own]
        return self.dense(mixed, part.output)

    def block(self, x: Any, part: parts.Block, memory: Any) -> Any:
        def bias(head: int, apart: int) -> float:
            if (relative := part.attention.relative) is None:
                return 0.0
            bucket = relative_buckets(np.array(apart), 8, 20, both_ways=memory is None)
            return float(self.given[relative.table][bucket, (relative.columns or ())[head]])

        read = self.norm(x, part.attention_norm)
        seen = (lambda i, j: True) if memory is None else (lambda i, j: j <= i)
        x = self.norm(x + self.attend(read, read, part.attention, seen, bias), part.attention_sum_norm)
        if part.cross:
            crossed = self.attend(self.norm(x, part.cross_norm), memory, part.cross, lambda i, j: True, lambda *_: 0.0)
            x = self.norm(x + crossed, part.cross_sum_norm)
        feed, read = part.feed_forward, self.norm(x, part.feed_forward_norm)
        inner = np.maximum(self.dense(read, feed.gate or feed.up), 0) * (self.dense(read, feed.up) if feed.gate else 1)
        return self.norm(x + self.dense(inner, feed.down), part.feed_forward_sum_norm)

    def embed(self, body: parts.SourceEncoder | parts.Decoder, ids: Sequence[int]) -> Any:
        x = self.given["words"][list(ids)] * 2
        places = np.arange(2, 2 + len(ids))
        if body.positions:
            x = x + self.given["positions"][places]
        if body.sinusoids:
            angles = places[:, None] * np.asarray(body.sinusoids.frequencies)
            x = x + np.hstack([np.sin(angles), np.cos(angles)])
        if isinstance(body, parts.Decoder):
            x = x + self.given["types"][0]
        return self.norm(x, body.embedding_norm)

    def logits(self, body: parts.EncoderDecoder, source: Sequence[int], target: Sequence[int]) -> Any:
        assert isinstance(body.encoder, parts.SourceEncoder)
        memory = self.embed(body.encoder, source)
        for block in body.encoder.blocks:
            memory = self.block(memory, block, None)
        memory = self.norm(memory, body.encoder.norm)
        x = self.embed(body.decoder, target)
        for block in body.decoder.blocks:
            x = self.block(x, block, memory)
        x = self.norm(x, body.decoder.norm)
        first, _, norm = body.decoder.head_steps
        assert isinstance(first, Dense)
        assert isinstance(norm, Norm)
        x = self.dense(x, first)
        x = self.norm(x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))), norm)
        return (x @ self.given["words"].T + self.given["bias"][0]) * 0.5


@pytest.mark.parametrize("style", ["post", "pre", "relative"])
def test_logits_are_what_loops_give(style: str) -> None:
    held: Any = Held()
    body = model(held, style)
    again = Again(held)
    for source, target, rows in zip(SOURCES, TARGETS, logits(held, body, SOURCES, TARGETS), strict=True):
        np.testing.assert_allclose(rows, again.logits(body, source, target), atol=1e-5)


@pytest.mark.parametrize("style", ["post", "pre", "relative"])
def test_texts_do_not_see_each_other(style: str) -> None:
    held: Any = Held()
    body = model(held, style)
    together = logits(held, body, SOURCES, TARGETS)
    assert [len(rows) for rows in together] == [5, 3, 1]
    for source, target, rows in zip(SOURCES, TARGETS, together, strict=True):
        np.testing.assert_allclose(logits(held, body, [source], [target])[0], rows, atol=2e-6)
    backwards = logits(held, body, SOURCES[::-1], TARGETS[::-1])[::-1]
    for rows, others in zip(together, backwards, strict=True):
        np.testing.assert_allclose(rows, others, atol=2e-6)


@pytest.mark.parametrize("style", ["post", "pre", "relative"])
def test_a_target_sees_what_it_has_written_and_all_of_its_source(style: str) -> None:
    held: Any = Held()
    body = model(held, style)
    (before,) = logits(held, body, [[5, 9, 11, 4]], [[2, 5, 6, 7, 8]])
    (later,) = logits(held, body, [[5, 9, 11, 4]], [[2, 5, 6, 14, 3]])
    np.testing.assert_allclose(before[:3], later[:3], atol=2e-6)
    assert np.abs(before[3:] - later[3:]).max(axis=1).min() > 1e-2
    for source in ([6, 9, 11, 4], [5, 9, 11, 6], [5, 9, 11]):
        (other,) = logits(held, body, [source], [[2, 5, 6, 7, 8]])
        assert np.abs(before - other).max(axis=1).min() > 1e-3


@pytest.mark.parametrize("style", ["post", "pre", "relative"])
def test_the_encoder_sees_both_ways(style: str) -> None:
    held: Any = Held()
    encoder = model(held, style).encoder
    (before,), (after,) = (forward_source(held, encoder, [ids]) for ids in ([5, 9, 11, 4], [5, 9, 11, 6]))
    assert np.abs(before - after).max(axis=1).min() > 1e-3


def test_an_encoder_is_what_it_says() -> None:
    """One block whose queries are zero: attention is the softmax of the biases, worked out by hand."""
    eye, words = np.eye(2), np.array([[1.0, 2.0], [3.0, -1.0], [0.5, 0.0]])
    biases = np.array(
        [0.0, 1.0, -0.5, 2.0]
    )  # the key itself, before, the same as 2 or more, after: see `relative_buckets`
    held: Any = Held(words=words, zero=np.zeros((2, 2)), eye=eye, nothing=np.zeros((2, 2)), table=biases[:, None])
    zero, same = Dense("zero", None), Dense("eye", None)
    relative = parts.RelativeBias("table", 4, 8)
    attention = parts.SelfAttention(zero, zero, same, same, 1, 1, 2, 1.0, relative=relative)
    block = parts.Block("layer.0", attention, parts.FeedForward(same, Dense("nothing", None), "relu"))
    encoder = parts.SourceEncoder("words", (block,), 8, scale=2.0)
    ids = [0, 1, 2, 1]
    x = 2 * words[ids]
    expected = []
    for i in range(4):
        # of 4 buckets, 2 each way: distance 0 is 0, before is 1; after is 2 + 1
        scores = np.array([0.0 if i == j else biases[1] if j < i else biases[3] for j in range(4)])
        shares = np.exp(scores) / np.exp(scores).sum()
        expected.append(x[i] + shares @ x)
    (found,) = forward_source(held, encoder, [ids])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_decoder_is_what_it_says() -> None:
    """One block whose queries are zero: the mean of what was written, and the mean of the source, over the bridge."""
    words = np.array([[1.0, 2.0], [3.0, -1.0], [0.5, 0.0]])
    held: Any = Held(
        words=words, zero=np.zeros((2, 2)), eye=np.eye(2), bridge=[[1.0, 1.0], [0.0, 2.0]], types=[[0.5, 0.25], [9, 9]],
        bias=[[0.0, -1e9, 1.0]], places=[[7, 7], [0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], back=[[1.0], [0.0]],
    )  # fmt: skip
    zero, same = Dense("zero", None), Dense("eye", None)
    relative = parts.RelativeBias("back", 2, 8)
    block = parts.Block(
        "layer.0",
        parts.SelfAttention(zero, zero, same, same, 1, 1, 2, 1.0, relative=relative),
        parts.FeedForward(same, zero, "relu"),
        cross=parts.CrossAttention(zero, zero, same, same, 1, 2, 1.0),
    )
    decoder = parts.Decoder(
        "words", (block,), 3, positions="places", first_position=1, types="types", head_bias="bias", logits_scale=0.5
    )
    body = parts.EncoderDecoder(parts.SourceEncoder("words", (), 8), decoder, Dense("bridge", None))
    memory = words[[2, 1]] @ np.array([[1.0, 1.0], [0.0, 2.0]]).T
    np.testing.assert_allclose(forward_memory(held, body, [[2, 1]])[0], memory)
    ids = [0, 1, 0]
    x = words[ids] + [0.5, 0.25] + held.given["places"][1:]
    expected = []
    for i in range(3):
        # of 2 buckets, both for what was written: distance 0 is 0, all others are 1
        scores = np.array([1.0 if j == i else 0.0 for j in range(i + 1)])
        shares = np.exp(scores) / np.exp(scores).sum()
        states = x[i] + shares @ x[: i + 1] + memory.mean(axis=0)
        expected.append(0.5 * (words @ states + [0.0, -1e9, 1.0]))
    (found,) = logits(held, body, [[2, 1]], [ids])
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_some_tokens_take_no_position() -> None:
    """M2M100's padding is counted by nobody, and its own computed position is zero."""
    held: Any = Held()
    encoder = model(held, "pre").encoder
    assert isinstance(encoder, parts.SourceEncoder)
    plain = replace(encoder, blocks=(), embedding_norm=None, norm=None, scale=1.0)
    (found,) = forward_source(held, plain, [[5, 1, 6, 1]])
    computed = table(plain.sinusoids or parts.Sinusoids(()), 4)
    words = held.given["words"]
    np.testing.assert_allclose(found[[0, 2]], words[[5, 6]] + computed[[2, 3]], rtol=1e-6)
    np.testing.assert_allclose(found[[1, 3]], words[[1, 1]], rtol=1e-6)
    learned = replace(plain, sinusoids=None, positions=held.make("positions", 9, WIDTH))
    (found,) = forward_source(held, learned, [[5, 1, 6, 1]])
    np.testing.assert_allclose(found, words[[5, 1, 6, 1]] + held.given["positions"][[2, 1, 3, 1]], rtol=1e-6)


def test_an_encoder_of_the_bert_kind_feeds_a_decoder() -> None:
    held: Any = Held()
    body = model(held, "post")
    norm = held.norm("bert.norm")
    attention = parts.Attention(**held.projections("bert.self"), heads=HEADS, head_size=SIZE)
    up, down = held.dense("bert.up", INNER, WIDTH), held.dense("bert.down", WIDTH, INNER)
    layer = parts.Layer("layer.0", attention, norm, up, down, held.norm("bert.last"), "relu")
    types, positions = held.make("bert.types", 2, WIDTH), held.make("bert.positions", 9, WIDTH)
    bert = parts.Encoder("words", positions, types, norm, None, (layer,), 0, None, None, 9)
    # the same encoder as a block: every token is of the first type
    held.given["bert.sum"] = held.given["bert.positions"] + held.given["bert.types"][0]
    own = parts.SelfAttention(
        attention.query, attention.key, attention.value, attention.output, HEADS, HEADS, SIZE, SIZE**-0.5
    )
    block = parts.Block(
        "layer.0",
        own,
        parts.FeedForward(up, down, "relu"),
        attention_sum_norm=norm,
        feed_forward_sum_norm=layer.ffn_norm,
    )
    alike = parts.SourceEncoder("words", (block,), 9, positions="bert.sum", embedding_norm=norm)
    for found, expected in zip(
        logits(held, replace(body, encoder=bert), SOURCES, TARGETS),
        logits(held, replace(body, encoder=alike), SOURCES, TARGETS),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, atol=5e-6)


@pytest.mark.parametrize("style", ["post", "pre"])
def test_a_classifier_reads_its_source_twice(style: str) -> None:
    held: Any = Held()
    body = model(held, style)
    steps = (held.dense("classifier", WIDTH, WIDTH), "tanh", held.dense("labels", 3, WIDTH))
    found = forward_classifier(held, body, parts.Head("sequence-classification", steps), SOURCES)
    # the same by way of a decoder whose head are the labels
    decoder = replace(body.decoder, head_steps=steps[:2], head=steps[2], head_bias=None, logits_scale=1.0)
    shifted = [[2, 5, 9], [2], [2, 3, 8, 8, 20, 15, 4]]
    expected = logits(held, replace(body, decoder=decoder), SOURCES, shifted)
    assert [rows.shape for rows in found] == [(3,)] * 3
    for rows, others in zip(found, expected, strict=True):
        np.testing.assert_allclose(rows, others[-1], atol=2e-6)


def test_calibration_sees_what_the_decoder_reads() -> None:
    held: Any = Held()
    body = model(held, "pre")
    texts = {"own": SOURCES, "others": [[4, 4], [20, 3, 9], [17]]}
    seen = {}
    for name, sources in texts.items():
        calibration = Calibration.of_pairs(held, body, sources, TARGETS)
        seen[name] = [dict(calibration.block(block)) for block in body.decoder.blocks]
    layers = {f"{part}.weight" for part in ("self.query", "self.key", "self.value", "self.output", "cross.query")}
    layers |= {"cross.output.weight", "up.weight", "down.weight"}
    for number, moments in enumerate(seen["own"]):
        assert set(moments) == {f"d{number}.{layer}" for layer in layers}
    forward = DecoderForward(held, body.decoder, [len(target) for target in TARGETS])
    read = forward.norm(forward.embed(np.concatenate(TARGETS)), body.decoder.blocks[0].attention_norm)
    expected = sum(np.outer(row, row) for row in read.astype(np.float64))
    np.testing.assert_allclose(seen["own"][0]["d0.self.query.weight"], expected, rtol=1e-5, atol=1e-5)
    # the source matters from the first cross-attention on
    for layer, moved in (
        ("d0.self.output", False),
        ("d0.cross.query", False),
        ("d0.cross.output", True),
        ("d0.up", True),
    ):
        same = np.allclose(*(seen[name][0][f"{layer}.weight"] for name in texts), rtol=1e-3)
        assert same is not moved
    assert not np.allclose(*(seen[name][1]["d1.self.query.weight"] for name in texts), rtol=1e-3)


def test_masked_columns_spoil_no_figure() -> None:
    rng = np.random.default_rng(0)
    expected = rng.normal(size=(9, 4)).astype(np.float32)
    found = (expected + rng.normal(size=(9, 4)) / 100).astype(np.float32)
    plain = compare([found], [expected])
    never, whatever = np.full((9, 1), -1e9, np.float32), np.full((9, 1), -3e8, np.float32)
    masked = compare([np.hstack([found, whatever])], [np.hstack([expected, never])])
    assert masked == plain
    assert 0.005 < plain["relative_error"] < 0.03
    open_wide = compare([np.hstack([found, np.zeros((9, 1), np.float32)])], [np.hstack([expected, never])])
    assert not open_wide["relative_error"] < 1
    broken = compare([np.hstack([found, np.full((9, 1), np.nan, np.float32)])], [np.hstack([expected, never])])
    assert not broken["relative_error"] < 1


# What T5Attention._relative_position_bucket of transformers 4.57.6 gives: the nearest distance of each bucket, in order
BORDERS = {
    (32, 128, True): [*range(9), 12, 16, 23, 32, 46, 64, 91],
    (32, 128, False): [*range(17), 19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113],
    (32, 256, False): [*range(17), 20, 23, 27, 32, 39, 46, 54, 64, 77, 91, 108, 128, 153, 182, 216],
    (33, 100, False): [*range(17), 18, 20, 23, 25, 28, 31, 35, 38, 43, 48, 53, 59, 65, 73, 81, 90],
    (20, 50, True): [0, 1, 2, 3, 4, 5, 8, 13, 20, 32],
    (10, 20, True): [0, 1, 2, 5, 10],
}


@pytest.mark.parametrize("kind", BORDERS)
def test_buckets(kind: tuple[int, int, bool]) -> None:
    buckets, farthest, both_ways = kind
    away = np.arange(5000)
    expected = np.searchsorted(BORDERS[kind], away, side="right") - 1
    assert np.array_equal(relative_buckets(-away, buckets, farthest, both_ways=both_ways), expected)
    ahead = relative_buckets(away[1:], buckets, farthest, both_ways=both_ways)
    assert np.array_equal(ahead, expected[1:] + buckets // 2 if both_ways else np.zeros(4999))


def test_sinusoids() -> None:
    """Rows of MarianSinusoidalPositionalEmbedding and M2M100SinusoidalPositionalEmbedding of transformers 4.57.6."""
    marian = table(parts.Sinusoids(tuple(10000 ** (-2 * place / 8) for place in range(4))), 1001)
    assert marian.shape == (1001, 8)
    assert marian.dtype == np.float32
    recorded = [0.8268795609474182, -0.5063656568527222, -0.5440211296081543, 0.8414709568023682,
                0.5623790621757507, 0.8623188734054565, -0.83907151222229, 0.5403022766113281]  # fmt: skip
    np.testing.assert_allclose(marian[1000], np.asarray(recorded, np.float32), atol=6e-8, rtol=0)
    np.testing.assert_array_equal(marian[0], [0, 0, 0, 0, 1, 1, 1, 1])
    # frequencies of float32, and angles too
    paces = (1.0, 0.046415891498327255, 0.002154434798285365, 9.99999901978299e-05)
    recorded = [0.8268795609474182, 0.6503158211708069, 0.8344631791114807, 0.0998334065079689,
                0.5623790621757507, -0.759663999080658, -0.5510636568069458, 0.9950041770935059]  # fmt: skip
    np.testing.assert_allclose(
        table(parts.Sinusoids(paces), 1001)[1000], np.asarray(recorded, np.float32), atol=6e-8, rtol=0
    )


class Spelled:
    """A tokenizer of one token per letter, with an end token where it has room."""

    def encode(self, texts: Sequence[str], *, max_length: int, truncation: str) -> list[list[Any]]:
        assert truncation == "longest_first"
        return [
            [SimpleNamespace(ids=[ord(letter) for letter in text][: max_length - 1] + [1] * bool(text))]
            for text in texts
        ]

    def ids(self, encoding: Any) -> list[int]:
        return list(encoding.ids)


def test_pairs_of_lines() -> None:
    lines = ["ab\tcd e", "plain", "\tonly", "one\t", "a\tb\tc", " spaced \t out "]
    pairs = split_pairs(lines)
    assert pairs == [
        ("ab", "cd e"), ("plain", "plain"), ("only", "only"), ("one", "one"), ("a", "b\tc"), ("spaced", "out"),
    ]  # fmt: skip
    tokens: Any = Spelled()
    options: dict[str, Any] = {"start": 9, "longest": 4, "target_longest": 4}
    sources, targets = sample_pairs(tokens, tokens, [("ab", "cdef"), ("", "x"), ("g", "")], **options)
    assert sources == [[97, 98, 1], [103, 1]]
    assert targets == [[9, 99, 100, 1], [9]]
    few, _ = sample_pairs(tokens, tokens, pairs, **options, most=5)
    assert len(few) == 2
