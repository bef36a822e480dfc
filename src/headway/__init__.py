"""Developmental interpretability of attention heads: when, where and how consistently they take on a role.

    import headway

    headway.measure("polypythias", where="size=14m seed=1..3", corpus="texts.txt", out="runs/mine")
    headway.analyze("runs/mine")
    headway.report("runs/mine")

The functions are documented in `headway.api`. Subpackages such as `headway.suites` and `headway.stats` are imported
when they are first used, so that `import headway` takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "analyze",
    "audit",
    "cluster",
    "describe",
    "head_scores",
    "import_abilities",
    "import_heads",
    "intervene",
    "measure",
    "open_suite",
    "pattern",
    "patterns",
    "power",
    "relate",
    "report",
    "scorecard",
    "status",
]

if TYPE_CHECKING:
    from headway.api import (
        analyze,
        audit,
        cluster,
        describe,
        import_abilities,
        import_heads,
        intervene,
        measure,
        open_suite,
        pattern,
        patterns,
        power,
        relate,
        report,
        scorecard,
        status,
    )
    from headway.attention import head_scores

_PACKAGES = (
    "abilities",
    "attention",
    "circuits",
    "clusters",
    "corpora",
    "integrity",
    "interventions",
    "models",
    "nano",
    "reporting",
    "stats",
    "store",
    "studies",
    "suites",
    "sweep",
    "tables",
)
_HOMES = dict.fromkeys(__all__, "headway.api") | {"head_scores": "headway.attention"}


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"headway.{name}")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"headway has no {name!r}; it has {', '.join(__dir__())}")


def __dir__() -> list[str]:
    return [*__all__, *_PACKAGES, "__version__"]
