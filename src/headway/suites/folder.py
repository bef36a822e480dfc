"""Suites in local folders: FOLDER/RUN/REVISION/ with files as on the Hub, or FOLDER/REVISION/ for a single run.

A run may say in RUN/axes.json in what else it differs from others, such as {"repeated": "0.5"}: these names become axes
of the suite, which `--where` selects by and tables have columns of.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headway.errors import RunDirectoryError, SelectionError
from headway.store.directory import safe_name
from headway.store.files import AXES_FILE
from headway.suites.checkpoint import Axes
from headway.suites.names import parse_run, parse_step, tokens_in
from headway.suites.suite import Run, Stages, Suite, by_stage
from headway.suites.where import AXES


@dataclass(frozen=True)
class FolderRevisions:
    """The sub-folders of a run whose names contain a step."""

    path: Path

    def __call__(self) -> Stages:
        return by_stage(_folders(self.path), str(self.path))

    def describe(self) -> str:
        steps = sorted(step for stage in self().values() for step in stage)
        shown = ", ".join(map(str, steps if len(steps) <= 20 else steps[:17]))
        return f"{len(steps)}: {shown}{'' if len(steps) <= 20 else f', … {steps[-1]}'}"

    def tokens(self, revision: str) -> int | None:
        return tokens_in(revision)


def folder_suite(folder: Path, *, name: str = "", about: str = "", corpus: str | None = None) -> Suite:
    """Open the suite in `folder`. Nothing outside of the folder is read, except tokenizers in its parent.

    Raises:
        SelectionError: the folder holds no checkpoint, or no run whose name can be part of a file name.
    """
    folder = folder.expanduser().resolve()
    folders = [folder] if _is_run(folder) else [folder / name for name in _folders(folder) if _is_run(folder / name)]
    if not folders:
        raise SelectionError(
            f"{folder} holds no checkpoints: expected {folder.name}/RUN/REVISION/ with config.json and weights. "
            "The name REVISION must contain a step, such as step1000 or checkpoint-1000"
        )
    runs = [
        Run(run.name, *parse_run(run.name), location=run, revisions=FolderRevisions(run), axes=_axes(run))
        for run in _with_safe_names(folders)
    ]
    return Suite(name or folder.name, runs, about=about or "checkpoints in a folder", origin=str(folder), corpus=corpus)


def _axes(run: Path) -> Axes:
    """The run's values on the axes of its suite, from its file `AXES_FILE`; none if it has no such file.

    Raises:
        SelectionError: the file is no JSON object of texts, or a name or a value cannot be selected by.
    """
    path = run / AXES_FILE
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        raise SelectionError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(stated, dict) or not all(isinstance(value, str) for value in stated.values()):
        raise SelectionError(f'{path} must hold texts by the names of axes, such as {{"repeated": "0.5"}}')
    for name, value in stated.items():
        if name in AXES or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise SelectionError(
                f"{path}: {name!r} cannot name an axis. Use lower-case letters, digits and '_', and none of {', '.join(AXES)}"
            )
        if not re.fullmatch(r"[^\s,=]+", value) or ".." in value:
            raise SelectionError(f"{path}: {value!r} cannot be a value of {name}: leave out spaces, ',', '=' and '..'")
    return tuple(stated.items())


def _is_run(folder: Path) -> bool:
    return any(parse_step(name) is not None and (folder / name / "config.json").exists() for name in _folders(folder))


def _folders(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise SelectionError(f"{folder} cannot be listed: {error.strerror or error}") from error


def _with_safe_names(runs: Sequence[Path]) -> list[Path]:
    """Return the `runs` whose names can be part of a file name, and warn about the others.

    Raises:
        SelectionError: no run has such a name.
    """
    safe = []
    for run in runs:
        try:
            safe_name(run.name, "run name")
        except RunDirectoryError as error:
            if len(runs) == 1:
                raise SelectionError(f"{run}: {error}. Rename the folder") from error
            warnings.warn(f"{run} is left out: {error}. Rename the folder to include it", stacklevel=5)
        else:
            safe.append(run)
    if not safe:
        raise SelectionError(f"none of the {len(runs)} runs in {runs[0].parent} can be read: rename their folders")
    return safe
