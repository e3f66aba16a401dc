"""The calls of pipelines whose answers are recorded, and the checkpoints they run on. Knows no answer."""

from typing import Any

from checkpoints import ENTITIES
from goldens import Json
from tokenizer_folders import DATA

__all__ = ["calls"]

_LINES = [line.strip() for line in (DATA / "udhr_sample.txt").read_text("utf-8").split("\n") if line.strip()]
LONG = " ".join(_LINES[:4])  # English, some 500 tokens of the small vocabularies
LONG_CHINESE = "".join(line for line in _LINES if "\u4e00" <= line[0] <= "\u9fff")[:220]
TEXTS = [
    "All human beings are born free and equal in dignity and rights.",
    "Angela Merkel lives in Berlin, and O'Neil doesn't.",
    "Où habitent-ils ? À Besançon, près de l'église Sainte-Élisabeth…",
    "人人生而自由，在尊严和权利上一律平等。",
    "すべての人間は、生まれながらにして自由",
    "I ♥ 🇫🇷 and 👩‍👩‍👧‍👦!",
    "يولد جميع الناس أحرارًا",
    "כל בני האדם נולדו",
    "सभी मनुष्यों को गौरव",
    "  two  spaces \t tab\n\nlines\u00a0nbsp\u3000wide  ",
    "",
    " ",
    "a",
    "é",
    "e\u0301 cafe\u0301 ﬁne ½ Straße İstanbul",
    "don't we'll I'M ``quoted'' 1,000.50 $5",
]
SHORT = [TEXTS[1], TEXTS[5], TEXTS[9]]
_MASKS = {"bert": "[MASK]", "roberta": "<mask>", "xlm-roberta": "<mask>", "albert": "[MASK]", "bpe": "<mask>"}
KINDS = tuple(_MASKS)  # one per kind of tokenizer, and ALBERT's, which lower-cases and drops accents
POSITIONS = {"max_position_embeddings": 128}


def _checkpoint(kind: str, head: str, seed: int, **values: Any) -> Json:
    if kind == "bpe":
        return {"architecture": "bert", "head": head, "seed": seed, "tokenizer": "LlamaTokenizer", **values}
    return {"architecture": kind, "head": head, "seed": seed, **values}


def _call(checkpoint: Json, *args: Any, init: Json | None = None, **kwargs: Any) -> Json:
    return {"checkpoint": checkpoint, "init": init or {}, "args": list(args), "kwargs": kwargs}


def calls() -> dict[str, list[Json]]:
    """Task to its calls: {"checkpoint", "init", "args", "kwargs"}."""
    return {
        "text-classification": _text_classification(),
        "zero-shot-classification": _zero_shot(),
        "token-classification": _token_classification(),
        "question-answering": _question_answering(),
        "fill-mask": _fill_mask(),
        "feature-extraction": _feature_extraction(),
    }


