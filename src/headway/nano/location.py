"""The folder of a nano suite, and the file that describes it.

FOLDER/suite.json         the recipe, the text's sha256, versions
FOLDER/tokenizer.json     the one of the recipe's vocabulary
FOLDER/tokenizer-V.json   of the other vocabularies of a laboratory that varies them
FOLDER/start.safetensors  of a fork: the weights that all runs start from, and the optimizer's moments
FOLDER/RUN/axes.json      the run's level of each factor that the recipe varies
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
from headway.nano.laboratory import cells, planned_runs
from headway.nano.recipe import Recipe
from headway.store.cache import own_cache
from headway.store.files import to_json, write_whole


def cache_folder() -> Path:
    """The folder for suites that were trained without naming one: in HEADWAY_CACHE, or in the user's cache folder."""
    return own_cache() / "nano"


def tokenizer_path(folder: Path, recipe: Recipe | None = None) -> Path:
    """The tokenizer of the runs of `recipe`, one of the suite's cells; without one, that of the suite's own vocabulary."""
    if recipe is not None and recipe.vocab_size != read_recipe(folder).vocab_size:
        return folder / f"tokenizer-{recipe.vocab_size}.json"
    return folder / "tokenizer.json"


def start_path(folder: Path) -> Path:
    return folder / "start.safetensors"


def is_prepared(folder: Path, recipe: Recipe) -> bool:
    """Whether `folder` says that it holds the suite of this recipe, and has all files but the runs.

    Raises:
        UsageError: it holds a suite of another recipe.
    """
    found = _description(folder)
    if found is None:
        return False
    differing = [name for name, value in recipe.described().items() if found.get(name) != value]
    if differing:
        raise UsageError(
            f"{folder} holds a nano suite made otherwise ({', '.join(differing)} differ): give another folder"
        )
    return True


def prepare(folder: Path, recipe: Recipe, start: bytes | None = None) -> None:
    """Describe in `folder` which suite it will hold, unless it is described already.

    Args:
        start: the content of the file at `start_path`, for a fork.

    Raises:
        UsageError: it holds something else, or levels of the recipe's factors do not go together.
    """
    vocabularies = {cell.vocab_size for _, cell in cells(recipe)} - {recipe.vocab_size}
    if is_prepared(folder, recipe):
        return
    if folder.is_dir() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
        raise UsageError(f"{folder} holds other files: give a folder that is empty or not there yet")
    folder.mkdir(parents=True, exist_ok=True)
    train_tokenizer(recipe.vocab_size).save(str(tokenizer_path(folder)))
    for vocab_size in vocabularies:
        train_tokenizer(vocab_size).save(str(folder / f"tokenizer-{vocab_size}.json"))
    if start is not None:
        write_whole(start_path(folder), start)
    versions = {package: version(package) for package in ("numpy", "tokenizers", "torch", "transformers")}
    # Written last: its presence means that the other files are complete.
    description = recipe.described() | {"versions": {"python": platform.python_version(), **versions}}
    write_whole(_description_path(folder), to_json(description))


def read_recipe(folder: Path) -> Recipe:
    """The recipe that `folder` was prepared for."""
    return Recipe.from_json(read_description(folder)["recipe"])


def read_description(folder: Path) -> dict[str, Any]:
    """What `folder` says of its suite: recipe, text_sha256, code_version and versions.

    Raises:
        UsageError: it holds no nano suite.
    """
    description = _description(folder)
    if description is None:
        raise UsageError(f"{folder} holds no nano suite: make one with `headway nano train`")
    return description


def missing_runs(folder: Path, recipe: Recipe) -> list[str]:
    """The runs that are not there yet, in the order in which to make them."""
    return [run for run in planned_runs(recipe) if not (folder / run).is_dir()]


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
