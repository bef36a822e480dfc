"""What is there, what is missing and what is there twice."""

from __future__ import annotations

from dataclasses import asdict

import polars as pl

from headway.studies.development.builder import NEEDS_BOOTSTRAPS, ResultBuilder
from headway.studies.development.heads import Heads
from headway.studies.prose import from_to
from headway.text import listed


def overview(draft: ResultBuilder) -> None:
    """Adds the score's definition, the counts, and notes on gaps and duplicates."""
    heads = draft.heads
    draft.put("score", asdict(heads.score))
    draft.put("options", {"score": heads.score.name, "bootstraps": draft.bootstraps, "seed": draft.seed})
    draft.put("data", _counts(heads))
    draft.put("sizes", heads.sizes.to_dicts())
    draft.tables |= {"runs": heads.runs, "missing": heads.missing, "duplicates": heads.duplicates}
    repeated = _notes_on_duplicates(heads)
    draft.notes += _notes_on_factors(heads) + _notes_on_gaps(heads) + repeated + _notes_on_final_steps(heads)
    _say_duplicates(draft, repeated)
    if not draft.bootstraps:
        draft.say_left_out("intervals over seeds and tests against chance", NEEDS_BOOTSTRAPS)


def _counts(heads: Heads) -> dict[str, object]:
    steps = heads.frame["step"].unique().sort()
    return {
        "rows": heads.frame.height,
        "final_step_rows": heads.final.height,
        "trajectory_rows": heads.trajectories.height,
        "runs": heads.runs.height,
        "steps": len(steps),
        "step_list": steps.to_list(),
        "sizes": heads.sizes.height,
        "seeds": heads.runs["seed"].n_unique(),
        "heads": int((heads.runs["n_layers"] * heads.runs["n_heads"]).sum()),
        "missing": dict(heads.missing.group_by("what", maintain_order=True).len().iter_rows()),
        "duplicates": heads.duplicates.height,
    }


_GAPS = {
    "run": "no run of size {size} with seed {seed}",
    "step": "{run} lacks step {step}",
    "heads": "{run} lacks {n_heads} heads at step {step}",
    "not a number": "{run} has {n_heads} scores that are not numbers at step {step}; they are left out",
}


def _notes_on_factors(heads: Heads) -> list[str]:
    if not heads.factors:
        return []
    return [
        f"Runs of one size differ in {listed(heads.factors)}. In this chapter each combination of levels counts as a size of "
        "its own, also where sizes are compared. The study `causes` compares the levels."
    ]


def _notes_on_gaps(heads: Heads) -> list[str]:
    notes = []
    for (what,), rows in heads.missing.group_by("what", maintain_order=True):
        said = [_GAPS[str(what)].format(**row) for row in rows.head(3).iter_rows(named=True)]
        more = f"; and {rows.height - 3:,} more, listed in the table `missing`" if rows.height > 3 else ""
        notes.append(f"The grid is not full: {'; '.join(said)}{more}.")
    return notes


def _notes_on_duplicates(heads: Heads) -> list[str]:
    notes = []
    neighbours = heads.duplicates.filter("neighbours")
    for (step, same_as), rows in neighbours.group_by("step", "same_as", maintain_order=True):
        notes.append(
            f"Steps {same_as:,} and {step:,} are identical in {rows.height} of {heads.runs.height} runs. "
            f"No slope is taken between them.{_FIRST_STEP if (same_as, step) == (0, 1) else ''}"
        )
    notes += [
        f"Step {same_as:,} of {run} is identical to its later step {step:,}, though not to those between. "
        "One of them was probably served with the wrong weights. Slopes reach over the earlier one; check both."
        for run, step, same_as in heads.duplicates.filter(~pl.col("neighbours")).select("run", "step", "same_as").rows()
    ]
    return notes


_FIRST_STEP = " In Pythia, and in any run whose warm-up starts at 0, the first step has learning rate 0."


def _say_duplicates(draft: ResultBuilder, notes: list[str]) -> None:
    """What was found of duplicates, and what equal scores do not tell."""
    duplicates = draft.heads.duplicates
    counted = duplicates.group_by("same_as", "step", "neighbours", maintain_order=True).len("n_runs").to_dicts()
    draft.put("beyond.duplicates", {"steps": counted})
    text = notes or ["No two measured steps of a run have the same scores in all heads."]
    draft.find("duplicates", "steps", *text, steps=counted)
    draft.find(
        "duplicates",
        "caveat",
        "Scores do not tell which of two identical steps holds the right weights.",
        "A step that differs from all others may still not be the one that it is named for.",
    )


def _notes_on_final_steps(heads: Heads) -> list[str]:
    late = heads.runs.filter(~pl.col("has_final_step"), ~pl.col("stops_early"))
    notes = [
        f"{run} has no step {step:,}, the final step of its size. It is left out of what is said about that step."
        for run, step in late.select("run", "final_step").rows()
    ]
    notes += [
        f"{run} stops at step {last:,}, before the final step of its size, {step:,}. "
        "It is left out of what is said about that step, of peaks and of slopes. "
        "An onset that depends on what came later is known only from below."
        for run, last, step in heads.runs.filter("stops_early").select("run", "last_step", "final_step").rows()
    ]
    steps = heads.sizes["final_step"].unique().sort()
    if len(steps) > 1:
        each = from_to(heads.sizes.select("model", "final_step").rows(), "{:,.0f}".format)
        notes.append(f"The sizes end at different steps, {each}. Their final steps are compared as they are.")
    return notes