def _text_classification() -> list[Json]:
    head, one, pair = "sequence_classification", TEXTS[0], {"text": TEXTS[0], "text_pair": TEXTS[1]}
    short = {"text": "Where is Élise?", "text_pair": "in Köln"}
    found = []
    for number, kind in enumerate((*KINDS, "distilbert", "camembert", "electra", "mpnet")):
        checkpoint = _checkpoint(kind, head, 1000 + number)
        found += [
            _call(checkpoint, TEXTS, top_k=None),
            _call(checkpoint, one),
            _call(checkpoint, [short, {"text": "a"}]),
        ]
    bert = _checkpoint("bert", head, 1000)
    for options in (
        {"top_k": 1},
        {"top_k": 2},
        {"top_k": 9},
        {"top_k": None},
        {"return_all_scores": True},
        {"return_all_scores": False},
        {"return_all_scores": True, "top_k": 2},
        {"function_to_apply": "sigmoid"},
        {"function_to_apply": "softmax"},
        {"function_to_apply": "none", "top_k": None},
        {"function_to_apply": "SIGMOID", "top_k": None},
        {"function_to_apply": "bogus"},
        {"batch_size": 2},
    ):
        for value in (one, [one, TEXTS[2]], pair, [pair]):
            found.append(_call(bert, value, **options))
        if "batch_size" not in options:
            found += [_call(bert, one, init=options), _call(bert, [one, TEXTS[2]], init=options)]
    found += [
        _call(bert, one, init={"top_k": 2}, top_k=1),
        _call(bert, one, init={"top_k": None}, return_all_scores=False),
    ]
    found += [
        _call(bert, []),
        _call(bert, [[["premise text", "second text"]]]),
        _call(bert, [["premise text", "second text"]]),
        _call(bert, [[one, TEXTS[1]], [TEXTS[2], TEXTS[3]]]),
        _call(bert, {"text": one, "text_pair": ""}),
        _call(bert, {"text": "", "text_pair": one}),
        _call(bert, None),
        _call(bert, 5),
        _call(bert, LONG),
        _call(bert, LONG, truncation=True),
        _call(bert, LONG, truncation="longest_first", top_k=None),
        _call(bert, [LONG, one], truncation=True, max_length=16),
        _call(bert, one, max_length=8, truncation=True),
        _call(bert, one, max_length=8),
        _call(bert, one, truncation=True, padding=True),
        _call(bert, one, truncation=True, padding="max_length", max_length=40),
        _call(bert, {"text": LONG, "text_pair": one}, truncation=True),
        _call(bert, {"text": LONG, "text_pair": one}, truncation="only_first"),
        _call(bert, {"text": one, "text_pair": LONG}, truncation="only_second", max_length=40),
        _call(bert, {"text": LONG, "text_pair": LONG}, truncation=True, top_k=None),
        _call(bert, {"text": one, "text_pair": LONG}, truncation="only_first"),
        _call(bert, LONG, init={"truncation": True}),
        _call(bert, LONG, truncation="bogus"),
        _call(_checkpoint("bert", head, 1000, tokenizer_config={"truncation_side": "left"}), LONG, truncation=True),
        _call(_checkpoint("roberta", head, 1001), [LONG, LONG_CHINESE], truncation=True, top_k=None),
        _call(_checkpoint("roberta", head, 1001), LONG),
    ]
    heads = {
        "multi": {"config": {"problem_type": "multi_label_classification"}},
        "regression": {"config": {"problem_type": "regression"}, "labels": ["score"]},
        "two scores": {"config": {"problem_type": "regression"}, "labels": ["x", "y"]},
        "one label": {"labels": ["only"]},
        "single": {"config": {"problem_type": "single_label_classification"}, "labels": ["NEGATIVE", "POSITIVE"]},
        "function": {"config": {"function_to_apply": "sigmoid"}},
        "all": {"config": {"return_all_scores": True}},
    }
    for number, values in enumerate(heads.values()):
        checkpoint = _checkpoint("bert", head, 1020 + number, **values)
        found += [_call(checkpoint, one), _call(checkpoint, [one, ""]), _call(checkpoint, one, top_k=None)]
        found += [
            _call(checkpoint, one, function_to_apply="sigmoid"),
            _call(checkpoint, one, function_to_apply="softmax"),
        ]
    return found


