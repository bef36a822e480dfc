"""Forks: runs that start from a checkpoint of another run."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from headway.errors import SelectionError, UsageError
from headway.nano.laboratory import PlannedRun, planned_runs
from headway.nano.location import read_description
from headway.nano.recipe import CODE_VERSION, Origin, Recipe
from headway.nano.text import text_sha256
from headway.nano.training import OPTIMIZER


def run_of(path: str | Path) -> tuple[Path, PlannedRun]:
    """The folder of a suite, and the run of it that `path` names: FOLDER/RUN.

    Raises:
        UsageError: there is no nano suite.
        SelectionError: it has no such run.
    """
    run = Path(path).expanduser()
    described = read_description(run.parent)
    planned = planned_runs(Recipe.from_json(described["recipe"]))
    if run.name not in planned:
        near = get_close_matches(run.name, planned, n=1)
        known = f", did you mean {near[0]!r}?" if near else f": it has {', '.join(planned)}"
        raise SelectionError(f"{run.parent} has no run {run.name!r}{known}")
    if (described["text_sha256"], described["code_version"]) != (text_sha256(), CODE_VERSION):
        raise UsageError(
            f"{run} was trained on the documentation of another Python, or by another version of headway: its data cannot be "
            "drawn again here. Train it again"
        )
    return run.parent, planned[run.name]


def forked(start: str) -> tuple[Recipe, bytes]:
    """The recipe of runs that start from the checkpoint FOLDER/RUN@STEP, and the content of the file they start from.

    Raises:
        UsageError: `start` is written otherwise, the suite cannot be used, or the run ends at that step.
        SelectionError: the run or the step is not there.
    """
    from safetensors.torch import load_file, save

    path, at, step_text = start.rpartition("@")
    if not at or not step_text.isdigit():
        raise UsageError(f"--from takes a run and a step, such as labs/repeats/nano-50k-seed1@128, not {start!r}")
    folder, planned = run_of(path)
    step, recipe = int(step_text), planned.recipe
    name = Path(path).name
    if step not in recipe.steps:
        known = ", ".join(map(str, recipe.steps))
        raise SelectionError(f"{name} has no checkpoint of step {step}; it has {known}")
    if step == recipe.steps[-1]:
        raise UsageError(f"{name} ends at step {step}: fork it from an earlier one")
    checkpoint = folder / name / f"step{step}"
    if not checkpoint.is_dir():
        raise UsageError(f"{checkpoint} is not there: train the run first")
    tensors = load_file(checkpoint / "model.safetensors")
    if (checkpoint / OPTIMIZER).is_file():
        tensors |= load_file(checkpoint / OPTIMIZER)
    else:
        warnings.warn(
            f"{checkpoint} holds no moments of the optimizer, so the fork starts without them, and would differ from the run "
            "even on the same data. Train the run with --keep-optimizer to keep them",
            stacklevel=3,
        )
    content: bytes = save(tensors)
    origin = Origin(name, step, hashlib.sha256(content).hexdigest())
    return replace(recipe, steps=tuple(later for later in recipe.steps if later >= step), origin=origin), content
