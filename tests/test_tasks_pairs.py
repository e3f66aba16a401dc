"""Zero-shot, fill-mask, features and similarity, on a tokenizer of a few words and a model that is a formula."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from edgenlp import InputError, TooLongError
from edgenlp.bundle import Bundle, Head, Pooling, Source, Vocabulary
from edgenlp.errors import BundleError
from edgenlp.logits import best, pool
from edgenlp.model import Model
from edgenlp.tasks.feature_extraction import FeatureExtraction
from edgenlp.tasks.fill_mask import FillMask
from edgenlp.tasks.sentence_similarity import SentenceSimilarity
from edgenlp.tasks.task import Task
from edgenlp.tasks.zero_shot_classification import ZeroShotClassification
from edgenlp.tokens import Tokens

SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
WORDS = ["this", "example", "is", "red", "green", "blue", "sky", "sea", "query", ".", ":"]
IDS = {word: number for number, word in enumerate([*SPECIAL.values(), *WORDS])}
WINDOW = 12


class Formula:
    """Stands for the encoder: `answer` makes outputs of a window's ids and of the rows wanted."""

    def __init__(self, answer: Callable[[list[int], Sequence[int] | None], dict[str, Any]]) -> None:
        self.answer = answer
        self.calls: list[list[list[int]]] = []

    def __call__(
        self,
        windows: Sequence[Any],
        *,
        rows: Sequence[Sequence[int]] | None = None,
        batch_size: int | None = None,
        each: Callable[[int, dict[str, Any]], Any] | None = None,
    ) -> list[Any]:
        ids = [window.ids for window in windows]
        self.calls.append(ids)
        if any(len(item) > WINDOW for item in ids):
            raise TooLongError("too long")
        results = []
        for index, item in enumerate(ids):
            outputs = self.answer(item, None if rows is None else rows[index])
            outputs = {name: np.asarray(array, np.float32) for name, array in outputs.items()}
            results.append(each(index, outputs) if each else outputs)
        return results