def _zero_shot() -> list[Json]:
    head, one = "sequence_classification", TEXTS[0]
    found = []
    for number, kind in enumerate((*KINDS, "distilbert", "mpnet")):
        checkpoint = _checkpoint(kind, head, 1100 + number, gain=1.3)
        found += [
            _call(checkpoint, TEXTS[1:10], candidate_labels=["politics", "santé", "科学"]),
            _call(checkpoint, one, candidate_labels="sport, food ,travel", multi_label=True),
        ]
    bert = _checkpoint("bert", head, 1100, gain=1.3)
    labels = ["politics", "food", "travel", "free will"]
    for options in (
        {"candidate_labels": labels},
        {"candidate_labels": "politics"},
        {"candidate_labels": ["politics"]},
        {"candidate_labels": " politics ,, food "},
        {"candidate_labels": ["politics", "politics", "food"]},
        {"candidate_labels": []},
        {"candidate_labels": ""},
        {"candidate_labels": labels, "multi_label": True},
        {"candidate_labels": labels, "multi_label": False},
        {"candidate_labels": labels, "multi_class": True},
        {"candidate_labels": labels, "hypothesis_template": "C'est {}."},
        {"candidate_labels": labels, "hypothesis_template": "{} or {}?"},
        {"candidate_labels": labels, "hypothesis_template": "{0}, {0}"},
        {"candidate_labels": labels, "hypothesis_template": "{{}} {}"},
        {"candidate_labels": labels, "hypothesis_template": "{:>12}"},
        {"candidate_labels": labels, "hypothesis_template": "{label}"},
        {"candidate_labels": labels, "hypothesis_template": "{0} {1}"},
        {"candidate_labels": labels, "hypothesis_template": "nothing"},
        {"candidate_labels": labels, "hypothesis_template": ""},
        {"candidate_labels": labels, "hypothesis_template": "{"},
        {},
    ):
        found.append(_call(bert, one, **options))
    found += [
        _call(bert, one, labels),
        _call(bert, one, labels, multi_label=True),
        _call(bert, one, labels, "C'est {}."),
        _call(bert, [one, TEXTS[2]], labels),
        _call(bert, [one], labels),
        _call(bert, [], labels),
        _call(bert, "", labels),
        _call(bert, " ", labels),
        _call(bert, one, init={"candidate_labels": labels}),
        _call(bert, one, init={"candidate_labels": "a, b", "multi_label": True, "hypothesis_template": "{}"}),
        _call(bert, one, labels, init={"hypothesis_template": "About {}."}),
        _call(bert, LONG, labels),
        _call(bert, [LONG, LONG_CHINESE], labels, multi_label=True),
        _call(bert, "a short one", ["politics", LONG]),
        _call(bert, LONG, ["politics", LONG]),
        _call(bert, one, labels, batch_size=3),
    ]
    names = [
        ("entailment", "neutral", "contradiction"),
        ("ENTAILED", "NOT"),
        ("not_entailment", "entailment"),
        ("neutral", "entailment", "contradiction"),
        ("LABEL_0", "LABEL_1", "LABEL_2"),
        ("x", "entail_a", "Entail_b"),
    ]
    for number, given in enumerate(names):
        checkpoint = _checkpoint("bert", head, 1120 + number, labels=list(given), gain=1.3)
        found += [_call(checkpoint, one, labels), _call(checkpoint, one, labels, multi_label=True)]
        found.append(_call(checkpoint, one, "politics"))
    return found


