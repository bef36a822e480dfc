"""The runs of a suite with their steps, as a tree for people."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from headway.suites.checkpoint import Checkpoint
from headway.suites.suite import Suite
from headway.text import count

_MOST = 12  # steps that are written out


def tree(suite: Suite, where: str = "") -> str:
    """The selected checkpoints by size and run. The Hub is asked for steps that are not known without it.

    Raises:
        SelectionError: the selection names something unknown, or the steps cannot be listed.
        CheckpointError: the Hub does not answer.
    """
    checkpoints = suite.listed(where)
    lines = [f"{suite.name}: {count(len(checkpoints), 'checkpoint')}"]
    sizes = [(size, list(group)) for size, group in groupby(checkpoints, key=lambda one: one.size)]
    for i, (size, of_size) in enumerate(sizes):
        last = i == len(sizes) - 1
        lines.append(f"{'└' if last else '├'}─ {size}")
        runs = [list(group) for _, group in groupby(of_size, key=lambda one: one.run)]
        for j, own in enumerate(runs):
            branch = "└" if j == len(runs) - 1 else "├"
            lines.append(f"{' ' if last else '│'}  {branch}─ {_of_run(own)}")
    return "\n".join(lines)


def _of_run(own: Sequence[Checkpoint]) -> str:
    """One run: its seed, its values on axes, its steps, and the tokens of its first and last step."""
    first, last = own[0], own[-1]
    differs = ", ".join([f"seed {first.seed}", *(f"{name} {value}" for name, value in first.axes)])
    steps = [f"{one.step:,}" for one in own]
    shown = steps if len(steps) <= _MOST else [*steps[: _MOST - 2], "…", steps[-1]]
    tokens = f"; {_tokens(first)} to {_tokens(last)} tokens" if last.tokens is not None else ""
    return f"{first.run} ({differs}): {count(len(own), 'step')}: {', '.join(shown)}{tokens}"


def _tokens(checkpoint: Checkpoint) -> str:
    number = checkpoint.tokens
    if number is None:
        return "unknown"
    for letter, unit in (("T", 10**12), ("B", 10**9), ("M", 10**6)):
        if number >= unit:
            return f"{number / unit:.3g}{letter}"
    return str(number)
