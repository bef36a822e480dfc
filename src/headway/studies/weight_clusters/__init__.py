"""Do heads fall into clusters by their weights, when, and is it real?

The analyses of "Pythia clustering dynamics", with controls that separate findings from artefacts. The docstring
of each module describes its tables.
"""

from __future__ import annotations

import polars as pl

from headway.errors import RunDirectoryError
from headway.progress import Progress, Silent
from headway.stats.corrections import LEVEL
from headway.store.directory import RunDirectory
from headway.studies.result import Result
from headway.studies.stacks import require_one_stack
from headway.studies.weight_clusters.agreement import between_seeds, composition, seed_means
from headway.studies.weight_clusters.effects import conventions, effects, prompts
from headway.studies.weight_clusters.findings import findings, too_few_heads
from headway.studies.weight_clusters.heads import heads
from headway.studies.weight_clusters.outliers import outliers
from headway.studies.weight_clusters.power import power
from headway.studies.weight_clusters.power import say as say_power
from headway.studies.weight_clusters.published import STRONG, WEAK, layouts, published, published_timeline
from headway.studies.weight_clusters.timeline import layer_map, main_series, timeline
from headway.studies.weight_clusters.transitions import transitions

__all__ = ["LEVEL", "NAME", "STRONG", "SUBJECT", "TABLES", "WEAK", "main_series", "study"]

NAME = "weight_clusters"
SUBJECT = "weights"
TABLES = frozenset({"clusters", "clusters_published", "interventions", "interventions_published", "prompts"})


def study(rundir: RunDirectory, *, bootstraps: int = 1000, seed: int = 0, progress: Progress | None = None) -> Result:
    """Analyse the table `clusters` of `rundir`, and the tables `interventions` and `prompts` if there are any.

    Args:
        rundir: a run directory with at least one of the tables clusters, interventions and prompts.
        bootstraps: resamples for the intervals of change points; 0 leaves change points out.
        seed: seed of the random numbers.
        progress: shows the progress.

    Raises:
        RunDirectoryError: the run directory has none of these tables.
    """
    there = set(rundir.tables())
    if not there & TABLES:
        raise RunDirectoryError(f"{rundir.path} holds no table 'clusters': `headway cluster` makes one")
    progress = progress or Silent()
    result = Result(NAME, SUBJECT, {"level": LEVEL})
    if there & {"clusters", "clusters_published"}:
        name = "clusters" if "clusters" in there else "clusters_published"
        if name == "clusters_published":
            result.notes.append(
                "The weights were read in the published layout, which mixes heads and kinds of a fused weight. "
                "None of this is about heads: `headway cluster` without --layout reads them by head."
            )
        _clusters(result, rundir.read(name), bootstraps, seed, progress)
    if {"clusters", "clusters_published"} <= there:
        layouts(result, rundir.read("clusters"), rundir.read("clusters_published"))
    if "interventions" in there:
        effects(result, rundir.read("interventions"))
    if {"interventions", "interventions_published"} <= there:
        conventions(result, rundir.read("interventions"), rundir.read("interventions_published"))
    if "prompts" in there:
        prompts(result, rundir.read("prompts"))
    _leave_out(result)
    return result


# For each part its function and its tables. The first table is empty if the part found nothing.
_PARTS = {
    "no clusters are here: `headway cluster SUITE --out DIR` makes them, of layers with two heads or more": (
        "timeline",
        "map",
        "heads",
        "explained",
        "composition",
        "seeds",
        "seed_means",
        "transitions",
        "published",
        "published_timeline",
        "outliers",
        "power",
    ),
    "no interventions with controls are here: `headway intervene SUITE --out DIR` makes them": (
        "effects",
        "tops",
        "top_words",
    ),
    "no prompts with controls are here: `headway intervene SUITE --out DIR` asks them": (
        "prompts",
        "answers",
        "answers_by_task",
    ),
}


def _leave_out(result: Result) -> None:
    for reason, tables in _PARTS.items():
        if not result.tables.get(tables[0], pl.DataFrame()).height:
            result.leave_out(tables[0], reason, tables)


def _clusters(result: Result, table: pl.DataFrame, bootstraps: int, seed: int, progress: Progress) -> None:
    require_one_stack(table)
    progress.start("weight clusters", 6)
    result.notes.extend(too_few_heads(table))
    lines = timeline(table)
    result.tables["timeline"] = lines
    result.tables["map"] = layer_map(lines)
    progress.advance(note="timeline")
    result.tables["heads"], result.tables["explained"] = heads(table, result.notes)
    progress.advance(note="heads")
    result.tables["composition"] = composition(table)
    result.tables["seeds"] = between_seeds(table)
    result.tables["seed_means"] = seed_means(result.tables["seeds"])
    progress.advance(note="composition")
    result.tables["transitions"] = transitions(lines, bootstraps=bootstraps, seed=seed)
    progress.advance(note="transitions")
    result.tables["published"] = published(lines, result.tables["transitions"])
    result.tables["published_timeline"] = published_timeline(lines)
    result.tables["outliers"] = outliers(table)
    findings(result, table)
    progress.advance(note="findings")
    if bootstraps and len(simulated := power(table, seed)):
        result.tables["power"] = simulated
        say_power(result)
    progress.advance(note="power")
