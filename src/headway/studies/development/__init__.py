"""How a head score develops: in which heads, when, in which sizes, and how alike from seed to seed.

The analyses of the paper *Variation in previous-token attention*, on any score, and more beyond them.
`docs/development.md` lists every number and every table.
"""

from __future__ import annotations

from headway.progress import Progress, Silent
from headway.store.directory import RunDirectory
from headway.studies.development.builder import ResultBuilder
from headway.studies.development.consistency import consistency
from headway.studies.development.emergence import emergence
from headway.studies.development.extrapolation import extrapolation
from headway.studies.development.final import final_step
from headway.studies.development.findings import findings
from headway.studies.development.growth import growth
from headway.studies.development.heads import read_heads
from headway.studies.development.identity import identity
from headway.studies.development.intervals import onset_intervals
from headway.studies.development.matching import matching
from headway.studies.development.models import final_models, growth_models, size_models
from headway.studies.development.onset import onset
from headway.studies.development.overview import overview
from headway.studies.development.peak_definitions import peak_definitions
from headway.studies.development.position import position
from headway.studies.development.ratio import ratio
from headway.studies.development.robust import robust
from headway.studies.development.seeds import seeds
from headway.studies.result import Result

_PARTS = {
    "what is there": overview,
    "final step": final_step,
    "ratio without an upper end": ratio,
    "final step, models": final_models,
    "growth": growth,
    "growth, models": growth_models,
    "onset": onset,
    "emergence": emergence,
    "onset, peak and slope by size": size_models,
    "sizes as units": robust,
    "consistency": consistency,
    "onset with intervals": onset_intervals,
    "position across seeds": position,
    "matching heads": matching,
    "identity over time": identity,
    "number of seeds": seeds,
    "sizes to come": extrapolation,
    "findings": findings,
    "peak by definition": peak_definitions,
}


def study(
    rundir: RunDirectory,
    *,
    score: str = "prev_self_ratio",
    bootstraps: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Result:
    """Analyses the heads table of `rundir`; nothing is written before `Result.save`.

    Args:
        rundir: a run directory with a heads table.
        score: the score that is studied, one of `headway.tables.SCORES`.
        bootstraps: resamples for the intervals and shuffles for the tests against chance; 0 leaves these parts out.
        seed: of the random numbers; the same seed gives the same result.
        progress: shown while it works.

    Raises:
        RunDirectoryError: there is no heads table.
        StatisticsError: it lacks the score, or holds no finite number of it.
    """
    progress = progress or Silent()
    draft = ResultBuilder(read_heads(rundir.read("heads"), score), bootstraps, seed)
    progress.start(f"analyse {score}", len(_PARTS))
    for name, part in _PARTS.items():
        part(draft)
        progress.advance(note=name)
    return draft.result()
