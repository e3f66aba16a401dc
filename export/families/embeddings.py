"""What an encoder of BERT's kind reads: words, positions and token types, added up. Knows no norm and no layer behind them."""

import numpy as np

from ..checkpoint import Checkpoint
from ..graph import Graph
from .layers import Layers
from .places import counted, counted_but

__all__ = ["Embeddings", "declare_inputs"]


def declare_inputs(graph: Graph, checkpoint: Checkpoint, types: str | None) -> None:
    """Declare `input_ids`, `lengths` and, where its table (`types`) has more than one row, `token_type_ids`."""
    graph.input("input_ids", ("batch", "sequence"))
    if types and checkpoint.shape(types)[0] > 1:
        graph.input("token_type_ids", ("batch", "sequence"))
    graph.input("lengths", ("batch",))


class Embeddings(Layers):
    """Writes the sum of a token's embeddings."""

    def embeddings(
        self,
        words: str,
        positions: str | None,
        types: str | None,
        *,
        first_position: int = 0,
        skipped_id: int | None = None,
        shared: bool = False,
    ) -> str:
        """The rows of three tables, added up: [batch, sequence, width]. All tokens are of type 0 if `token_type_ids` is no input.

        Args:
            words: Name of the word table.
            positions: Name of the position table, None where there is none.
            types: Name of the token-type table, None where there is none.
            first_position: Row of the position table that the first token takes.
            skipped_id: Token that takes the row before that one, None where there is no such token.
            shared: Whether the word table is held as the language modelling head is.
        """
        graph, tensor = self.graph, self.checkpoint.tensor
        kinds = np.asarray(tensor(types), np.float32) if types else None
        typed = kinds is not None and "token_type_ids" in graph.input_names
        x = graph.table("input_ids", words, tensor(words), "/embeddings/words", head=shared)
        if positions:
            rows = np.asarray(tensor(positions), np.float32)[first_position - (skipped_id is not None) :]
            if kinds is not None and not typed:  # one row, added to all positions once and for all
                rows = rows + kinds[0]
            name = "/embeddings/places"
            places = counted(graph, name) if skipped_id is None else counted_but(graph, skipped_id, name)
            found = graph.table(places, positions, rows, "/embeddings/positions")
            x = graph.node("Add", [x, found], "/embeddings/words+positions")
        if types and kinds is not None and typed:
            found = graph.node("Gather", [graph.tensor(types, kinds), "token_type_ids"], "/embeddings/types")
            x = graph.node("Add", [x, found], "/embeddings/sum")
        elif kinds is not None and not positions:
            x = graph.node("Add", [x, graph.tensor(f"{types}[0]", kinds[0])], "/embeddings/sum")
        return str(x)
