"""A process that trains runs of a suite: `python -m headway.nano.worker FOLDER DEVICE KEEP_OPTIMIZER`.

It reads the names of runs from its input, and trains the runs of a line together. It writes `step` after each step and
`done` after each line. It is started as a command instead of by multiprocessing, so that training also works from scripts
without a main guard.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from headway.allocation import end_quickly, keep_freed_memory
from headway.nano.laboratory import planned_runs
from headway.nano.location import read_recipe, start_path, tokenizer_path
from headway.nano.recipe import Recipe
from headway.nano.training import train_runs
from headway.store.files import AXES_FILE, to_json


def main(folder: Path, device: str, keep_optimizer: bool = False) -> None:
    keep_freed_memory()
    end_quickly()
    recipe = read_recipe(folder)
    for line in sys.stdin:
        make_runs(recipe, line.split(), folder, device, keep_optimizer)
        print("done", flush=True)


def make_runs(
    recipe: Recipe, runs: Sequence[str], folder: Path, device: str = "cpu", keep_optimizer: bool = False
) -> None:
    """Train `runs`, all of one size and recipe, in hidden folders, and rename the folders when the runs are whole."""
    from tokenizers import Tokenizer

    everything = planned_runs(recipe)
    planned = {run: everything[run] for run in runs}
    one = planned[runs[0]]
    partial = {run: folder / f".{run}.{os.getpid()}" for run in runs}
    try:
        train_runs(
            one.recipe,
            one.size,
            {planned[run].seed: path for run, path in partial.items()},
            Tokenizer.from_file(str(tokenizer_path(folder, one.recipe))),
            device=device,
            start=start_path(folder) if recipe.origin else None,
            keep_optimizer=keep_optimizer,
            # If the caller is gone, printing `step` fails, which ends the training.
            step_done=lambda: print("step", flush=True),
        )
        for run, path in partial.items():
            if planned[run].axes:
                (path / AXES_FILE).write_bytes(to_json(planned[run].axes))
            path.rename(folder / run)
    finally:
        for path in partial.values():
            shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "True")
