"""A process that trains runs of a suite: `python -m headway.nano.worker FOLDER DEVICE`.

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
from typing import TYPE_CHECKING

from headway.allocation import keep_freed_memory
from headway.nano.location import read_recipe, tokenizer_path
from headway.nano.recipe import Recipe
from headway.nano.training import train_runs

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def main(folder: Path, device: str) -> None:
    from tokenizers import Tokenizer

    keep_freed_memory()
    recipe = read_recipe(folder)
    tokenizer = Tokenizer.from_file(str(tokenizer_path(folder)))
    for line in sys.stdin:
        make_runs(recipe, line.split(), tokenizer, folder, device)
        print("done", flush=True)


def make_runs(recipe: Recipe, runs: Sequence[str], tokenizer: Tokenizer, folder: Path, device: str) -> None:
    """Train `runs`, all of one size, in hidden folders, and rename the folders when the runs are whole."""
    size, _ = recipe.runs()[runs[0]]
    partial = {run: folder / f".{run}.{os.getpid()}" for run in runs}
    seeds = {recipe.runs()[run][1]: path for run, path in partial.items()}
    try:
        # If the caller is gone, printing `step` fails, which ends the training.
        train_runs(recipe, size, seeds, tokenizer, device=device, step_done=lambda: print("step", flush=True))
        for run, path in partial.items():
            path.rename(folder / run)
    finally:
        for path in partial.values():
            shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
