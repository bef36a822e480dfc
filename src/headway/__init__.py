"""Developmental interpretability of attention heads: when, where and how consistently they take on a role.

    import headway

    headway.measure("polypythias", where="size=14m seed=1..3", corpus="texts.txt", out="runs/mine")
    headway.analyze("runs/mine")
    headway.report("runs/mine")

`headway.measure` and `headway.report` are verbs and rooms at once: `headway.measure.head_scores(model, sequences)`.
Everything is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "analyze",
    "audit",
    "cluster",
    "import_heads",
    "intervene",
    "measure",
    "open_suite",
    "report",
    "stats",
    "status",
]

if TYPE_CHECKING:
    from headway import measure, report, stats
    from headway.verbs import analyze, audit, cluster, import_heads, intervene, open_suite, status

_ROOMS = frozenset({"measure", "report", "stats"})


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"headway.{name}")
    if name in __all__:
        return getattr(import_module("headway.verbs"), name)
    raise AttributeError(f"headway has no {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
