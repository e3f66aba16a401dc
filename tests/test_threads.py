"""Threads that the container grants."""

import os
from pathlib import Path

import pytest

from edgenlp import threads


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, 1 << 16),
        ({"cpu.cfs_quota_us": "400000\n", "cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"}, 1 << 16),
        ({"cpu.max": "nonsense\n"}, 1 << 16),
        ({"cpu.max": "100000 0\n"}, 1 << 16),
        ({}, 1 << 16),
    ],
)
def test_the_quota_of_a_control_group(files: dict[str, str], expected: int, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert threads._limit(tmp_path) == expected


def test_the_tightest_bound_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "_cores", lambda processors: 4)
    monkeypatch.setattr(threads, "_quota", lambda: 3)
    assert threads.granted() == 3
    monkeypatch.setattr(threads, "_quota", lambda: 16)
    assert threads.granted() == 4
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {5}, raising=False)
    assert threads.granted() == 1


def test_where_affinity_is_unknown_all_processors_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert threads.granted() == 6


def test_two_threads_of_one_core_are_one() -> None:
    assert threads._cores({10**6, 10**6 + 1}) == 2  # unknown processors are cores of their own
