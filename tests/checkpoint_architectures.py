"""What the eight BERT-type encoders call their parts, and the config of a small one: knows no values and no files."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from checkpoint_tensors import Layer, MaskedHead, Names

__all__ = ["ARCHITECTURES", "Architecture"]


@dataclass(frozen=True)
class Architecture:
    """One architecture.

    Attributes:
        name: Stem of the class names ("Bert" in "BertForMaskedLM").
        names: Module paths of its weights.
        config: The small default `config.json`, without labels and vocabulary.
        offset: Number of the first position (RoBERTa and MPNet count from padding_idx + 1).
    """

    name: str
    names: Names
    config: Mapping[str, Any]
    offset: int = 0


def _bert_config(**changes: Any) -> dict[str, Any]:
    return {
        "attention_probs_dropout_prob": 0.1,
        "classifier_dropout": None,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": 32,
        "initializer_range": 0.02,
        "intermediate_size": 64,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "pad_token_id": 0,
        "position_embedding_type": "absolute",
        "type_vocab_size": 2,
        "use_cache": True,
    } | changes


def _roberta_config(**changes: Any) -> dict[str, Any]:
    special = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    shape = {"layer_norm_eps": 1e-5, "max_position_embeddings": 66, "type_vocab_size": 1}
    return _bert_config(**special | shape | changes)


_BERT_LAYER = Layer(
    path="encoder.layer.{}.",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    out="attention.output.dense",
    norm1="attention.output.LayerNorm",
    up="intermediate.dense",
    down="output.dense",
    norm2="output.LayerNorm",
)
_BERT = Names(
    prefix="bert",
    layer=_BERT_LAYER,
    masked=MaskedHead(
        dense="cls.predictions.transform.dense",
        norm="cls.predictions.transform.LayerNorm",
        decoder="cls.predictions.decoder",
        bias="cls.predictions.bias",
    ),
    pooler="pooler.dense",
    projection=None,
    classifier=("", "classifier"),
    pools=True,
)
_ROBERTA = Names(
    prefix="roberta",
    layer=_BERT_LAYER,
    masked=MaskedHead(dense="lm_head.dense", norm="lm_head.layer_norm", decoder="lm_head.decoder", bias="lm_head.bias"),
    pooler="pooler.dense",
    projection=None,
    classifier=("classifier.dense", "classifier.out_proj"),
)
_ELECTRA = replace(
    _ROBERTA,
    prefix="electra",
    masked=MaskedHead(
        dense="generator_predictions.dense",
        norm="generator_predictions.LayerNorm",
        decoder="generator_lm_head",
        bias="generator_lm_head.bias",
    ),
    pooler=None,
    projection="embeddings_project",
)
_DISTILBERT = Names(
    prefix="distilbert",
    layer=Layer(
        path="transformer.layer.{}.",
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        out="attention.out_lin",
        norm1="sa_layer_norm",
        up="ffn.lin1",
        down="ffn.lin2",
        norm2="output_layer_norm",
    ),
    masked=MaskedHead(
        dense="vocab_transform", norm="vocab_layer_norm", decoder="vocab_projector", bias="vocab_projector.bias"
    ),
    pooler=None,
    projection=None,
    classifier=("pre_classifier", "classifier"),
)
_ALBERT = Names(
    prefix="albert",
    layer=Layer(
        path="encoder.albert_layer_groups.{}.albert_layers.{}.",
        query="attention.query",
        key="attention.key",
        value="attention.value",
        out="attention.dense",
        norm1="attention.LayerNorm",
        up="ffn",
        down="ffn_output",
        norm2="full_layer_layer_norm",
    ),
    masked=MaskedHead(
        dense="predictions.dense", norm="predictions.LayerNorm", decoder="predictions.decoder", bias="predictions.bias"
    ),
    pooler="pooler",
    projection="encoder.embedding_hidden_mapping_in",
    classifier=("", "classifier"),
    pools=True,
)
_MPNET = replace(
    _ROBERTA,
    prefix="mpnet",
    layer=Layer(
        path="encoder.layer.{}.",
        query="attention.attn.q",
        key="attention.attn.k",
        value="attention.attn.v",
        out="attention.attn.o",
        norm1="attention.LayerNorm",
        up="intermediate.dense",
        down="output.dense",
        norm2="output.LayerNorm",
    ),
)
_DISTILBERT_CONFIG = {
    "activation": "gelu",
    "attention_dropout": 0.1,
    "dim": 32,
    "dropout": 0.1,
    "hidden_dim": 64,
    "initializer_range": 0.02,
    "max_position_embeddings": 64,
    "n_heads": 4,
    "n_layers": 2,
    "pad_token_id": 0,
    "qa_dropout": 0.1,
    "seq_classif_dropout": 0.2,
    "sinusoidal_pos_embds": False,
}
_ELECTRA_CONFIG = _bert_config(
    embedding_size=16, summary_activation="gelu", summary_last_dropout=0.1, summary_type="first", summary_use_proj=True
)
_ALBERT_CONFIG = _bert_config(
    attention_probs_dropout_prob=0,
    bos_token_id=2,
    classifier_dropout_prob=0.1,
    embedding_size=16,
    eos_token_id=3,
    hidden_act="gelu_new",
    hidden_dropout_prob=0,
    inner_group_num=1,
    num_hidden_groups=1,
    num_hidden_layers=3,
)
_CAMEMBERT_CONFIG = _roberta_config(num_hidden_layers=3, bos_token_id=5, eos_token_id=6)
_MPNET_CONFIG = {
    key: value
    for key, value in _roberta_config(relative_attention_num_buckets=32).items()
    if key not in ("classifier_dropout", "position_embedding_type", "type_vocab_size", "use_cache")
}
ARCHITECTURES = {
    "bert": Architecture("Bert", _BERT, _bert_config()),
    "distilbert": Architecture("DistilBert", _DISTILBERT, _DISTILBERT_CONFIG),
    "roberta": Architecture("Roberta", _ROBERTA, _roberta_config(), offset=2),
    "xlm-roberta": Architecture(
        "XLMRoberta", _ROBERTA, _roberta_config(hidden_size=48, max_position_embeddings=130), offset=2
    ),
    "camembert": Architecture("Camembert", _ROBERTA, _CAMEMBERT_CONFIG, offset=2),
    "electra": Architecture("Electra", _ELECTRA, _ELECTRA_CONFIG),
    "albert": Architecture("Albert", _ALBERT, _ALBERT_CONFIG),
    "mpnet": Architecture("MPNet", _MPNET, _MPNET_CONFIG, offset=2),
}
