"""`tokenizer.json` from SentencePiece models. Knows neither vocab.txt nor the table of classes.

What the parts are follows `SpmConverter` and its subclasses of transformers 4.57 (convert_slow_tokenizer.py), and the
constructors of the fast tokenizers they feed.
"""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgenlp.errors import CheckpointError, UnsupportedError

from .draft import Document, Draft, Roles, document, replace
from .files import Settings
from .sentencepiece import Algorithm, Kind, SentencePieceModel, read_sentencepiece
from .tokens import content

__all__ = [
    "SPACE",
    "build_albert",
    "build_camembert",
    "build_deberta_v2",
    "build_gemma",
    "build_llama",
    "build_nllb",
    "build_pegasus",
    "build_t5",
    "build_xlm_roberta",
    "fairseq_template",
    "literal_template",
    "merges",
    "pegasus_template",
    "precompiled",
    "t5_template",
    "update_ends",
]

SPACE = "▁"
Scored = list[tuple[str, float]]


def build_xlm_roberta(path: Path, settings: Settings, roles: Roles, codes: Sequence[str] = ()) -> Document:
    """XLM-RoBERTa, mBART: fairseq's four tokens for the model's first three; language codes and <mask> at the end."""
    spm = read_sentencepiece(path)
    head = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    vocab = [*head, *_scored(spm)[3:], *((token, 0.0) for token in (*codes, "<mask>"))]
    return _unigram_document(path, spm, vocab, unk_id=3)


def build_nllb(path: Path, settings: Settings, roles: Roles) -> Document:
    """NLLB: fairseq's four tokens for the model's first three; <mask> and the languages are added tokens."""
    spm = read_sentencepiece(path)
    head = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    return _unigram_document(path, spm, [*head, *_scored(spm)[3:]], unk_id=3)


def build_pegasus(path: Path, settings: Settings, roles: Roles) -> Document:
    """PEGASUS: its special tokens and "<unk_2>" ... for the model's first two pieces."""
    spm = read_sentencepiece(path)
    offset = settings.count("offset", 103)
    tokens = [content(roles["pad"]), content(roles["eos"])]
    sentence = settings.special("mask_token_sent", "<mask_1>")
    if sentence is not None:
        tokens.append(content(sentence))
        if roles["mask"] is not None and offset > 3:
            tokens.append(content(roles["mask"]))
    head = [*((token, 0.0) for token in tokens), *((f"<unk_{index}>", -100.0) for index in range(2, offset))]
    whole = _unigram_document(path, spm, [*head, *_scored(spm)[2:]], unk_id=spm.unk_id + offset)
    parts = [{"type": "WhitespaceSplit"}, whole["pre_tokenizer"]]
    whole["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": parts}
    return whole


def build_camembert(path: Path, settings: Settings, roles: Roles) -> Document:
    """CamemBERT: five tokens of fairseq before the model's own, whose first is dropped."""
    spm = read_sentencepiece(path)
    head = [("<s>NOTUSED", 0.0), ("<pad>", 0.0), ("</s>NOTUSED", 0.0), ("<unk>", 0.0), ("<unk>NOTUSED", -100.0)]
    return _unigram_document(path, spm, [*head, *_scored(spm)[1:], ("<mask>", 0.0)], unk_id=3)


def build_t5(path: Path, settings: Settings, roles: Roles) -> Document:
    """T5: the model's pieces, then <extra_id_99> down to <extra_id_0>."""
    spm = read_sentencepiece(path)
    count = settings.count("extra_ids", 100)
    vocab = [*_scored(spm), *((f"<extra_id_{index}>", 0.0) for index in reversed(range(count)))]
    scheme = "never"
    if settings.values.get("add_prefix_space", True):  # null means no here
        scheme = "always" if settings.flag("legacy", True) else "first"
    return _unigram_document(path, spm, vocab, unk_id=spm.unk_id, scheme=scheme)


def build_albert(path: Path, settings: Settings, roles: Roles) -> Document:
    """ALBERT: quotes made plain, accents and case taken out unless the settings keep them; no pieces like "9,"."""
    spm = read_sentencepiece(path)
    vocab = [(text, score - 100 if _is_number_comma(text) else score) for text, score in _scored(spm)]
    parts = [replace("``", '"'), replace("''", '"')]
    if not settings.flag("keep_accents", False):
        parts += [{"type": "NFKD"}, {"type": "StripAccents"}]
    if settings.flag("do_lower_case", True):
        parts.append({"type": "Lowercase"})
    parts += [*precompiled(spm), replace(" {2,}", " ", regex=True)]
    return _unigram_document(path, spm, vocab, unk_id=spm.unk_id, normalizers=parts)


