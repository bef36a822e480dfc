"""Several suites in one run directory: every study looks at one suite at a time, and only `suites` at all of them.

The result of a suite lies in its own folder, and is named as if there were no other. Beside those of others its name ends with
the suite's, such as `development/prev-nano`.
"""

from __future__ import annotations

from dataclasses import replace

from headway.store.directory import RunDirectory
from headway.store.suite_folders import SeveralSuites, suites_of
from headway.studies.result import Result


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


def place_of(result: Result, rundir: RunDirectory) -> RunDirectory:
    """The directory whose tables a result is of: that of its suite, or all suites together."""
    suite = result.values.get("of_suite")
    if suite is not None:
        return suites_of(rundir).get(suite, rundir)
    return (together(rundir) or rundir) if result.study == "suites" else rundir
