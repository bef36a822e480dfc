"""Results -> figures and one self-contained page. The report computes nothing: studies wrote what it draws.

`write` is the way in. A study has one module here (`previous_token`), which turns its `Result` into a `Chapter`;
the others serve every study: `charts` (forms and colours), `embed` (data inside the page), `export` (SVG and PNG),
`page` (HTML) and `markdown`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from headway.errors import RunDirectoryError, UsageError
from headway.rundir import RunDirectory, write_whole

if TYPE_CHECKING:
    from headway.progress import Progress

__all__ = ["write"]


def write(
    rundir: RunDirectory | str | os.PathLike[str],
    *,
    format: Literal["html", "md"] = "html",
    progress: Progress | None = None,
) -> Path:
    """Writes the report of a run directory, and each of its figures as SVG and PNG into `figures/`.

    Args:
        rundir: a run directory that has been analysed.
        format: `html`, one page that opens offline, or `md`, for a repository.
        progress: shown while the figures are drawn.

    Returns:
        The report's path: `report.html` or `report.md` in the run directory.

    Raises:
        RunDirectoryError: it is not a run directory, or nothing in it has been analysed.
        StorageError: a result is damaged, or the report cannot be written.
        UsageError: `format` is neither.
    """
    from headway.progress import Silent

    if format not in ("html", "md"):
        raise UsageError(f"a report can be written as html or md, not as {format!r}")
    directory = rundir if isinstance(rundir, RunDirectory) else RunDirectory(rundir)
    chapters = _chapters(directory)

    from headway.report import export, markdown, measured, page

    measurement = measured.measurement(directory)
    export.write_figures(chapters, directory, progress or Silent())
    text = page.render(chapters, measurement) if format == "html" else markdown.render(chapters, measurement)
    path = directory.path / f"report.{format}"
    write_whole(path, text.encode())
    return path


def _chapters(directory: RunDirectory) -> list:
    from headway.studies import Result

    directory.require()
    builders = {"previous_token": _previous_token}
    done = [study for study in builders if (directory.analysis / f"{study}.json").exists()]
    if not done:
        raise RunDirectoryError(
            f"{directory.path} holds no result to report: run `headway analyze {directory.path}` first"
        )
    return [builders[study](Result.load(directory, study)) for study in done]


def _previous_token(result):
    from headway.report.previous_token import chapter

    return chapter(result)