def _token_classification() -> list[Json]:
    head, one = "token_classification", TEXTS[1]
    strategies = ("none", "simple", "first", "average", "max")
    found = []
    for number, kind in enumerate(KINDS):
        checkpoint = _checkpoint(kind, head, 1200 + number)
        for strategy in strategies:
            texts = TEXTS if strategy in ("simple", "first") else [*SHORT, TEXTS[3], TEXTS[14]]
            found.append(_call(checkpoint, texts, aggregation_strategy=strategy))
        found += [
            _call(checkpoint, LONG[:600], aggregation_strategy="simple", stride=8),
            _call(checkpoint, LONG[:600], aggregation_strategy="first", stride=16),
            _call(checkpoint, one.split(), is_split_into_words=True),
            _call(
                checkpoint,
                [one.split(), ["Où", "habitent-ils", "?"]],
                is_split_into_words=True,
                aggregation_strategy="max",
            ),
        ]
    bert = _checkpoint("bert", head, 1200)
    for options in (
        {},
        {"ignore_labels": []},
        {"ignore_labels": ["O", "B-PER"]},
        {"ignore_labels": ["PER"], "aggregation_strategy": "simple"},
        {"ignore_labels": [], "aggregation_strategy": "average"},
        {"grouped_entities": True},
        {"grouped_entities": False},
        {"grouped_entities": True, "ignore_subwords": True},
        {"ignore_subwords": True},
        {"grouped_entities": True, "ignore_subwords": False},
        {"aggregation_strategy": "FIRST"},
        {"aggregation_strategy": "bogus"},
        {"stride": 4},
        {"stride": 4, "aggregation_strategy": "simple"},
        {"stride": 4, "aggregation_strategy": "none"},
        {"stride": 64, "aggregation_strategy": "simple"},
        {"stride": 200, "aggregation_strategy": "simple"},
        {"batch_size": 2},
    ):
        found.append(_call(bert, one, **options))
        if "batch_size" not in options:
            found.append(_call(bert, [one, TEXTS[2]], init=options))
    long = LONG[:420]
    for options in (
        {},
        {"aggregation_strategy": "simple"},
        {"stride": 0, "aggregation_strategy": "simple"},
        {"stride": 4, "aggregation_strategy": "average"},
        {"stride": 30, "aggregation_strategy": "max"},
        {"stride": 61, "aggregation_strategy": "simple"},
        {"stride": 62, "aggregation_strategy": "simple"},
        {"stride": 8, "aggregation_strategy": "simple", "ignore_labels": []},
        {"stride": 8},
    ):
        found.append(_call(bert, long, **options))
    found += [
        _call(bert, [long, "a", ""], stride=8, aggregation_strategy="simple"),
        _call(bert, []),
        _call(bert, None),
        _call(bert, [""]),
        _call(bert, ["Ann", "lives"], is_split_into_words=True, delimiter=""),
        _call(bert, ["Ann", "lives"], is_split_into_words=True, delimiter=" - ", aggregation_strategy="simple"),
        _call(bert, ["Ann", "", " ", "in New York"], is_split_into_words=True, aggregation_strategy="first"),
        _call(bert, [["Ann", "lives"]], is_split_into_words=True),
        _call(bert, "Ann lives", is_split_into_words=True),
        _call(bert, long.split(), is_split_into_words=True, aggregation_strategy="simple", stride=8),
        _call(bert, long.split(), is_split_into_words=True, aggregation_strategy="simple"),
        _call(bert, "ab", offset_mapping=[[[0, 0], [0, 1], [1, 2], [0, 0]]]),
        _call(bert, ["ab", "cd"], offset_mapping=[[[0, 0], [0, 2], [0, 0]]]),
        _call(bert, "unaffable, ☃☃ Ω≈ç", aggregation_strategy="first"),
    ]
    names = [["A", "B", "C"], ["O", "PER", "LOC"], ["B-X-Y", "I-X-Y", "I-X", "O"], list(ENTITIES[::-1])]
    for number, given in enumerate(names):
        checkpoint = _checkpoint("bert", head, 1220 + number, labels=given)
        found += [_call(checkpoint, TEXTS[:2], aggregation_strategy=strategy) for strategy in strategies]
    return found


