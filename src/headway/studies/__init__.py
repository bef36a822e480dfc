"""Studies: named sets of analyses over the tables of a run directory. A study knows nothing of torch."""

from __future__ import annotations

from collections.abc import Callable

from headway.studies.previous_token import previous_token
from headway.studies.result import Result

STUDIES: dict[str, Callable[..., Result]] = {"previous_token": previous_token}

__all__ = ["STUDIES", "Result", "previous_token"]