def _is_number_comma(text: str) -> bool:
    return len(text) > 1 and text[-1] == "," and text[-2].isdigit()


def build_deberta_v2(path: Path, settings: Settings, roles: Roles) -> Document:
    """DeBERTa v2 and v3: the model's pieces; case and punctuation as the settings say."""
    spm = read_sentencepiece(path)
    parts: list[Document] = [{"type": "Lowercase"}] if settings.flag("do_lower_case", False) else []
    parts += [{"type": "Strip", "strip_left": True, "strip_right": True}, *precompiled(spm)]
    parts.append(replace(" {2,}", " ", regex=True))
    whole = _unigram_document(path, spm, _scored(spm), unk_id=spm.unk_id, normalizers=parts)
    splits = [{"type": "Punctuation", "behavior": "Isolated"}] if settings.flag("split_by_punct", False) else []
    whole["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [*splits, whole["pre_tokenizer"]]}
    return whole


def build_llama(path: Path, settings: Settings, roles: Roles) -> Document:
    """Llama, Mistral, Phi-3: BPE with bytes for unknown characters, no split at spaces."""
    spm = read_sentencepiece(path)
    names = [settings.decoder[index].content if index in settings.decoder else spm.pieces[index].text
             for index in range(min(3, len(spm.pieces)))]  # fmt: skip
    vocab = [*((name, 0.0) for name in names), *_scored(spm)[3:]]
    prefix = bool(settings.values.get("add_prefix_space", True))  # null means no here
    legacy = settings.flag("legacy", True)
    normalizer = pre_tokenizer = None
    if legacy:
        prepend: list[Document] = [{"type": "Prepend", "prepend": SPACE}] if prefix else []
        normalizer = {"type": "Sequence", "normalizers": [*prepend, replace(" ", SPACE)]}
    else:
        pre_tokenizer = {**_metaspace("first" if prefix else "never"), "split": False}
    return document(
        _model(path, spm, vocab, unk_id=0, byte_fallback=True, known=_ids(spm)),
        normalizer=normalizer,
        pre_tokenizer=pre_tokenizer,
        decoder=_byte_fallback_decoder(strip=prefix),
        added_tokens=_own_tokens(spm),
    )


def build_gemma(path: Path, settings: Settings, roles: Roles) -> Document:
    """Gemma: BPE with bytes for unknown characters, spaces written out and none put before the text."""
    spm = read_sentencepiece(path)
    names = [content(roles.get(role)) for role in ("pad", "eos", "bos")]
    vocab = [*((name, 0.0) for name in names), *_scored(spm)[3:]]
    known: dict[str, int] = _ids(spm)
    if "<0x09>" in known:  # older models have no piece for the tab, only its byte
        known.setdefault("\t", known["<0x09>"])
    if all(text != "\t" for text, _ in vocab):
        vocab = [("\t", 0.0) if text == "<0x09>" else (text, score) for text, score in vocab]
    return document(
        _model(path, spm, vocab, unk_id=3, byte_fallback=True, known=known),
        normalizer=replace(" ", SPACE),
        pre_tokenizer={"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False},
        decoder=_byte_fallback_decoder(strip=False),
        added_tokens=_own_tokens(spm, special={"<start_of_turn>", "<end_of_turn>"}),
    )


def fairseq_template(draft: Draft) -> Document:
    """<s> A </s>, and <s> A </s> </s> B </s>, with these very tokens whatever the roles say."""
    return draft.template(["<s>", "$A", "</s>"], ["<s>", "$A", "</s>", "</s>", "$B", "</s>"])


def literal_template(draft: Draft) -> Document:
    """[CLS] A [SEP], and [CLS] A [SEP] B [SEP], with these very tokens whatever the roles say."""
    return draft.template(["[CLS]", "$A", "[SEP]"], ["[CLS]", "$A", "[SEP]", "$B:1", "[SEP]:1"])


def t5_template(draft: Draft) -> Document:
    """A </s>, and A </s> B </s>."""
    return draft.template(["$A", "</s>"], ["$A", "</s>", "$B", "</s>"])


def pegasus_template(draft: Draft) -> Document:
    """A </s>, and A B </s>."""
    eos = draft.required("eos")
    return draft.template(["$A", eos], ["$A", "$B", eos])


def update_ends(draft: Draft, *, bos: bool, eos: bool) -> None:
    """Put the tokens that begin and end a sequence around each text (`LlamaTokenizerFast.update_post_processor`).

    Args:
        draft: The tokenizer.
        bos: Whether the class adds the first where `add_bos_token` is absent.
        eos: Whether it adds the last where `add_eos_token` is absent.
    """
    first = [draft.required("bos")] if draft.settings.flag("add_bos_token", bos) else []
    last = [draft.required("eos")] if draft.settings.flag("add_eos_token", eos) else []
    single = [*first, "$A", *last]
    second = [*(f"{token}:1" for token in first), "$B:1", *(f"{token}:1" for token in last)]
    draft.document["post_processor"] = draft.template(single, [*single, *second])


def precompiled(spm: SentencePieceModel) -> list[Document]:
    """The model's own normalization rules as a normalizer: one, or none."""
    charsmap = base64.b64encode(spm.charsmap).decode("ascii")
    return [{"type": "Precompiled", "precompiled_charsmap": charsmap}] if charsmap else []


def _unigram_document(
    path: Path,
    spm: SentencePieceModel,
    vocab: Scored,
    *,
    unk_id: int,
    scheme: str = "always",
    normalizers: Sequence[Document] | None = None,
) -> Document:
    """What most classes share: words begin with "▁", and byte pieces are not used."""
    if normalizers is None:
        strip: Document = {"type": "Strip", "strip_left": False, "strip_right": True}
        normalizers = [*precompiled(spm), strip, replace(" {2,}", SPACE, regex=True)]
    return document(
        _model(path, spm, vocab, unk_id=unk_id, byte_fallback=False, known=_ids(spm)),
        normalizer={"type": "Sequence", "normalizers": list(normalizers)},
        pre_tokenizer=_metaspace(scheme),
        decoder=_metaspace(scheme),
        added_tokens=_own_tokens(spm),
    )


def _model(
    path: Path, spm: SentencePieceModel, vocab: Scored, *, unk_id: int, byte_fallback: bool, known: Mapping[str, int]
) -> Document:
    if spm.algorithm is Algorithm.UNIGRAM:
        if unk_id >= len(vocab):
            raise CheckpointError(
                f"{path} has too few pieces for its tokenizer class; take the file from the checkpoint"
            )
        return {"type": "Unigram", "unk_id": unk_id, "vocab": vocab, "byte_fallback": byte_fallback}
    if spm.algorithm is Algorithm.BPE:
        return {
            "type": "BPE",
            "dropout": None,
            "unk_token": spm.unk_piece,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": byte_fallback,
            "ignore_merges": False,
            "vocab": {text: index for index, (text, _) in enumerate(vocab)},
            "merges": merges(known, dict(vocab)),
        }
    raise UnsupportedError(
        f"{path} was trained with SentencePiece's {spm.algorithm.name.lower()} algorithm; supported are unigram and bpe"
    )


def merges(known: Mapping[str, int], scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """The merges that a BPE model leaves unsaid: each split of a piece in two, best piece first (`generate_merges`)."""
    merges: list[tuple[float, str, str]] = []
    for text, score in scores.items():
        splits = [(text[:at], text[at:]) for at in range(1, len(text))]
        possible = [(left, right) for left, right in splits if left in known and right in known]
        possible.sort(key=lambda pair: (known[pair[0]], known[pair[1]]))
        merges += [(score, left, right) for left, right in possible]
    merges.sort(key=lambda merge: (merge[0], len(merge[1]), len(merge[2])), reverse=True)
    return [(left, right) for _, left, right in merges]


def _scored(spm: SentencePieceModel) -> Scored:
    return [(piece.text, piece.score) for piece in spm.pieces]


def _ids(spm: SentencePieceModel) -> dict[str, int]:
    return {piece.text: index for index, piece in enumerate(spm.pieces)}


def _own_tokens(spm: SentencePieceModel, special: frozenset[str] | set[str] = frozenset()) -> list[Document]:
    """The model's control and user-defined pieces, which are cut out of the text before it is segmented."""
    return [
        {"content": piece.text, "normalized": False, "special": piece.kind is Kind.CONTROL or piece.text in special}
        for piece in spm.pieces
        if piece.kind in (Kind.CONTROL, Kind.USER_DEFINED)
    ]


def _metaspace(scheme: str) -> Document:
    return {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": True}


def _byte_fallback_decoder(*, strip: bool) -> Document:
    parts = [replace(SPACE, " "), {"type": "ByteFallback"}, {"type": "Fuse"}]
    if strip:
        parts.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": parts}