def _question_answering() -> list[Json]:
    head, question, context = "question_answering", "Who is born free?", TEXTS[0]
    found = []
    for number, kind in enumerate((*KINDS, "mpnet")):
        checkpoint = _checkpoint(kind, head, 1300 + number)
        for text in [*TEXTS[:10], TEXTS[14], TEXTS[15]]:
            found.append(_call(checkpoint, question="Où est l'église ?", context=text, top_k=3))
        # More answers than tokens would be spans of score 0, of which numpy's partition chooses as it likes
        found.append(_call(checkpoint, question="Où est l'église ?", context="a"))
        found += [
            _call(checkpoint, question=question, context=LONG, top_k=4),
            _call(checkpoint, question=question, context=LONG_CHINESE, top_k=2, align_to_words=False),
            _call(checkpoint, question=question, context=LONG, handle_impossible_answer=True, top_k=5),
        ]
    bert = _checkpoint("bert", head, 1300)
    for options in (
        {},
        {"top_k": 1},
        {"top_k": 50},
        {"topk": 2},
        {"top_k": 0},
        {"max_answer_len": 1, "top_k": 4},
        {"max_answer_len": 0},
        {"max_answer_len": 60, "top_k": 4},
        {"align_to_words": False, "top_k": 6},
        {"handle_impossible_answer": True},
        {"handle_impossible_answer": True, "top_k": 30},
        {"max_seq_len": 20, "top_k": 3},
        {"max_seq_len": 20, "doc_stride": 2, "top_k": 3},
        {"max_seq_len": 20, "doc_stride": 0},
        {"max_seq_len": 20, "doc_stride": 30},
        {"max_seq_len": 20, "doc_stride": 19},
        {"max_seq_len": 4},
        {"max_question_len": 2},
        {"max_question_len": 2, "max_seq_len": 20},
        {"padding": True},
        {"padding": "max_length", "top_k": 3},
        {"batch_size": 2},
    ):
        found.append(_call(bert, question=question, context=context + " " + TEXTS[1], **options))
        if "batch_size" not in options:
            found.append(_call(bert, question=question, context=TEXTS[1], init=options))
    item, other = {"question": question, "context": context}, {"question": "Where?", "context": TEXTS[1]}
    found += [
        _call(bert, item),
        _call(bert, [item]),
        _call(bert, [item, other]),
        _call(bert, [item, other], top_k=2),
        _call(bert, item, other),
        _call(bert, question, context),
        _call(bert, data=[item, other]),
        _call(bert, X=item),
        _call(bert, question=[question, "Where?"], context=context),
        _call(bert, question=[question, "Where?"], context=[context, TEXTS[1]]),
        _call(bert, question=[question], context=[context]),
        _call(bert, question=[question, "Where?"], context=[context]),
        _call(bert, question=question, context=[context]),
        _call(bert, question="", context=context),
        _call(bert, question=question, context=""),
        _call(bert, question=None, context=context),
        _call(bert, {"question": question}),
        _call(bert, {"question": None, "context": context}),
        _call(bert, []),
        _call(bert, question=question),
        _call(bert, "only one"),
        _call(bert, question=question, context=" "),
        _call(bert, question=" ", context=context),
        _call(bert, question=question, context="?"),
        _call(bert, question=question, context="Free free FREE fREE", top_k=3),
        _call(bert, question=LONG, context=context),
        _call(bert, question=LONG[:100], context=LONG, top_k=3),
        _call(bert, question=question, context=LONG, doc_stride=4, top_k=6, max_answer_len=4),
        _call(bert, question=question, context="🇫🇷👩‍👩‍👧‍👦 e\u0301 x", top_k=6, align_to_words=False),
        _call(bert, question="[CLS] [SEP]?", context="a [CLS] b [SEP] c", top_k=4),
    ]
    wide = _checkpoint("bert", head, 1310, config=POSITIONS, tokenizer_config={"model_max_length": 512})
    found += [
        _call(wide, question=question, context=context),
        _call(wide, question=question, context=LONG, max_seq_len=100),
    ]
    return found


