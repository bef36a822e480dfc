"""How a head score develops: in which heads, when, in which sizes, and how alike from seed to seed.

The analyses of the paper *Variation in previous-token attention*, on any score, and more beyond them.
`docs/development.md` lists every number and every table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from headway.progress import Progress, Silent
from headway.store.directory import RunDirectory
from headway.studies.development.builder import ResultBuilder, in_order
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

_Steps = Mapping[str, Callable[[ResultBuilder], None]]

_STEPS: _Steps = {
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
    "identity over time": identity,
    "number of seeds": seeds,
    "sizes to come": extrapolation,
    "findings": findings,
    "peak by definition": peak_definitions,
}
# This takes as long as all other steps together and needs none of them: another process can do it meanwhile.
_APART: _Steps = {"matching heads": matching}
PARTS: Mapping[str, _Steps] = {"others": _STEPS, "matching": _APART}


def study(
    rundir: RunDirectory,
    *,
    score: str = "prev_self_ratio",
    bootstraps: int = 1000,
    seed: int = 0,
    part: str | None = None,
    progress: Progress | None = None,
) -> Result:
    """Analyses the heads table of `rundir`; nothing is written before `Result.save`.

    Args:
        rundir: a run directory with a heads table.
        score: the score that is studied, one of `headway.tables.SCORES`.
        bootstraps: resamples for the intervals and shuffles for the tests against chance; 0 leaves these parts out.
        seed: of the random numbers; the same seed gives the same result.
        part: the only one of `PARTS` that is made. `joined` makes one result of all of them.
        progress: shown while it works.

    Raises:
        RunDirectoryError: there is no heads table.
        StatisticsError: it lacks the score, or holds no finite number of it.
    """
    progress = progress or Silent()
    draft = ResultBuilder(read_heads(rundir.read("heads"), score), bootstraps, seed)
    steps = {**_STEPS, **_APART} if part is None else PARTS[part]
    progress.start(f"analyse {score}", len(steps))
    for name, step in steps.items():
        step(draft)
        progress.advance(note=name)
    return draft.result()


def joined(parts: Sequence[Result]) -> Result:
    """The result that the study has whose parts these are, in the order of `PARTS`."""
    whole, *others = parts
    for part in others:
        whole = replace(
            whole,
            values=_merged(whole.values, part.values),
            tables=whole.tables | part.tables,
            notes=[*whole.notes, *part.notes],
            found=in_order([*whole.found, *part.found]),
        )
    return whole


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values of two parts. Of a list that both have, such as `left_out`, that of the other one follows."""
    both = dict(one)
    for name, value in other.items():
        if isinstance(value, dict):
            value = _merged(both.get(name, {}), value)
        elif isinstance(value, list):
            value = [*both.get(name, []), *value]
        both[name] = value
    return both
