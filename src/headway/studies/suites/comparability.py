"""Whether the heads of several suites may be compared, and which runs are in two of them."""

from __future__ import annotations

from headway.errors import StatisticsError
from headway.store.directory import RunDirectory
from headway.store.suite_folders import suites_of
from headway.sweep.comparable import conflicts
from headway.text import count, listed


def require_comparable(rundir: RunDirectory) -> None:
    """Check that the heads of all suites were scored on the same texts with the same definitions.

    Raises:
        StatisticsError: two of them were not.
    """
    identities = {
        name: record.identity
        for name, one in suites_of(RunDirectory(rundir.path)).items()
        if (record := one.manifest().tables.get("heads")) is not None and one.partitions("heads")
    }
    first, *others = identities
    for name in others:
        if differing := conflicts(identities[first], identities[name]):
            raise StatisticsError(
                f"the suites {first} and {name} cannot be compared: their heads were scored with another {listed(differing)}. "
                "Measure one of them again as the other was, with --force"
            )


def said_of_shared_runs(rundir: RunDirectory) -> list[str]:
    """A sentence for each two suites that hold the same runs, from the same folder or repository."""
    sources = {
        name: set(record.sources.items())
        for name, one in suites_of(RunDirectory(rundir.path)).items()
        if (record := one.manifest().tables.get("heads")) is not None
    }
    names = list(sources)
    pairs = [(one, other) for place, one in enumerate(names) for other in names[place + 1 :]]
    return [
        f"{count(len(both), 'run')} of {one} {'is' if len(both) == 1 else 'are'} also in {other}, such as {min(both)[0]}: "
        "the two suites are not independent."
        for one, other in pairs
        if (both := sources[one] & sources[other])
    ]
