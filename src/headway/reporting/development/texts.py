"""The words of the chapter that do not belong to one section."""

from __future__ import annotations

from itertools import pairwise

from headway.reporting.context import Context
from headway.reporting.parts import Term
from headway.tables import SCORES
from headway.text import count, listed


def title(context: Context) -> str:
    return f"{context.score}: how it develops during training"


def facts(context: Context) -> list[tuple[str, str]]:
    """What was analysed, in numbers."""
    data = context.values.get("data", {})
    sizes = context.values.get("sizes", [])
    found = [("analysed", f"{context.score} ({context.values['score']['name']})")]
    found += [
        (
            str(size["size"]),
            f"{size['n_params']:,} parameters, {count(size['n_layers'], 'layer')} × {count(size['n_heads'], 'head')}, "
            f"{count(size['n_seeds'], 'seed')}, final step {size['final_step']:,}",
        )
        for size in sizes
    ]
    if data:
        steps = ", ".join(f"{step:,}" for step in data["step_list"])
        found += [
            (
                "in all",
                f"{count(data['runs'], 'run')}, {count(data['steps'], 'step')}, {data['heads']:,} heads, "
                f"{data['rows']:,} scores",
            ),
            ("steps", steps),
            ("missing", _missing(data["missing"])),
            ("identical steps", f"{data['duplicates']:,} in all runs together" if data["duplicates"] else "none"),
        ]
    return [*found, ("onset thresholds", _levels(context))]


def _missing(missing: dict[str, int]) -> str:
    return listed([f"{what}: {n:,}" for what, n in missing.items()]) or "nothing"


def _levels(context: Context) -> str:
    """The slopes that an onset must pass, and where they come from."""
    levels = context.value("thresholds", "levels") or []
    if not levels:
        return "none"
    text = f"{levels[0]:g}, {levels[1]:g} … {levels[-1]:g} per tenfold of step + 1"
    untrained, trained = context.value("thresholds", "untrained"), context.value("thresholds", "trained")
    if untrained is None:
        return f"{text}, as published"
    return f"{text}: up to half of the range from {untrained:.3g} (untrained) to {trained:.3g} (trained)"


def terms(context: Context) -> list[Term]:
    """The scores, then the study's words."""
    mine = context.values["score"]["name"]
    used = [name for name in (mine, "prev", "self") if name in SCORES] if mine.startswith("prev") else [mine]
    scores = [
        Term(SCORES[name].title, f"In tables, the score {name}; its unit is {SCORES[name].unit}.", SCORES[name].formula)
        for name in dict.fromkeys(used)
    ]
    attention = Term(
        "A[i, j]", "A head’s attention from token i back to token j, after the softmax, in a text of T tokens."
    )
    onset = Term(
        "Onset", f"The first step whose slope passes a threshold, averaged over 15 thresholds: {_levels(context)}."
    )
    return [attention, *scores, *_WORDS[:6], onset, *_WORDS[6:]]


_WORDS = [
    Term(
        "Head",
        "One attention head of one layer. Layers and heads are counted from 0. "
        "Only the terms Layer and Head of the published models count from 1.",
    ),
    Term("Run", "One training run: a size and a random seed."),
    Term("Depth", "A layer’s number, counted from 1, divided by the number of layers."),
    Term("Top head", "The head with the largest score of its run at the final step."),
    Term(
        "Trajectory", "The score of a run’s largest head at each measured step. The head may change from step to step."
    ),
    Term("Slope", "The rise of a trajectory between two measured steps, per tenfold of step + 1."),
    Term(
        "Emergence step",
        "Of a run’s smooth curve: as published, the step of its largest value; beside it, that of its steepest rise.",
    ),
    Term("Peak", "The largest value of a trajectory, at whatever step."),
    Term(
        "z-score",
        "A value minus the mean of all heads of its size at the final step, divided by their standard deviation.",
    ),
    Term("± SE", "The mean over seeds, plus and minus its standard error."),
    Term(
        "95% interval",
        "A range from a procedure that covers the true value in 95 of 100 repetitions, if its assumptions hold.",
    ),
    Term("Chance", "What the same statistic gives when the labels that it is about are shuffled."),
]

METHODS = [
    "Each text is tokenized on its own and read by the model. A head’s score of a corpus is the mean over texts of the text’s "
    "score: a mean of ratios, not a ratio of means.",
    "Mixed models are fitted by REML or maximum likelihood with Satterthwaite’s degrees of freedom, as in lme4 and lmerTest. "
    "Smooth curves are thin-plate regression splines, smoothed by generalised cross-validation, as in mgcv. "
    "Their summaries look as these packages print them.",
    "Beside each published model stands a robust line, and sentences rest on it. It takes sizes as the units: a line through "
    "the sizes’ means, t with two degrees of freedom less than sizes. Its error is never below that which runs alone give. "
    "Growth is each run’s own line, averaged within and then over sizes.",
    "An onset lies between two measured steps. Shares of runs are Turnbull’s estimate for such intervals. "
    "The fitted relation to size maximises the likelihood of the intervals, with a random effect of each size; its interval "
    "is a profile interval that rests on the number of sizes. Its grey range lets onsets lie anywhere in their intervals. For the largest derivative the interval is itself a 95% interval of a fitted curve, which may miss. "
    "A run that stops early bounds only from below what depends on its whole course. "
    "Intervals of a size’s median onset and of shares are percentile bootstraps over seeds.",
    "Chance for places shuffles layers within runs. Chance for paired heads is the best pairing of heads dealt out anew, "
    "with whole trajectories kept, because the best pairing of anything looks good. Heads of a run are dealt out to its "
    "layers; to ask for more than layers explain, heads of a layer are dealt out to the seeds.",
    "Seeds needed come from the power of a two-sample t test at the observed effect. "
    "Extrapolations fit a line to the sizes’ means, one observation a size.",
    "Steps are drawn on a logarithmic axis of step + 1, so that step 0, the initialisation, is on it. "
    "Two identical neighbouring checkpoints of a run have no slope between them.",
    "The figures draw the study’s tables as they are. Every table is a Parquet file in the run directory’s folder "
    "analysis, and every figure is there as SVG and PNG in the folder figures.",
]


def limits(context: Context) -> list[str]:
    steps = context.values.get("data", {}).get("step_list", [])
    found = [
        "A score says where attention goes, not what a head does with it, nor that the model needs it.",
        "The largest head of a run is the largest of many: it grows with the number of heads, by chance alone too.",
        "The heads of one run are not independent samples: models over heads are given as published.",
    ]
    gaps = [(a, b) for a, b in pairwise(steps) if a > 0 and b / a > 5]
    if gaps:
        words = listed([f"{a:,} and {b:,}" for a, b in gaps])
        found.insert(0, f"Nothing was measured between steps {words}: what happens there is not known more exactly.")
    return found
