"""The loop that the recipes train with: seeded, resumable, sized for a laptop. Knows tensors and steps, no task and no data set.

A run is a folder. After every few hundred steps the weights, the optimizer and the place in the data are written there; started again,
a recipe goes on from the last of them, and a run that is finished is read and not repeated.
"""

import argparse
import json
import math
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

__all__ = ["Plan", "arguments", "batches", "fit", "seeded"]

_STATE = "state.pt"


@dataclass(frozen=True)
class Plan:
    """How a model is trained.

    Attributes:
        epochs: Times that the data is gone through.
        batch: Examples of a step.
        rate: Highest learning rate, of AdamW; it rises over the first `warmup` of the steps and falls to nothing.
        warmup: Share of the steps.
        decay: Weight decay, of matrices only.
        clip: Largest norm of a step's gradients.
        every: Steps between two states on disk.
        dropout: Whether what the config says is dropped. A large set of texts can do without; a processor is then 1.6 times as fast.
    """

    epochs: int
    batch: int
    rate: float
    warmup: float = 0.06
    decay: float = 0.01
    clip: float = 1.0
    every: int = 200
    dropout: bool = True


def arguments(description: str) -> argparse.ArgumentParser:
    """What every recipe takes: where data, MiniLM and results are, the seed and the number of threads."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("data", type=Path, help="folder with a folder for each data set")
    parser.add_argument("out", type=Path, help="folder for runs and checkpoints; started again, a recipe goes on there")
    parser.add_argument("--minilm", type=Path, help="folder of the all-MiniLM-L6-v2 checkpoint")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    return parser


def seeded(seed: int, threads: int | None = None) -> None:
    """Make everything that follows repeatable on this machine."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    if threads:
        torch.set_num_threads(threads)


def batches(lengths: Sequence[int], size: int, seed: int) -> Iterator[list[int]]:
    """Numbers of the examples of each step, in an order of this seed: neighbours of a length share a step."""
    order = np.random.default_rng(seed)
    numbers = order.permutation(len(lengths)).tolist()
    pools = [numbers[begin : begin + 64 * size] for begin in range(0, len(numbers), 64 * size)]
    found = []
    for pool in pools:
        pool.sort(key=lambda number: lengths[number])
        found += [pool[begin : begin + size] for begin in range(0, len(pool), size)]
    order.shuffle(found)
    yield from found


def fit(
    model: torch.nn.Module,
    loss: Callable[[list[int]], torch.Tensor],
    lengths: Sequence[int],
    plan: Plan,
    *,
    run: Path,
    seed: int,
) -> None:
    """Train `model` in place.

    Args:
        model: Its parameters that want gradients are trained.
        loss: From the numbers of a step's examples to what is to become small.
        lengths: Tokens of each example.
        plan: How.
        run: Folder of this run.
        seed: Of the order of examples, and of dropout.

    Raises:
        SystemExit: The folder holds a run of another plan.
    """
    run.mkdir(parents=True, exist_ok=True)
    _same(run, {**asdict(plan), "examples": len(lengths), "seed": seed})
    if (run / "done.json").is_file():
        model.load_state_dict(torch.load(run / _STATE, weights_only=True)["model"])
        return
    matrices = [weight for weight in model.parameters() if weight.requires_grad and weight.ndim > 1]
    others = [weight for weight in model.parameters() if weight.requires_grad and weight.ndim < 2]
    groups = [{"params": matrices, "weight_decay": plan.decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=plan.rate, betas=(0.9, 0.98), eps=1e-6, fused=True)
    steps = plan.epochs * math.ceil(len(lengths) / plan.batch)
    rise = max(1, round(plan.warmup * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / rise, (steps - step) / max(1, steps - rise))
    )
    first, seconds = _resumed(run, model, optimizer, schedule)
    model.train(plan.dropout)
    begun, mean, seen = time.perf_counter(), 0.0, 0
    for number, members in enumerate(_whole(lengths, plan, seed)):
        if number < first:
            continue
        torch.manual_seed(seed * 1_000_003 + number)
        value = loss(members)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), plan.clip)
        optimizer.step()
        schedule.step()
        mean += float(value.detach())
        seen += 1
        if (number + 1) % plan.every == 0 or number + 1 == steps:
            taken = time.perf_counter() - begun
            seconds += taken
            print(
                f"{run.name}: step {number + 1} of {steps}, loss {mean / seen:.4f}, {taken / seen:.2f} s a step",
                flush=True,
            )
            begun, mean, seen = time.perf_counter(), 0.0, 0
            _keep(run, model, optimizer, schedule, number + 1, seconds)
    model.eval()
    (run / "done.json").write_text(json.dumps({"steps": steps, "seconds": round(seconds)}) + "\n")


def _same(run: Path, asked: dict[str, object]) -> None:
    """Refuse to go on with what was begun in another way."""
    file = run / "plan.json"
    if file.is_file() and (found := json.loads(file.read_text(encoding="utf-8"))) != asked:
        raise SystemExit(f"{run} was begun with {found}, asked for is {asked}; remove it, or choose another folder")
    file.write_text(json.dumps(asked) + "\n", encoding="utf-8")


def _whole(lengths: Sequence[int], plan: Plan, seed: int) -> Iterator[list[int]]:
    for epoch in range(plan.epochs):
        yield from batches(lengths, plan.batch, seed * 1009 + epoch)


def _keep(
    run: Path,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: object,
    step: int,
    seconds: float,
) -> None:
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "step": step,
        "seconds": seconds,
    }
    part = run / "state.part"
    torch.save(state, part)
    part.replace(run / _STATE)


def _resumed(
    run: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, schedule: object
) -> tuple[int, float]:
    """Steps that were taken before, and their seconds; what they led to is put into the arguments."""
    if not (run / _STATE).is_file():
        return 0, 0.0
    state = torch.load(run / _STATE, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    print(f"{run.name}: going on from step {state['step']}", flush=True)
    return int(state["step"]), float(state["seconds"])
