"""What stands on an encoder: nothing, a masked LM, or a classifier of texts or tokens. Knows no body.

A head on the first token reads only that row, and a masked LM projects only the flat positions in its input `rows`.
"""

from .layers import Layers
from .parts import Dense, Head, Norm

__all__ = ["Heads"]


class Heads(Layers):
    """Writes the head of an encoder behind its body."""

    def head(self, x: str, head: Head) -> None:
        """Write the head and declare what it gives.

        Args:
            x: What the body gives, [batch, sequence, width]; [batch, 1, width] where the head reads the first token only.
            head: What stands on the body.
        """
        graph = self.graph
        if head.kind == "hidden-states":
            graph.output(x, "last_hidden_state", ("batch", "sequence", self.width))
            return
        leading: tuple[str, ...] = ("batch", "sequence")
        if head.first_token:
            x, leading = graph.node("Squeeze", [x, graph.integers(1)], "/head/first"), ("batch",)
        if head.kind == "masked-lm":
            graph.input("rows", ("rows",))
            flat = graph.node("Reshape", [x, graph.integers(-1, self.width)], "/head/flat")
            x, leading = graph.node("Gather", [flat, "rows"], "/head/rows"), ("rows",)
        masked, columns = head.kind == "masked-lm", 0
        for place, step in enumerate(head.steps):
            name = f"/head/{place}"
            if isinstance(step, Dense):
                # the last step gives the logits themselves; it is small, and stays as it is
                x = graph.linear(x, [self.matrix(step)], name, exact=place == len(head.steps) - 1 and not masked)
                columns = self.checkpoint.shape(step.weight)[0]
            else:
                x = self.norm(x, step, name) if isinstance(step, Norm) else graph.activation(x, step, name)
        if head.tied:
            bias = self.checkpoint.tensor(head.tied_bias) if head.tied_bias else None
            x = graph.tied(x, head.tied, self.checkpoint.tensor(head.tied), bias, "/head/decoder")
            columns = self.checkpoint.shape(head.tied)[0]
        graph.output(x, "logits", (*leading, columns))
