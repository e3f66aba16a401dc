"""What DeBERTa answers, in plain numpy: the reference that bundles are verified against. Knows no graph and no session.

It shares the names of the checkpoint's tensors and the rows of distances with the graph writer, nothing else.
"""

from collections.abc import Sequence

import numpy as np

from ..checkpoint import Checkpoint
from ..families.deberta_distances import rows_of_distances
from ..families.deberta_parts import Convolution, Disentangled, DisentangledEncoder, Distances
from ..families.parts import Head
from .activations import activate
from .blocks import Floats, attend
from .encoder import EncoderForward
from .heads import Window, answers

__all__ = ["forward"]


def forward(
    checkpoint: Checkpoint,
    body: DisentangledEncoder,
    head: Head,
    windows: Sequence[Window],
    rows: Sequence[Sequence[int]],
) -> list[Floats]:
    """The forward pass in float32; see `forward_encoder`."""
    model = _Reference(checkpoint, windows)
    return answers(model, model.states(body), head, windows, rows)


class _Reference(EncoderForward):
    """Layers that also look at distances."""

    def states(self, body: DisentangledEncoder) -> Floats:
        x = self.embeddings(body.words, body.positions, body.types)
        embedded = x = self.norm(self.dense(x, body.projection) if body.projection else x, body.norm)
        far = self.norm(self.tensor(body.distances.table), body.distances.norm) if body.distances else None
        for place, part in enumerate(body.layers):
            x = self.layer(x, part, body.distances, far)
            if place == 0 and body.convolution:
                x = self.norm(x + self.convolve(embedded, body.convolution), body.convolution.norm)
            self._checkpoint.release()
        return x

    def layer(self, x: Floats, part: Disentangled, distances: Distances | None, far: Floats | None) -> Floats:
        layer = part.layer
        attention = layer.attention
        mixed = []
        for q, k, v in self.heads(x, [attention.query, attention.key, attention.value], attention.heads):
            added = self.distance_scores(q, k, part, distances, far) if distances and far is not None else None
            mixed.append(attend(q, k, v, scale=part.scale, added=added))
        return self.behind_attention(np.concatenate(mixed), x, layer)

    def distance_scores(self, q: Floats, k: Floats, part: Disentangled, distances: Distances, far: Floats) -> Floats:
        """Scaled scores of one text's queries and keys [tokens, heads, size] with distances: [heads, queries, keys]."""
        places = np.arange(len(q))
        rows = rows_of_distances(places[:, None] - places[None], distances)
        used = far[: 2 * distances.span]
        added = np.zeros((q.shape[1], len(q), len(q)), np.float32)
        if part.position_key:
            table = self.dense(used, part.position_key).reshape(len(used), *q.shape[1:])
            added += np.take_along_axis(np.einsum("ihd,rhd->hir", q, table), rows[None], axis=2)
        if part.position_query:
            table = self.dense(used, part.position_query).reshape(len(used), *k.shape[1:])
            added += np.take_along_axis(np.einsum("rhd,jhd->hrj", table, k), rows[None], axis=1)
        return added * np.float32(part.scale)

    def convolve(self, x: Floats, part: Convolution) -> Floats:
        """The convolution along each text, with nothing before and after it, and its activation."""
        weight, bias = self.tensor(part.weight), self.tensor(part.bias)
        width, grouped = weight.shape[2], weight.reshape(part.groups, -1, *weight.shape[1:])
        given = []
        for text in self.split(x):
            padded = np.pad(text, ((width // 2, width // 2), (0, 0))).reshape(-1, part.groups, weight.shape[1])
            taps = (np.einsum("tgi,goi->tgo", padded[tap : tap + len(text)], grouped[..., tap]) for tap in range(width))
            given.append(sum(taps, np.float32(0)).reshape(len(text), -1) + bias)
        return activate(np.concatenate(given).astype(np.float32), part.activation)
