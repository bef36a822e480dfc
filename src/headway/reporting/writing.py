"""Write the report of a run directory."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from headway import options
from headway.errors import RunDirectoryError
from headway.known_scores import CROSS, STACKS
from headway.progress import Progress, Silent
from headway.reporting.parts import Chapter
from headway.store.directory import RunDirectory
from headway.store.files import write_whole
from headway.store.suite_folders import suites_of
from headway.studies import Result
from headway.studies.several import of_suite_alone, place_of
from headway.tables import SCORES
from headway.text import listed

# A study's module has chapter(result) -> Chapter. The order is that of the report.
CHAPTERS = {
    "suites": "headway.reporting.suites",
    "causes": "headway.reporting.causes",
    "roles": "headway.reporting.roles",
    "abilities": "headway.reporting.abilities",
    "ablations": "headway.reporting.ablations",
    "relations": "headway.reporting.relations",
    "configuration": "headway.reporting.configuration",
    "scorecard": "headway.reporting.scorecard",
    "development": "headway.reporting.development",
    "weight_clusters": "headway.reporting.weight_clusters",
}


def write(
    rundir: RunDirectory | str | os.PathLike[str],
    *,
    format: str = options.FORMAT.default,
    figures: bool = options.FIGURES.default,
    again: bool = True,
    progress: Progress | None = None,
) -> Path:
    """Write the report of a run directory.

    Args:
        rundir: a run directory that has been analysed.
        format: `html`, one page that opens offline, or `md`, for a repository.
        figures: whether each figure is also written into `figures/`, as SVG and PNG. Markdown needs these files.
        again: whether a page without figure files is made again that was made from the same results.
        progress: shown while the figures are drawn.

    Returns:
        The report's path: `report.html` or `report.md` in the run directory.

    Raises:
        RunDirectoryError: the folder is not a run directory, or nothing in it has been analysed.
        StorageError: a result is damaged, or the report cannot be written.
        UsageError: `format` is neither `html` nor `md`.
    """
    options.REPORT.require(format=format)
    directory = rundir if isinstance(rundir, RunDirectory) else RunDirectory(rundir)
    results = read_results(directory)

    from headway.reporting import export, markdown, measured, page, unchanged, viewer
    from headway.reporting.charts.sharing import shared_encodings

    measurement = measured.measurement(directory, outdated(results, directory))
    for sentence in measurement.outdated:
        warnings.warn(sentence, stacklevel=2)
    path = directory.path / f"report.{format}"
    patterns = viewer.viewer(directory) if format == "html" else None
    made_from = unchanged.made_from(results, measurement, patterns) if format == "html" else None
    if not again and not figures and unchanged.is_there(path, made_from):
        return path
    html = format == "html"
    with shared_encodings():
        chapters = chapters_of(results)
        if figures or not html:
            export.write_figures(chapters, directory, progress or Silent())
        text = page.render(chapters, measurement, patterns) if html else markdown.render(chapters, measurement)
    write_whole(path, text.encode())
    unchanged.remember(path, made_from)
    return path


def read_results(directory: RunDirectory) -> list[Result]:
    """Load the saved results in the order of the report: by study, with scores in the order of `headway.tables.SCORES`.

    Of several suites, their comparison comes first, and then the results of each suite, named after it.

    Raises:
        RunDirectoryError: the folder is not a run directory, or it holds no result.
        StorageError: a result is damaged.
    """
    directory.require()
    every = suites_of(directory)
    results = [result for result in _of_one(directory, ["suites"]) if len(every) > 1]
    for place, (suite, one) in enumerate(every.items(), 1):
        found = _of_one(one, [study for study in CHAPTERS if study != "suites"])
        results += found if len(every) == 1 else [of_suite_alone(result, suite, place) for result in found]
    if not results:
        raise RunDirectoryError(
            f"{directory.path} holds no result to report: run `headway analyze {directory.path}` first"
        )
    return results


def _of_one(directory: RunDirectory, studies: Sequence[str]) -> list[Result]:
    done = [(study, subject) for study in studies for subject in sorted(Result.saved(directory, study), key=_place)]
    return [Result.load(directory, study, subject) for study, subject in done]


def _place(subject: str) -> tuple[int, int]:
    """The place of a score, and of its stack: `prev`, `prev-encoder`, `self`. Other subjects follow."""
    scores = {score: place for place, score in enumerate(SCORES)}
    name, _, stack = subject.partition("-")
    return scores.get(name, len(scores)), STACKS.index(stack) if stack in STACKS else 0


def outdated(results: Sequence[Result], directory: RunDirectory) -> list[str]:
    """Return a sentence for each result whose tables have changed since it was analysed."""
    return [
        f"The result {result.key} was analysed before the table {listed(tables)} changed: its numbers are out of date. "
        f"Run `headway analyze {directory.path}`, then `headway report {directory.path}`."
        for result in results
        if (tables := result.changed_since(place_of(result, directory)))
    ]


def chapters_of(results: Sequence[Result]) -> list[Chapter]:
    """The chapters, with figures that Altair has not validated: it would do so for each part, at a fifth of the time."""
    from altair.utils.schemapi import debug_mode

    with debug_mode(False):
        return [
            _of_suite(
                _of_stack(_builder(result.study)(result), result.values.get("stack")), result.values.get("of_suite")
            )
            for result in results
        ]


def _of_suite(chapter: Chapter, suite: str | None) -> Chapter:
    """The chapter, whose title and facts say which suite it is about; none if there is one."""
    if suite is None:
        return chapter
    return replace(chapter, title=f"{suite}: {chapter.title}", facts=[("suite", suite), *chapter.facts])


def _of_stack(chapter: Chapter, stack: str | None) -> Chapter:
    """The chapter, whose title and facts say which stack its heads belong to; none if there is one of decoders alone."""
    if stack is None:
        return chapter
    where = "cross-attention" if stack == CROSS else stack
    return replace(chapter, title=f"{chapter.title} ({where})", facts=[("stack", where), *chapter.facts])


def _builder(study: str) -> Callable[[Result], Chapter]:
    chapter: Callable[[Result], Chapter] = import_module(CHAPTERS[study]).chapter
    return chapter
