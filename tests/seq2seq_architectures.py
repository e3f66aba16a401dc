"""The encoder-decoders of transformers 4.57.6, one row each: where their tensors are, and the config of a small one."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from seq2seq_tensors import BartKin, Json, T5Kin

__all__ = ["SEQ2SEQ", "VOCABULARY", "Architecture"]

VOCABULARY = 384


@dataclass(frozen=True)
class Architecture:
    """One architecture, or a kind of checkpoint of it.

    Attributes:
        name: The class that writes text.
        model_type: As in config.json.
        kin: Gives its tensors.
        config: The small default `config.json`, without architecture, vocabulary and version.
        tokenizer: The class of its tokenizer.
        base: Name of the base model inside the class, with its dot.
        layers: Path of a layer below its side; `{}` takes its number.
        tables: Whether tables of positions are stored by default, where the class stores computed ones at times (Pegasus, Marian).
        own_words: Whether encoder and decoder have tables of their own where words are not tied to the head.
        logits_bias: Whether a bias of the logits is stored.
        gain: Default gain of its matrices: the more, the more text varies, and the more rounding shows in logits.
        generation: Keys of `generation_config.json` beside those that are in `config.json`.
    """

    name: str
    model_type: str
    kin: BartKin | T5Kin
    config: Json
    tokenizer: str
    base: str = "model."
    layers: str = "layers.{}."
    tables: bool = True
    own_words: bool = False
    logits_bias: bool = True
    gain: float = 2.0
    generation: Json = field(default_factory=dict)


_DROPOUT = {"activation_dropout": 0.0, "attention_dropout": 0.0, "dropout": 0.1}
_LAYERDROP = {"encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0}
# The ids of byte-level and fairseq vocabularies
_FAIRSEQ = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
_SIZES: Json = {
    "activation_function": "gelu",
    "d_model": 64,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 96,
    "decoder_ffn_dim": 96,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "num_hidden_layers": 2,
    "max_position_embeddings": 128,
    "init_std": 0.02,
    "is_encoder_decoder": True,
    "scale_embedding": False,
    "use_cache": True,
    **_DROPOUT,
    **_LAYERDROP,
}
_LABELS = {f"LABEL_{number}": number for number in range(3)}
_BART = Architecture(
    "BartForConditionalGeneration",
    "bart",
    BartKin(),
    {
        **_SIZES,
        **_FAIRSEQ,
        "classifier_dropout": 0.0,
        "decoder_start_token_id": 2,
        "forced_eos_token_id": 2,
        "id2label": {str(number): label for label, number in _LABELS.items()},
        "label2id": _LABELS,
    },
    "BartTokenizer",
    own_words=True,
)
_MARIAN = Architecture(
    "MarianMTModel",
    "marian",
    BartKin(offset=0, embedding_norm=False),
    {
        **_SIZES,
        "activation_function": "swish",
        "decoder_start_token_id": 383,
        "decoder_vocab_size": VOCABULARY,
        "eos_token_id": 0,
        "forced_eos_token_id": 0,
        "pad_token_id": 383,
        "scale_embedding": True,
        "share_encoder_decoder_embeddings": True,
    },
    "MarianTokenizer",
    tables=False,
    generation={"bad_words_ids": [[383]]},
)
_T5 = Architecture(
    "T5ForConditionalGeneration",
    "t5",
    T5Kin(thinned=16),
    {
        "classifier_dropout": 0.0,
        "d_ff": 96,
        "d_kv": 16,
        "d_model": 64,
        "decoder_start_token_id": 0,
        "dense_act_fn": "relu",
        "dropout_rate": 0.1,
        "eos_token_id": 1,
        "feed_forward_proj": "relu",
        "initializer_factor": 1.0,
        "is_encoder_decoder": True,
        "is_gated_act": False,
        "layer_norm_epsilon": 1e-6,
        "num_decoder_layers": 2,
        "num_heads": 4,
        "num_layers": 3,
        "pad_token_id": 0,
        "relative_attention_max_distance": 20,
        "relative_attention_num_buckets": 16,
        "use_cache": True,
    },
    "T5Tokenizer",
    base="",
    layers="block.{}.",
    logits_bias=False,
    gain=20.0,
)


def _like(row: Architecture, name: str, model_type: str, kin: BartKin | T5Kin, **config: Any) -> Architecture:
    return replace(row, name=name, model_type=model_type, kin=kin, config={**row.config, **config})


def _without(row: Architecture, *keys: str) -> Architecture:
    return replace(row, config={key: value for key, value in row.config.items() if key not in keys})


_UNLABELLED = _without(_BART, "id2label", "label2id")
_GATED = {"feed_forward_proj": "gated-gelu", "dense_act_fn": "gelu_new", "is_gated_act": True}
_BLENDERBOT = Architecture(
    "BlenderbotForConditionalGeneration",
    "blenderbot",
    BartKin(offset=0, embedding_norm=False, final_norm=True),
    {
        **_SIZES,
        **_FAIRSEQ,
        # heads of 4
        "d_model": 32,
        "encoder_attention_heads": 8,
        "decoder_attention_heads": 8,
        "decoder_start_token_id": 0,
        "encoder_no_repeat_ngram_size": 3,
        "forced_eos_token_id": 2,
        "scale_embedding": True,
    },
    "PreTrainedTokenizerFast",
    gain=4.0,
)

SEQ2SEQ: Mapping[str, Architecture] = {
    "t5": _T5,
    # T5 1.1 and FLAN
    "t5-gated": replace(
        _like(_T5, "T5ForConditionalGeneration", "t5", T5Kin(), tie_word_embeddings=False, **_GATED), gain=2.5
    ),
    "mt5": replace(
        _like(
            _T5,
            "MT5ForConditionalGeneration",
            "mt5",
            T5Kin(),
            tie_word_embeddings=False,
            d_kv=8,
            num_heads=6,
            tokenizer_class="T5Tokenizer",
            **_GATED,
        ),
        gain=2.5,
    ),
    "umt5": _like(
        _T5,
        "UMT5ForConditionalGeneration",
        "umt5",
        T5Kin(every=True, thinned=16),
        tokenizer_class="T5Tokenizer",
        **_GATED,
    ),
    "bart": _BART,
    "distilbart": _like(_BART, _BART.name, "bart", _BART.kin, encoder_layers=3, decoder_layers=1, num_hidden_layers=3),
    "mbart": replace(
        _like(_UNLABELLED, "MBartForConditionalGeneration", "mbart", BartKin(final_norm=True), scale_embedding=True),
        tokenizer="MBartTokenizer",
        gain=4.0,
    ),
    "marian": _MARIAN,
    # A vocabulary for each side
    "marian-separate": _like(
        replace(_MARIAN, generation={"bad_words_ids": [[349]]}),
        "MarianMTModel",
        "marian",
        _MARIAN.kin,
        decoder_start_token_id=349,
        decoder_vocab_size=350,
        pad_token_id=349,
        share_encoder_decoder_embeddings=False,
        tie_word_embeddings=False,
    ),
    "m2m_100": Architecture(
        "M2M100ForConditionalGeneration",
        "m2m_100",
        BartKin(offset=0, embedding_norm=False, final_norm=True),
        {
            **_SIZES,
            **_FAIRSEQ,
            "activation_function": "relu",
            "decoder_start_token_id": 2,
            "scale_embedding": True,
        },
        "PreTrainedTokenizerFast",
        gain=4.0,
        tables=False,
        own_words=True,
        logits_bias=False,
    ),
    "pegasus": Architecture(
        "PegasusForConditionalGeneration",
        "pegasus",
        BartKin(offset=0, embedding_norm=False, final_norm=True),
        {
            **_SIZES,
            "activation_function": "relu",
            "decoder_start_token_id": 0,
            "eos_token_id": 1,
            "forced_eos_token_id": 1,
            "pad_token_id": 0,
            "scale_embedding": True,
        },
        "PreTrainedTokenizerFast",
        gain=4.0,
    ),
    "blenderbot": _BLENDERBOT,
    "blenderbot-small": _like(
        replace(_without(_BLENDERBOT, "encoder_no_repeat_ngram_size"), gain=2.0),
        "BlenderbotSmallForConditionalGeneration",
        "blenderbot-small",
        BartKin(offset=0),
        d_model=64,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
    ),
}