def _fill_mask() -> list[Json]:
    head = "masked_lm"
    found = []
    for number, (kind, mask) in enumerate(_MASKS.items()):
        checkpoint = _checkpoint(kind, head, 1400 + number)
        texts = [
            f"All human {mask} are born free.",
            f"{mask} human beings",
            f"the end {mask}",
            mask,
            f"人人{mask}而自由",
            f"  two  {mask}  spaces ",
            f"Où{mask} à 👩‍👩‍👧‍👦, don't .",
            f"يولد {mask} الناس",
        ]
        found += [_call(checkpoint, text, top_k=3) for text in texts]
        found += [
            _call(checkpoint, texts[:2], top_k=2),
            _call(checkpoint, f"All {mask} beings {mask} born {mask}{mask}.", top_k=2),
            _call(checkpoint, texts[0], targets=["the", "freedom", " and", "Ω"]),
            _call(checkpoint, texts[0], targets="the"),
            _call(checkpoint, texts[0], targets=["qqqqqq", "日本"], top_k=1),
        ]
    bert, text = _checkpoint("bert", head, 1400), "All human [MASK] are born free."
    for options in (
        {},
        {"top_k": 1},
        {"top_k": 7},
        {"top_k": 5000},
        {"top_k": 0},
        {"targets": ["the", "and", "the"]},
        {"targets": ["the", "and", "of"], "top_k": 2},
        {"targets": []},
        {"targets": [""]},
        {"targets": ["", "the"]},
        {"targets": "[MASK]"},
        {"targets": ["##s", "S"]},
        {"tokenizer_kwargs": {"truncation": True}},
        {"batch_size": 2},
    ):
        found.append(_call(bert, text, **options))
        if "batch_size" not in options:
            found.append(_call(bert, [text, "[MASK]"], init=options))
    found += [
        _call(bert, "no mask here"),
        _call(bert, ""),
        _call(bert, []),
        _call(bert, None),
        _call(bert, [text]),
        _call(bert, [[text]]),
        _call(bert, [text, "none here"]),
        _call(bert, ["[MASK] a [MASK]", text], top_k=2),
        _call(bert, "[MASK] a [MASK]", targets=["the", "and"]),
        _call(bert, "<mask> here"),
        _call(bert, "[mask] here"),
        _call(bert, "[MASK] " + LONG),
        _call(bert, "[MASK] " + LONG, tokenizer_kwargs={"truncation": True}, top_k=1),
        _call(bert, "[MASK] " + LONG, tokenizer_kwargs={"truncation": True, "max_length": 12}, top_k=2),
        _call(bert, LONG + " [MASK]", tokenizer_kwargs={"truncation": True}),
        _call(bert, "[PAD] a [MASK] [PAD] b [SEP]", top_k=2),
        _call(
            _checkpoint("bert", head, 1400, tokenizer_config={"clean_up_tokenization_spaces": False}),
            "[MASK] , it 's .",
            top_k=1,
        ),
        _call(
            _checkpoint("bert", head, 1400, tokenizer_config={"clean_up_tokenization_spaces": True}),
            "[MASK] , it 's .",
            top_k=1,
        ),
    ]
    for number, kind in enumerate(("distilbert", "camembert", "electra", "mpnet")):
        mask = "<mask>" if kind in ("camembert", "mpnet") else "[MASK]"
        found.append(_call(_checkpoint(kind, head, 1420 + number), f"Born {mask} and equal.", top_k=3))
    return found


def _feature_extraction() -> list[Json]:
    head, narrow = "encoder", {"hidden_size": 8, "num_attention_heads": 2}
    found = []
    for number, kind in enumerate(KINDS):
        checkpoint = _checkpoint(kind, head, 1500 + number, config=narrow)
        found += [_call(checkpoint, "Free and équal 人"), _call(checkpoint, ["a", "", "👩‍👧 x"])]
    bert = _checkpoint("bert", head, 1500, config=narrow)
    found += [
        _call(bert, []),
        _call(bert, ["a"]),
        _call(bert, None),
        _call(bert, LONG),
        _call(bert, "born free and equal", truncation=True),
        _call(bert, "born free and equal", tokenize_kwargs={"truncation": True, "max_length": 4}),
        _call(bert, "born free and equal", tokenize_kwargs={"truncation": True, "max_length": 4}, truncation=True),
        _call(bert, "born free and equal", init={"tokenize_kwargs": {"truncation": True, "max_length": 3}}),
        _call(bert, ["born free", "a"], batch_size=2),
        _call(bert, "a", return_tensors=False),
        _call(bert, "a", tokenize_kwargs={"add_special_tokens": False}),
    ]
    return found
