"""A process that trains runs of a suite: `python -m headway.nano.worker FOLDER DEVICE`.

It reads the names of runs from its input, a line each, and writes `step` after each step and `done` after each run. It is
started as a command instead of by multiprocessing, so that training also works from scripts without a main guard.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from headway.nano.location import read_recipe, tokenizer_path
from headway.nano.recipe import Recipe
from headway.nano.training import train_run

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def main(folder: Path, device: str) -> None:
    from tokenizers import Tokenizer

    recipe = read_recipe(folder)
    tokenizer = Tokenizer.from_file(str(tokenizer_path(folder)))
    for line in sys.stdin:
        make_run(recipe, line.strip(), tokenizer, folder, device)
        print("done", flush=True)


def make_run(recipe: Recipe, run: str, tokenizer: Tokenizer, folder: Path, device: str) -> None:
    """Train `run` in a hidden folder, and rename the folder when the run is whole."""
    size, seed = recipe.runs()[run]
    partial = folder / f".{run}.{os.getpid()}"
    try:
        # If the caller is gone, printing `step` fails, which ends the training.
        train_run(recipe, size, seed, tokenizer, partial, device=device, step_done=lambda: print("step", flush=True))
        partial.rename(folder / run)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
