"""An encoder-decoder out of an encoder, with a decoder that copies before it is trained. Knows weights, no task.

BART's layers are BERT's, with a cross-attention in those of the decoder. `bart_of` takes a BERT encoder's weights for both. What no
encoder has is the cross-attention, and to learn from nothing how to look something up in the source takes longer than a laptop should
be kept busy. `copying` gives it a first version, by least squares and in seconds:

* keys say which token stands BEFORE a place of the source, as far as the encoder's states let it be read off them, and queries say
  which token was written last; so that a place is attended to whose predecessor was just written;
* values say which token stands AT the place, in the terms of the word table that the head is tied to.
"""

from collections.abc import Sequence

import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertModel,
    PreTrainedTokenizerBase,
)

__all__ = ["bart_of", "copying", "copying_loss"]

_FEW = 1e-3  # ridge, times the number of examples
_SHARP = (10.0, 20.0, 40.0)
_LOUD = (10.0, 20.0, 40.0)
_PARTS = (
    ("self_attn.q_proj", "attention.self.query"),
    ("self_attn.k_proj", "attention.self.key"),
    ("self_attn.v_proj", "attention.self.value"),
    ("self_attn.out_proj", "attention.output.dense"),
    ("self_attn_layer_norm", "attention.output.LayerNorm"),
    ("fc1", "intermediate.dense"),
    ("fc2", "output.dense"),
    ("final_layer_norm", "output.LayerNorm"),
)


def bart_of(
    bert: BertModel, tokenizer: PreTrainedTokenizerBase, *, reads: Sequence[int], writes: Sequence[int]
) -> BartForConditionalGeneration:
    """BART with a BERT encoder's weights.

    Args:
        bert: The encoder.
        tokenizer: Its own.
        reads: Which of its layers are the encoder's.
        writes: Which of them are, with a cross-attention more that adds nothing yet, the decoder's.
    """
    said = bert.config
    heads, inner = said.num_attention_heads, said.intermediate_size
    model = BartForConditionalGeneration(
        BartConfig(
            vocab_size=said.vocab_size, d_model=said.hidden_size, max_position_embeddings=said.max_position_embeddings,
            encoder_layers=len(reads), encoder_attention_heads=heads, encoder_ffn_dim=inner,
            decoder_layers=len(writes), decoder_attention_heads=heads, decoder_ffn_dim=inner,
            dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, activation_function=said.hidden_act,
            bos_token_id=tokenizer.cls_token_id, eos_token_id=tokenizer.sep_token_id, pad_token_id=tokenizer.pad_token_id,
            decoder_start_token_id=tokenizer.cls_token_id, forced_eos_token_id=None,
        )
    )  # fmt: skip
    with torch.no_grad():
        words = bert.embeddings
        model.model.shared.weight.copy_(words.word_embeddings.weight)
        positions = words.position_embeddings.weight + words.token_type_embeddings.weight[0]
        for side, numbers in ((model.model.encoder, reads), (model.model.decoder, writes)):
            side.embed_positions.weight[-len(positions) :] = positions  # two rows before the first are never read
            side.layernorm_embedding.load_state_dict(words.LayerNorm.state_dict())
            for layer, number in zip(side.layers, numbers, strict=True):
                _take(layer, bert, number)
        for layer in model.model.decoder.layers:
            layer.encoder_attn.load_state_dict(layer.self_attn.state_dict())
            layer.encoder_attn.out_proj.weight.zero_()
            layer.encoder_attn.out_proj.bias.zero_()
    return model.eval()


def _take(layer: torch.nn.Module, bert: BertModel, number: int) -> None:
    own = bert.encoder.layer[number]
    for name, theirs in _PARTS:
        layer.get_submodule(name).load_state_dict(own.get_submodule(theirs).state_dict())


