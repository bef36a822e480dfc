"""Several suites in one run directory: every study looks at one suite at a time, and only `suites` at all of them.

The result of a suite lies in its own folder, and is named as if there were no other. Beside those of others its name ends with
the suite's, such as `development/prev-nano`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from headway.errors import UsageError
from headway.store.directory import RunDirectory
from headway.store.suite_folders import FOLDER, SeveralSuites, suites_of
from headway.studies.result import Result
from headway.text import listed


def of_suite_alone(result: Result, suite: str, place: int) -> Result:
    """The result, named after its suite, with a note that says which it is.

    Args:
        place: the suite's place among those of the directory. It tells apart names that are the same in a file name.
    """
    label = "".join(one if one.isalnum() or one in "._+-" else "-" for one in suite).replace("..", ".")
    words = label if label == suite else f"{label}-{place}"
    notes = [f"These are the runs of the suite {suite} alone.", *result.notes]
    return replace(result, subject=f"{result.subject}-{words}", values=result.values | {"of_suite": suite}, notes=notes)


def together(rundir: RunDirectory) -> SeveralSuites | None:
    """The suites of a run directory together, None if there is one."""
    return SeveralSuites(rundir) if len(suites_of(rundir)) > 1 else None


def chosen(rundir: RunDirectory, suite: str | None) -> dict[str, RunDirectory]:
    """The suites of a run directory, by name, or the one that is asked for.

    Raises:
        UsageError: it has no such suite.
    """
    every = suites_of(rundir)
    if suite is None:
        return every
    if suite not in every:
        raise UsageError(f"{rundir.path} has no suite {suite!r}: it has {listed(list(every))}")
    return {suite: every[suite]}


def require_one(rundir: RunDirectory, found: Mapping[str, RunDirectory], why: str) -> None:
    """Check that one suite is chosen.

    Raises:
        UsageError: there are several; `why` says why one is needed.
    """
    if len(found) > 1:
        raise UsageError(f"{rundir.path} holds the suites {listed(list(found))}, and {why}: choose it with --suite")


def like(rundir: RunDirectory, suite: str) -> RunDirectory:
    """The directory of the only suite of `rundir`, or else of its suite of this name.

    Raises:
        UsageError: it holds several, and none is of this name.
    """
    every = suites_of(rundir)
    if len(every) > 1 and suite not in every:
        raise UsageError(
            f"{rundir.path} holds the suites {listed(list(every))}, and none is called {suite!r}: name the folder of one suite, "
            f"such as {rundir.path / FOLDER}/NAME"
        )
    return every.get(suite, rundir)


def place_of(result: Result, rundir: RunDirectory) -> RunDirectory:
    """The directory whose tables a result is of: that of its suite, or all suites together."""
    suite = result.values.get("of_suite")
    if suite is not None:
        return suites_of(rundir).get(suite, rundir)
    return (together(rundir) or rundir) if result.study == "suites" else rundir
