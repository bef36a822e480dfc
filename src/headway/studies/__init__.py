"""Studies: named sets of analyses over the tables of a run directory. A study knows nothing of torch."""

from __future__ import annotations

from collections.abc import Callable

from headway.studies import development, roles, weight_clusters
from headway.studies.result import Finding, Result

STUDIES: dict[str, Callable[..., Result]] = {
    "development": development.study,
    "roles": roles.study,
    "weight_clusters": weight_clusters.study,
}

# The tables of a run directory that each study can say something about; one of them is enough.
TABLES: dict[str, frozenset[str]] = {
    "development": frozenset({"heads"}),
    "roles": frozenset({"heads"}),
    "weight_clusters": weight_clusters.TABLES,
}

__all__ = ["STUDIES", "TABLES", "Finding", "Result", "development", "roles", "weight_clusters"]