@torch.no_grad()
def copying(model: BartForConditionalGeneration, texts: Sequence[list[int]]) -> float:
    """Make the decoder's last cross-attention look up what follows the token that was written last.

    Args:
        model: One of `bart_of`, changed in place.
        texts: Ids of some hundred texts.

    Returns:
        `copying_loss` of a few of them.
    """
    layer = model.model.decoder.layers[-1]
    cross, words = layer.encoder_attn, model.model.shared.weight
    size = cross.head_dim
    told = [_states(model, ids) for ids in texts]
    source = torch.cat([read[1:] for read, _ in told])
    here = torch.cat([torch.tensor(ids[1:]) for ids in texts])
    before = torch.cat([torch.tensor(ids[:-1]) for ids in texts])
    names = _names(words, before, power=0.5)
    key, key_bias = _fitted(source, names[before])
    read_by = torch.tensor([token for ids in texts for token in ids])
    query, query_bias = _fitted(torch.cat([written for _, written in told]), names[read_by])
    # The directions in which the predecessor can be told best, the same ones for every head
    axes = torch.linalg.svd(torch.cov((source @ key.T).T))[0][:, :size].T
    value = _fitted(source, _names(words, here, power=1.0)[here])
    parts = {
        "q_proj": ((axes @ query).repeat(cross.num_heads, 1), (axes @ query_bias).repeat(cross.num_heads)),
        "k_proj": ((axes @ key).repeat(cross.num_heads, 1), (axes @ key_bias).repeat(cross.num_heads)),
        "v_proj": value,
    }
    cross.out_proj.weight.copy_(torch.eye(len(key)))
    sample = [ids[:40] for ids in texts[:5]]
    found = []
    for sharp in _SHARP:
        for loud in _LOUD:
            _set(cross, parts, sharp, loud)
            found.append((copying_loss(model, sample), sharp, loud))
    least, sharp, loud = min(found)
    _set(cross, parts, sharp, loud)
    return least


def _set(
    cross: torch.nn.Module, parts: dict[str, tuple[torch.Tensor, torch.Tensor]], sharp: float, loud: float
) -> None:
    """How sure the cross-attention is of a place, and how loud it says what is there."""
    even = (sharp * cross.head_dim**0.5) ** 0.5  # attention divides by the root of a head's width
    for (name, own), scale in zip(parts.items(), (even, even, loud), strict=True):
        for given, wanted in zip((cross.get_submodule(name).weight, cross.get_submodule(name).bias), own, strict=True):
            given.copy_(scale * wanted)


def _states(model: BartForConditionalGeneration, ids: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """States [tokens, width] of the encoder, and those that the decoder's last cross-attention would ask with, of a text."""
    seen = []
    hook = model.model.decoder.layers[-1].encoder_attn.register_forward_pre_hook(
        lambda _, given, named: seen.append((given or (named["hidden_states"],))[0]), with_kwargs=True
    )
    row = torch.tensor([ids])
    read = model.model(input_ids=row, decoder_input_ids=row).encoder_last_hidden_state
    hook.remove()
    return read[0], seen[0][0]


def _names(words: torch.Tensor, used: torch.Tensor, *, power: float) -> torch.Tensor:
    """A direction for each token [vocabulary, width]: with 1/2 far from those of others in use, with 1 from their words."""
    apart = words - words[used].mean(dim=0)
    axes, spread, _ = torch.linalg.svd(torch.cov(apart[used].T))
    return torch.nn.functional.normalize(apart @ axes / (spread + 0.02 * spread.mean()) ** power @ axes.T, dim=1)


def _fitted(given: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of the linear map from `given` to `wanted` with the least squares."""
    middle, aim = given.mean(dim=0), wanted.mean(dim=0)
    apart = given - middle
    ridge = _FEW * len(apart) * torch.eye(apart.shape[1])
    weight = torch.linalg.solve(apart.T @ apart + ridge, apart.T @ (wanted - aim)).T
    return weight, aim - weight @ middle


@torch.no_grad()
def copying_loss(model: BartForConditionalGeneration, texts: Sequence[list[int]]) -> float:
    """Nats a token where each text is to be written as it stands."""
    total = 0.0
    for ids in texts:
        row = torch.tensor([ids])
        logits = model(input_ids=row, decoder_input_ids=row[:, :-1]).logits[0]
        total += float(torch.nn.functional.cross_entropy(logits, row[0, 1:]))
    return total / len(texts)
