"""Studies: named sets of analyses over the tables of a run directory. A study knows nothing of torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from headway.store.directory import RunDirectory
from headway.studies import (
    abilities,
    ablations,
    causes,
    configuration,
    development,
    relations,
    roles,
    scorecard,
    suites,
    weight_clusters,
)
from headway.studies.result import Finding, Result

STUDIES: dict[str, Callable[..., Result]] = {
    "development": development.study,
    "roles": roles.study,
    "abilities": abilities.study,
    "weight_clusters": weight_clusters.study,
    "causes": causes.study,
    "ablations": ablations.study,
    "relations": relations.study,
    "configuration": configuration.study,
    "suites": suites.study,
    "scorecard": scorecard.study,  # the last one: it reads results of others
}

# The tables of a run directory that each study can say something about; one of them is enough.
TABLES: dict[str, frozenset[str]] = {
    "development": frozenset({"heads"}),
    "roles": frozenset({"heads"}),
    "abilities": abilities.TABLES,
    "weight_clusters": weight_clusters.TABLES,
    "causes": frozenset({"heads", "abilities"}),
    "ablations": frozenset({"ablations"}),
    "relations": relations.TABLES,
    "configuration": frozenset({"descriptions"}),
    "suites": frozenset({"heads"}),
    "scorecard": scorecard.TABLES,
}

# The studies that look at one score at a time. The others have one subject.
OF_SCORES = frozenset({"development", "causes"})
# The studies that take the user's roles.
OF_ROLES = frozenset({"roles", "abilities", "relations", "configuration", "suites", "scorecard"})
# The studies whose parts several processes can make at once: the names of the parts, and what makes one result of theirs.
PARTS: dict[str, tuple[Collection[str], Callable[[Sequence[Result]], Result]]] = {
    "development": (development.PARTS, development.joined)
}
# The studies that read results of another: its name, and what decides their numbers besides tables.
READS: dict[str, tuple[str, Callable[[RunDirectory], dict[str, object]]]] = {
    "scorecard": (scorecard.READS, scorecard.reads)
}


def applying(rundir: RunDirectory) -> list[str]:
    """The studies that can say something about the tables of `rundir`."""
    there = set(rundir.tables())
    asked = {
        "abilities": abilities.applies,
        "causes": causes.applies,
        "roles": roles.applies,
        "relations": relations.applies,
        "configuration": configuration.applies,
        "suites": suites.applies,
        "scorecard": scorecard.applies,
    }  # what a table must hold besides
    return [name for name in STUDIES if TABLES[name] & there and (name not in asked or asked[name](rundir))]


__all__ = [
    "OF_ROLES",
    "OF_SCORES",
    "PARTS",
    "READS",
    "STUDIES",
    "TABLES",
    "Finding",
    "Result",
    "abilities",
    "ablations",
    "applying",
    "causes",
    "configuration",
    "development",
    "relations",
    "roles",
    "scorecard",
    "suites",
    "weight_clusters",
]