def make(folder: Path, answer: Callable[..., Any], *, mask: bool = True, **facts: Any) -> Model:
    tokenizer = Tokenizer(models.WordLevel(IDS, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(list(SPECIAL.values()))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", IDS["[CLS]"]), ("[SEP]", IDS["[SEP]"])],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {role: (token, IDS[token]) for role, token in SPECIAL.items() if mask or role != "mask"}
    vocabulary = Vocabulary("tokenizer.json", len(IDS), None, special, True, "right", False, False)
    bundle = Bundle(
        folder=folder,
        name="tiny",
        tasks=(),
        precision="fp32",
        graphs={},
        window=WINDOW,
        tokenizer=vocabulary,
        head=facts.pop("head", Head("hidden-states")),
        files={},
        source=Source("tiny", "none", 0),
        **facts,
    )
    encoder: Any = Formula(answer)
    return Model(bundle, Tokens(folder / "tokenizer.json", vocabulary), {"encoder": encoder}, 1)


def seen(task: Task) -> list[list[list[int]]]:
    """The ids of each window of each run of the encoder."""
    encoder: Any = task.encoder
    calls: list[list[list[int]]] = encoder.calls
    return calls


# zero-shot-classification

NLI = Head("sequence-classification", ("contradiction", "neutral", "entailment"), entailment=2)
ENTAILED = {"red": 1, "green": 6, "blue": 3}


def nli(ids: list[int], rows: Sequence[int] | None) -> dict[str, Any]:
    """Contradiction 2, neutral 1, and as much entailment as the hypothesis' label says (exponentials)."""
    label = next(word for word in ENTAILED if IDS[word] in ids[ids.index(IDS["[SEP]"]) :])
    return {"logits": np.log([2, 1, ENTAILED[label]])}


@pytest.fixture
def zero_shot(tmp_path: Path) -> ZeroShotClassification:
    return ZeroShotClassification(make(tmp_path, nli, head=NLI), {})


def test_labels_share_one_softmax(zero_shot: ZeroShotClassification) -> None:
    result = zero_shot("sky", ["red", "green", "blue"])
    assert (result["sequence"], result["labels"]) == ("sky", ["green", "blue", "red"])
    assert result["scores"] == pytest.approx([0.6, 0.3, 0.1])


def test_labels_that_may_all_hold_are_scored_against_contradiction(zero_shot: ZeroShotClassification) -> None:
    result = zero_shot("sky", "red, green ,, blue", multi_label=True)
    assert result["labels"] == ["green", "blue", "red"]
    assert result["scores"] == pytest.approx([6 / 8, 3 / 5, 1 / 3])
    assert zero_shot("sky", "blue")["scores"] == pytest.approx([3 / 5])  # a single label always is
    with pytest.warns(UserWarning, match="multi_label"):
        assert zero_shot("sky", ["red", "green", "blue"], multi_class=True) == result


def test_all_pairs_of_a_chunk_are_one_call(zero_shot: ZeroShotClassification) -> None:
    results = zero_shot(["sky", "sea sky"], ["red", "green"])
    assert [result["sequence"] for result in results] == ["sky", "sea sky"]
    calls = seen(zero_shot)
    assert [len(call) for call in calls] == [4]
    words = ["[CLS]", "sky", "[SEP]", "[UNK]", "example", "is", "red", ".", "[SEP]"]
    assert calls[0][0] == [IDS[word] for word in words]


def test_each_text_may_have_its_own_labels(zero_shot: ZeroShotClassification) -> None:
    results = zero_shot(["sky", "sea"], [["red", "blue"], ["green"]])
    assert [result["labels"] for result in results] == [["blue", "red"], ["green"]]
    assert [score for result in results for score in result["scores"]] == pytest.approx([3 / 4, 1 / 4, 6 / 8])
    assert zero_shot("sky", [["red", "blue"]])["labels"] == ["blue", "red"]
    with pytest.raises(InputError, match="2 lists for 1 texts"):
        zero_shot(["sky"], [["red"], ["blue"]])
    with pytest.raises(InputError, match="fewer lists"):
        list(zero_shot(iter(["sky", "sea"]), [["red"]]))


def test_only_the_text_is_cut_never_the_hypothesis(zero_shot: ZeroShotClassification) -> None:
    assert zero_shot("sky " * 30, ["blue"])["scores"] == pytest.approx([3 / 5])
    (ids,) = seen(zero_shot)[0]
    assert len(ids) == WINDOW
    assert ids.count(IDS["sky"]) == WINDOW - 8  # [CLS] [SEP] This example is blue . [SEP]
    assert ids[-3:] == [IDS["blue"], IDS["."], IDS["[SEP]"]]
    assert zero_shot("sky " * 30, ["blue"], long_input="stride")["scores"] == pytest.approx([3 / 5])
    assert len(seen(zero_shot)[1]) > 1
    with pytest.raises(TooLongError):
        zero_shot("sky " * 30, ["blue"], long_input="error")
    with pytest.raises(InputError, match="no room"):
        zero_shot("sky", ["blue " * 30])


def test_windows_count_by_their_tokens(tmp_path: Path) -> None:
    def answer(ids: list[int], rows: Sequence[int] | None) -> dict[str, Any]:
        return {"logits": [0, 0, len(ids)]}

    task = ZeroShotClassification(make(tmp_path, answer, head=NLI), {})
    found = task(" ".join(["sky"] * 6), ["red", "green"], hypothesis_template="{} . . .", long_input="stride")
    # windows of 12 tokens (5 of the text) and of 9 (one shared, one new): both labels alike
    assert found["scores"] == pytest.approx([0.5, 0.5])
    single = task(" ".join(["sky"] * 6), "red", hypothesis_template="{} . . .", long_input="stride")
    weighted = (12 * 12 + 9 * 9) / (12 + 9)
    assert single["scores"] == pytest.approx([1 / (1 + np.exp(-weighted))])


@pytest.mark.parametrize(
    ("labels", "options"),
    [
        (None, {}),
        ([], {}),
        (" , ", {}),
        (5, {}),
        (["red", 5], {}),
        (["red"], {"hypothesis_template": "no place"}),
        (["red"], {"hypothesis_template": "{} and {}"}),
        (["red"], {"hypothesis_template": "{label}"}),
        (["red"], {"hypothesis_template": "{"}),
        (["red"], {"hypothesis_template": None}),
        (["red"], {"multilabel": True}),
    ],
)
def test_zero_shot_refuses(zero_shot: ZeroShotClassification, labels: Any, options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        zero_shot("sky", labels, **options)


def test_zero_shot_refuses_what_is_no_text(zero_shot: ZeroShotClassification) -> None:
    for value in ("", ["sky", ""], [5], 5, None):
        with pytest.raises(InputError):
            zero_shot(value, ["red"])
    assert zero_shot([], ["red"]) == []


@pytest.mark.parametrize(("entailment", "columns"), [(0, (2, 0)), (1, (0, 1)), (2, (0, 2)), (None, (0, 2))])
def test_columns_of_entailment_and_contradiction(
    tmp_path: Path, entailment: int | None, columns: tuple[int, int], recwarn: pytest.WarningsRecorder
) -> None:
    weights = [2, 3, 5]
    head = Head("sequence-classification", ("a", "b", "c"), entailment=entailment)
    model = make(tmp_path, lambda ids, rows: {"logits": np.log(weights)}, head=head)
    if entailment is None:
        with pytest.warns(UserWarning, match="entailment"):
            task = ZeroShotClassification(model, {})
    else:
        task = ZeroShotClassification(model, {})
    against, entailed = (weights[column] for column in columns)
    assert task("sky", "red")["scores"] == pytest.approx([entailed / (entailed + against)])


# fill-mask


def vocabulary(ids: list[int], rows: Sequence[int] | None) -> dict[str, Any]:
    """A mask at position p likes "red" p times as much as "green", and nothing else."""
    assert rows is not None
    logits = np.full((len(rows), len(IDS)), -100.0)
    logits[:, IDS["green"]] = 0
    logits[:, IDS["red"]] = np.log(rows)
    return {"logits": logits}


@pytest.fixture
def fill_mask(tmp_path: Path) -> FillMask:
    return FillMask(make(tmp_path, vocabulary), {})


def test_a_mask_is_filled_best_first(fill_mask: FillMask) -> None:
    first, second = fill_mask("sky is [MASK] .", top_k=2)
    assert first == {"score": pytest.approx(3 / 4), "token": IDS["red"], "token_str": "red", "sequence": "sky is red ."}
    assert (second["token_str"], second["score"]) == ("green", pytest.approx(1 / 4))
    assert len(fill_mask("[MASK]")) == 5
    assert fill_mask("[MASK]", top_k=0) == []
    assert len(fill_mask("[MASK]", top_k=1000)) == len(IDS)


def test_several_masks_give_lists_and_keep_each_other(fill_mask: FillMask) -> None:
    (first,), (second,) = fill_mask("[MASK] is [MASK]", top_k=1)
    assert second["sequence"] == "[CLS] [MASK] is red [SEP]"
    assert second["score"] == pytest.approx(3 / 4)
    assert first["score"] == pytest.approx(1 / 2)


def test_a_list_of_one_text_gives_what_the_text_gives(fill_mask: FillMask) -> None:
    alone = fill_mask("sky [MASK]", top_k=1)
    assert fill_mask(["sky [MASK]"], top_k=1) == alone
    assert fill_mask(["sky [MASK]"] * 2, top_k=1) == [alone, alone]
    assert fill_mask([["sky [MASK]"]], top_k=1) == alone
    assert fill_mask([]) == []
    assert list(fill_mask(iter(["sky [MASK]"]), top_k=1)) == [alone]


def test_targets_keep_their_share_of_the_whole_vocabulary(fill_mask: FillMask) -> None:
    (found,) = fill_mask("sky is [MASK]", targets="green")
    assert (found["token"], found["score"]) == (IDS["green"], pytest.approx(1 / 4))
    found = fill_mask("sky is [MASK]", targets=["green", "red", "green"])
    assert [item["token_str"] for item in found] == ["red", "green"]
    with pytest.warns(UserWarning, match=r"'green blue' is not in .* replaced by 'green'"):
        (found,) = fill_mask("sky is [MASK]", targets=["green blue"])
    assert found["token_str"] == "green"
    with pytest.warns(UserWarning, match="left out"):
        (found,) = fill_mask("sky is [MASK]", targets=["", "red"])
    assert found["token_str"] == "red"
    with pytest.warns(UserWarning, match="left out"), pytest.raises(InputError, match="at least one target"):
        fill_mask("sky is [MASK]", targets=[""])


def test_padding_tokens_are_left_out_of_the_sequence(fill_mask: FillMask) -> None:
    (found,) = fill_mask("[PAD] sky [MASK]", top_k=1)
    assert found["sequence"] == "sky red"


def test_a_long_text_is_an_error_cut_or_strided(fill_mask: FillMask) -> None:
    long = "[MASK] " + "sky " * 25 + "[MASK]"
    with pytest.raises(TooLongError):
        fill_mask(long)
    (cut,) = fill_mask(long, tokenizer_kwargs={"truncation": True, "max_length": 5, "padding": "max_length"}, top_k=1)
    assert cut["sequence"] == "red sky sky"
    (first,), (second,) = fill_mask(long, long_input="stride", top_k=1)
    assert first["sequence"] == "[CLS] red " + "sky " * 25 + "[MASK] [SEP]"
    assert second["sequence"] == "[CLS] [MASK] " + "sky " * 25 + "red [SEP]"
    *_, last = seen(fill_mask)
    assert len(last) == 2  # the windows between hold no mask, and are not run


def test_a_mask_in_two_windows_is_read_where_it_has_more_context(fill_mask: FillMask) -> None:
    # 10 words a window, 1 shared: the mask is the tenth word, the last of the first window and the first of the second
    text = "sky " * 9 + "[MASK]" + " sea" * 8
    (found,) = fill_mask(text, long_input="stride", top_k=1)
    assert found["score"] == pytest.approx(10 / 11)
    (found,) = fill_mask("sky " * 10 + "[MASK]" + " sea" * 8, long_input="stride", top_k=1)
    assert found["score"] == pytest.approx(2 / 3)


def test_fill_mask_refuses(fill_mask: FillMask, tmp_path: Path) -> None:
    for value in ("sky", "", ["sky [MASK]", "sky"], None, 5, [["[MASK]", "[MASK]"]]):
        with pytest.raises(InputError):
            fill_mask(value)
    with pytest.raises(InputError, match=r"this model's mask is \[MASK\], not <mask>"):
        fill_mask("sky <mask>")
    options: dict[str, Any]
    for options in ({"top_k": -1}, {"targets": 5}, {"targets": []}, {"tokenizer_kwargs": {"lengths": 5}}, {"topk": 5}):
        with pytest.raises(InputError):
            fill_mask("[MASK]", **options)
    with pytest.raises(BundleError, match="mask token"):
        FillMask(make(tmp_path, vocabulary, mask=False), {})


# feature-extraction and sentence-similarity


def hidden(ids: list[int], rows: Sequence[int] | None) -> dict[str, Any]:
    """Token t at position p: (t, p, 1, -t)."""
    return {"last_hidden_state": [[token, place, 1, -token] for place, token in enumerate(ids)]}


RED, SKY, CLS, SEP = (IDS[word] for word in ("red", "sky", "[CLS]", "[SEP]"))
RED_STATES = [[CLS, 0, 1, -CLS], [RED, 1, 1, -RED], [SEP, 2, 1, -SEP]]
RED_MEAN = np.mean(RED_STATES, axis=0)


@pytest.fixture
def features(tmp_path: Path) -> FeatureExtraction:
    return FeatureExtraction(make(tmp_path, hidden, pooling=Pooling(("mean",), normalize=True)), {})


def test_features_are_nested_as_transformers_nests_them(features: FeatureExtraction) -> None:
    assert features("red") == [RED_STATES]
    assert features(["red", "red"]) == [[RED_STATES], [RED_STATES]]
    assert features([]) == []
    assert features("red", tokenize_kwargs={"add_special_tokens": False}) == [[[RED, 0, 1, -RED]]]
    array = features("red", return_tensors=True)
    assert (array.shape, array.dtype) == ((1, 3, 4), np.float32)
    assert next(features(iter(["red"]), return_tensors="np")).shape == (1, 3, 4)


def test_any_option_of_pooling_gives_one_vector(features: FeatureExtraction) -> None:
    length = np.linalg.norm(RED_MEAN)
    assert features("red", pooling="mean") == pytest.approx(RED_MEAN / length)
    assert features("red", truncate_dim=2) == pytest.approx(RED_MEAN[:2] / length)
    assert features("red", normalize=False) == pytest.approx(RED_MEAN)
    assert features("red", truncate_dim=2, normalize=True) == pytest.approx(RED_MEAN[:2] / np.linalg.norm(RED_MEAN[:2]))
    assert features("red", pooling=["cls", "last"], normalize=False) == RED_STATES[0] + RED_STATES[2]
    (vector,) = features(["red"], pooling="max", return_tensors=True, normalize=False)
    assert vector.tolist() == [RED, 2, 1, -CLS]


def test_smaller_forms(features: FeatureExtraction) -> None:
    scaled = np.rint(RED_MEAN * 127 / RED_MEAN.max())
    assert features("red", precision="int8") == scaled.tolist()
    assert features("red", precision="ubinary") == [0b11100000]
    assert features("red", precision="binary") == [0b11100000 - 128]


def test_features_of_long_texts(features: FeatureExtraction) -> None:
    long = "sky " * 20
    with pytest.raises(TooLongError):
        features(long)
    assert features(long, truncation=True, return_tensors=True).shape == (1, WINDOW, 4)
    assert features(long, tokenize_kwargs={"max_length": 5}, return_tensors=True).shape == (1, 5, 4)
    assert features(long, long_input="truncate", return_tensors=True).shape == (1, WINDOW, 4)
    with pytest.raises(InputError, match="pooling"):
        features(long, long_input="stride")


def test_feature_extraction_refuses(features: FeatureExtraction) -> None:
    options: dict[str, Any]
    for options in (
        {"truncation": True, "tokenize_kwargs": {"truncation": True}},
        {"tokenize_kwargs": {"lengths": 3}},
        {"return_tensors": "pt"},
        {"pooling": "men"},
        {"pooling": []},
        {"precision": "int4"},
        {"truncate_dim": 0},
        {"normalize": "yes"},
        {"prompt_name": "qery"},
        {"prompt": 5},
        {"pool": "mean"},
    ):
        with pytest.raises(InputError):
            features("red", **options)


@pytest.fixture
def similar(tmp_path: Path) -> SentenceSimilarity:
    return SentenceSimilarity(make(tmp_path, hidden), {})


def test_one_vector_per_text(similar: SentenceSimilarity) -> None:
    assert similar.encode("red").tolist() == pytest.approx(RED_MEAN)  # mean, not normalized, where the bundle is silent
    assert similar.encode(["red", "sky sky"]).shape == (2, 4)
    assert similar.encode([]).shape == (0, 4)
    lazy = similar.encode("red" for _ in itertools.count())
    assert next(lazy).tolist() == pytest.approx(RED_MEAN)
    assert similar.encode(" \t red \n").tolist() == similar.encode("red").tolist()
    assert similar.encode(["red"], precision="ubinary").dtype == np.uint8


def test_the_pipelines_own_options_hold_unless_a_call_has_others(tmp_path: Path) -> None:
    task = SentenceSimilarity(make(tmp_path, hidden), {"truncate_dim": 3, "normalize": True, "prompt_name": "query"})
    assert task.encode("red").shape == (3,)
    assert task.encode("red", truncate_dim=2, normalize=False).tolist() == pytest.approx(RED_MEAN[:2])


def test_windows_of_a_long_text_weigh_as_much_as_their_tokens(similar: SentenceSimilarity) -> None:
    text = "sky " * 12
    assert similar.encode(text, pooling="last")[1] == WINDOW - 1  # cut, as sentence-transformers does
    # windows of 12 tokens, and of 3 words and 2 special tokens
    found = similar.encode(text, pooling="last", long_input="stride")
    assert found.tolist() == pytest.approx([SEP, (12 * 11 + 5 * 4) / 17, 1, -SEP])
    with pytest.raises(TooLongError):
        similar.encode(text, long_input="error")


def test_prompts(tmp_path: Path) -> None:
    def task(**facts: Any) -> SentenceSimilarity:
        return SentenceSimilarity(make(tmp_path, hidden, pooling=Pooling(**facts)), {})

    prompts = {"query": "query: ", "none": ""}
    with_prompt = similar_mean("query : red")
    assert task(prompts=prompts).encode("red").tolist() == pytest.approx(RED_MEAN)
    assert task(prompts=prompts).encode("red", prompt_name="query").tolist() == pytest.approx(with_prompt)
    assert task().encode("red", prompt="query: ").tolist() == pytest.approx(with_prompt)
    by_default = task(prompts=prompts, default_prompt="query")
    assert by_default.encode("red").tolist() == pytest.approx(with_prompt)
    assert by_default.encode("red", prompt_name="none").tolist() == pytest.approx(RED_MEAN)
    assert task().encode("red", prompt_name="document").tolist() == pytest.approx(RED_MEAN)  # every model knows it
    with pytest.warns(UserWarning, match="prompt_name is ignored"):
        assert by_default.encode("red", prompt="", prompt_name="query").tolist() == pytest.approx(RED_MEAN)
    with pytest.raises(InputError, match="did you mean 'query'"):
        by_default.encode("red", prompt_name="qury")
    # [CLS] query : red [SEP]: the first three take no part
    left_out = task(prompts=prompts, include_prompt=False)
    assert left_out.encode("red", prompt_name="query").tolist() == pytest.approx(
        [(RED + SEP) / 2, 3.5, 1, -(RED + SEP) / 2]
    )
    assert left_out.encode("red").tolist() == pytest.approx(RED_MEAN)
    weighted = left_out.encode("red", prompt_name="query", pooling="weighted_mean")
    assert weighted[1] == pytest.approx((4 * 3 + 5 * 4) / (4 + 5))
    assert left_out.encode("red", prompt_name="query", pooling="cls").tolist() == [CLS, 0, 1, -CLS]


def similar_mean(text: str) -> list[float]:
    ids = [CLS, *(IDS[word] for word in text.split()), SEP]
    mean: list[float] = np.mean(hidden(ids, None)["last_hidden_state"], axis=0).tolist()
    return mean


def test_similarity_of_texts_and_of_vectors(similar: SentenceSimilarity) -> None:
    assert similar.similarity([[1, 0], [3, 4]], np.array([0, 2.0])) == pytest.approx(np.array([[0], [0.8]]))
    assert similar.similarity("red", ["red", "sky"])[0, 0] == pytest.approx(1)
    assert similar.similarity("red", similar.encode(["sky"])) == pytest.approx(similar.similarity("red", "sky"))
    assert similar("red", ["red"]) == pytest.approx([1])
    one = similar("red", ["sky", "red"])
    question = {"source_sentence": "red", "sentences": ["sky", "red"]}
    assert similar(question) == one
    assert similar([question, {"source_sentence": "sky", "sentences": ["sky"]}]) == [one, pytest.approx([1])]
    assert list(similar(iter([question]))) == [one]


def test_dot_product_where_the_model_was_trained_for_it(tmp_path: Path) -> None:
    task = SentenceSimilarity(make(tmp_path, hidden, similarity="dot"), {})
    assert task("red", ["red"]) == pytest.approx([float(RED_MEAN @ RED_MEAN)])
    assert task.similarity([1, 2], [[3, 4]]).tolist() == [[11]]


def test_similarity_refuses(similar: SentenceSimilarity) -> None:
    for value in ({"source_sentence": "red"}, {"source_sentence": "red", "sentences": []}, "red", 5, [5], None):
        with pytest.raises(InputError):
            similar(value)
    for left, right in (([1, 2], [1, 2, 3]), (None, "red"), ([["red"]], "red"), (np.zeros((2, 2, 2)), "red")):
        with pytest.raises(InputError):
            similar.similarity(left, right)
    with pytest.raises(InputError):
        similar.encode(["red", 5])


# logits, where these tasks lean on it


def test_pooling_without_the_prompt() -> None:
    states = np.array([[1, 8], [2, 4], [6, 2]], np.float32)
    expected = {
        "cls": [1, 8],
        "last": [6, 2],
        "max": [6, 4],
        "mean": [4, 3],
        "mean_sqrt_len": [8 / 2**0.5, 6 / 2**0.5],
        "weighted_mean": [(2 * 2 + 3 * 6) / 5, (2 * 4 + 3 * 2) / 5],
    }
    for mode, vector in expected.items():
        assert pool(states, mode, skip=1).tolist() == pytest.approx(vector)
    assert pool(states, "mean", skip=3).tolist() == [0, 0]


def test_best_of_none() -> None:
    assert best(np.array([1.0, 2.0]), 0).tolist() == []
