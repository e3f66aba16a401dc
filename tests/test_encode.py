"""Batches: what is computed, in which order it comes back, how much is held at once."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest

from edgenlp import BundleError, TooLongError
from edgenlp.encode import Encoder, plan
from edgenlp.session import Tensor


class Window(NamedTuple):
    ids: list[int]
    type_ids: list[int]


class Graph:
    """Stands in for a session: gives the sum of ids per text, and the ids themselves per token."""

    def __init__(self, *, rows: bool = False) -> None:
        names = ["input_ids", "lengths", *(["rows"] if rows else [])]
        self.inputs = {name: Tensor(name, np.int64, ()) for name in names}
        self.outputs = {
            "sum": Tensor("sum", np.float32, ("batch", 1)),
            "each": Tensor("each", np.float32, ("batch", "sequence", 1)),
        }
        if rows:
            self.outputs = {"chosen": Tensor("chosen", np.float32, ("rows", 1))}
        self.shapes: list[tuple[int, ...]] = []

    def run(self, feed: dict[str, Any]) -> dict[str, Any]:
        ids, lengths = feed["input_ids"], feed["lengths"]
        self.shapes.append(ids.shape)
        masked = ids * (np.arange(ids.shape[1]) < lengths[:, None])
        if "rows" in feed:
            return {"chosen": ids.reshape(-1)[feed["rows"]][:, None].astype(np.float32)}
        return {"sum": masked.sum(axis=1, keepdims=True), "each": ids[:, :, None]}


def windows(lengths: Sequence[int]) -> list[Window]:
    counter = itertools.count(1)
    return [Window([next(counter) for _ in range(length)], [0] * length) for length in lengths]


LENGTHS = [3, 120, 1, 7, 7, 64, 2, 90, 5, 5, 33]


def test_results_come_in_the_order_given() -> None:
    given = windows(LENGTHS)
    results = Encoder(Graph(), window=128, tokens=256)(given)
    assert [int(item["sum"][0]) for item in results] == [sum(window.ids) for window in given]
    assert [item["each"][:, 0].tolist() for item in results] == [window.ids for window in given]


def test_chosen_rows_are_found_in_any_batch() -> None:
    given = windows(LENGTHS)
    wanted = [[0, len(window.ids) - 1] for window in given]
    results = Encoder(Graph(rows=True), window=128, tokens=256)(given, rows=wanted)
    assert [item["chosen"][:, 0].tolist() for item in results] == [[w.ids[0], w.ids[-1]] for w in given]


def test_no_run_holds_more_than_the_budget() -> None:
    graph = Graph()
    Encoder(graph, window=128, tokens=100)(windows([40] * 9 + [120]))
    assert all(rows * width <= 100 or rows == 1 for rows, width in graph.shapes)
    assert sum(rows for rows, _ in graph.shapes) == 10


def test_batch_size_bounds_the_rows() -> None:
    graph = Graph()
    Encoder(graph, window=128, tokens=10_000)(windows([4] * 10), batch_size=3)
    assert max(rows for rows, _ in graph.shapes) == 3


def test_equal_lengths_are_one_run_and_unequal_ones_waste_little() -> None:
    assert plan([16] * 8, 1024) == [[0, 1, 2, 3, 4, 5, 6, 7]]
    lengths = list(range(5, 129, 8))
    runs = plan(lengths, 2048)
    padded = sum(len(run) * max(lengths[index] for index in run) for run in runs)
    assert padded < 1.25 * sum(lengths)
    assert sorted(itertools.chain.from_iterable(runs)) == list(range(len(lengths)))


def test_the_plan_is_the_cheapest_cut() -> None:
    random = np.random.RandomState(0)
    for _ in range(20):
        lengths = sorted(random.randint(1, 200, 7).tolist())

        def cost(runs: list[list[int]], lengths: list[int] = lengths) -> int:
            return sum(24 + len(run) * max(lengths[index] for index in run) for run in runs)

        cuts = itertools.product([False, True], repeat=6)
        every = [np.split(np.arange(7), [place + 1 for place, cut in enumerate(way) if cut]) for way in cuts]
        best = min(cost([part.tolist() for part in way]) for way in every)
        assert cost(plan(lengths, 10**6)) == best


def test_nothing_in_nothing_out() -> None:
    assert Encoder(Graph(), window=8, tokens=8)([]) == []
    assert plan([], 8) == []


def test_too_long_an_input_names_both_lengths() -> None:
    with pytest.raises(TooLongError, match="9 tokens long, the model takes 8"):
        Encoder(Graph(), window=8, tokens=64)(windows([9]))


def test_a_graph_with_unknown_inputs_is_refused() -> None:
    graph = Graph()
    graph.inputs["past_key"] = Tensor("past_key", np.int64, ())
    with pytest.raises(BundleError, match="wants past_key"):
        Encoder(graph, window=8, tokens=8)
