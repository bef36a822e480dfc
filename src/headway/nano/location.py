"""The folder of a nano suite, and the file that describes it.

FOLDER/suite.json         the recipe, the text's sha256, versions
FOLDER/tokenizer.json     every run's
FOLDER/RUN/stepN/         files as on the Hub; a run's folder is there when the run is whole, not before
"""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from headway.errors import UsageError
from headway.nano.data import train_tokenizer
from headway.nano.recipe import Recipe
from headway.store.cache import own_cache
from headway.store.files import to_json, write_whole


def cache_folder() -> Path:
    """The folder for suites that were trained without naming one: in HEADWAY_CACHE, or in the user's cache folder."""
    return own_cache() / "nano"


def tokenizer_path(folder: Path) -> Path:
    return folder / "tokenizer.json"


def prepare(folder: Path, recipe: Recipe) -> None:
    """Describe in `folder` which suite it will hold, unless it is described already.

    Raises:
        UsageError: it holds something else.
    """
    found = _description(folder)
    if found is not None:
        differing = [name for name, value in recipe.described().items() if found.get(name) != value]
        if differing:
            raise UsageError(
                f"{folder} holds a nano suite made otherwise ({', '.join(differing)} differ): give another folder"
            )
        return
    if folder.is_dir() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
        raise UsageError(f"{folder} holds other files: give a folder that is empty or not there yet")
    folder.mkdir(parents=True, exist_ok=True)
    train_tokenizer(recipe.vocab_size).save(str(tokenizer_path(folder)))
    versions = {package: version(package) for package in ("numpy", "tokenizers", "torch", "transformers")}
    # Written last: its presence means that the other files are complete.
    description = recipe.described() | {"versions": {"python": platform.python_version(), **versions}}
    write_whole(_description_path(folder), to_json(description))


def read_recipe(folder: Path) -> Recipe:
    """The recipe that `folder` was prepared for."""
    description = _description(folder)
    if description is None:
        raise UsageError(f"{folder} holds no nano suite: make one with `headway nano train`")
    return Recipe.from_json(description["recipe"])


def missing_runs(folder: Path, recipe: Recipe) -> list[str]:
    """The runs that are not there yet, in the order in which to make them."""
    return [run for run in recipe.runs() if not (folder / run).is_dir()]


def _description_path(folder: Path) -> Path:
    return folder / "suite.json"


def _description(folder: Path) -> dict[str, Any] | None:
    path = _description_path(folder)
    try:
        described: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UsageError(f"{path} cannot be read as JSON ({error}): delete {folder}, it will be made again") from error
    return described
