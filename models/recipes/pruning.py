"""Heads and inner units of BERT layers that matter least, and the model without them. Knows layers, no task.

What matters is estimated as Michel et al. (2019) and Molchanov et al. (2017) do: by how much the loss would change, to first order,
if a head or a unit were silent.
"""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import BatchEncoding, PreTrainedModel

__all__ = ["halve"]


def halve(model: PreTrainedModel, batches: Sequence[tuple[BatchEncoding, np.ndarray]]) -> None:
    """Take half of the heads and of the inner units out of a BERT classifier, where it is; layers may lose more or fewer.

    Args:
        model: Changed in place.
        batches: Texts as the model reads them, and their labels.
    """
    heads, units = _worth(model, batches)
    kept_heads, kept_units = _best_half(heads, least=2), _best_half(units, least=64)
    layers = model.bert.encoder.layer
    gone = {
        number: [head for head in range(len(worth)) if head not in kept]
        for number, (worth, kept) in enumerate(zip(heads, kept_heads, strict=True))
    }
    model.prune_heads({number: heads for number, heads in gone.items() if heads})
    for layer, kept in zip(layers, kept_units, strict=True):
        chosen = torch.tensor(kept)
        up, down = layer.intermediate.dense, layer.output.dense
        up.weight = torch.nn.Parameter(up.weight.detach()[chosen].clone())
        up.bias = torch.nn.Parameter(up.bias.detach()[chosen].clone())
        down.weight = torch.nn.Parameter(down.weight.detach()[:, chosen].clone())
        up.out_features = down.in_features = len(kept)


def _worth(
    model: PreTrainedModel, batches: Sequence[tuple[BatchEncoding, np.ndarray]]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Per layer what each head, and each inner unit, is worth."""
    layers = model.bert.encoder.layer
    size = model.config.hidden_size // model.config.num_attention_heads
    seen: dict[tuple[str, int], torch.Tensor] = {}
    hooks = []
    for number, layer in enumerate(layers):
        for kind, module in (("heads", layer.attention.output.dense), ("units", layer.output.dense)):

            def note(_: torch.nn.Module, given: tuple[torch.Tensor], key: tuple[str, int] = (kind, number)) -> None:
                given[0].retain_grad()
                seen[key] = given[0]

            hooks.append(module.register_forward_pre_hook(note))
    heads = [np.zeros(model.config.num_attention_heads) for _ in layers]
    units = [np.zeros(layer.intermediate.dense.out_features) for layer in layers]
    model.eval()
    for texts, labels in batches:
        loss = torch.nn.functional.cross_entropy(model(**texts).logits, torch.from_numpy(labels))
        loss.backward()
        for (kind, number), value in seen.items():
            change = (value.detach() * value.grad).sum(dim=1)  # [texts, width], all tokens of a text together
            if kind == "heads":
                heads[number] += change.reshape(len(change), -1, size).sum(-1).abs().sum(0).numpy()
            else:
                units[number] += change.abs().sum(0).numpy()
        model.zero_grad()
    for hook in hooks:
        hook.remove()
    return heads, units


def _best_half(worth: Sequence[np.ndarray], *, least: int) -> list[list[int]]:
    """Per layer what to keep: the better half of all, but `least` of each layer; layers are compared by their own norm."""
    scaled = [part / max(float(np.linalg.norm(part)), 1e-12) for part in worth]
    border = float(np.median(np.concatenate(scaled)))
    return [sorted({*np.flatnonzero(part > border).tolist(), *np.argsort(-part)[:least].tolist()}) for part in scaled]
