"""The words of the chapter that do not belong to one section."""

from __future__ import annotations

from itertools import pairwise

from headway.reporting.development.context import Context
from headway.reporting.parts import Term
from headway.tables import SCORES
from headway.text import count, listed


def title(context: Context) -> str:
    return f"{context.score}: how it develops during training"


def facts(context: Context) -> list[tuple[str, str]]:
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
    return found


def _missing(missing: dict[str, int]) -> str:
    return listed([f"{what}: {n:,}" for what, n in missing.items()]) or "nothing"


def terms(context: Context) -> list[Term]:
    """The scores, then the study's words."""
    mine = context.values["score"]["name"]
    used = [name for name in (mine, "prev", "self") if name in SCORES]
    scores = [
        Term(SCORES[name].title, f"In tables, the score {name}; its unit is {SCORES[name].unit}.", SCORES[name].formula)
        for name in dict.fromkeys(used)
    ]
    attention = Term(
        "A[i, j]", "A head’s attention from token i back to token j, after the softmax, in a text of T tokens."
    )
    return [attention, *scores, *_WORDS]


_WORDS = [
    Term(
        "Head",
        "One attention head of one layer. Layers and heads are counted from 0, but for the terms Layer and Head of the "
        "published models, which count from 1.",
    ),
    Term("Run", "One training run: a size and a random seed."),
    Term(
        "Depth", "A layer’s place, from the first to the last: its number, counted from 1, over the number of layers."
    ),
    Term(
        "Trajectory", "The score of a run’s largest head at each measured step; the head may change from step to step."
    ),
    Term("Slope", "The rise of a trajectory between two measured steps, per tenfold of step + 1."),
    Term("Onset", "The first step whose slope passes a threshold, averaged over the 15 thresholds 0.1, 0.2 … 1.5."),
    Term(
        "Emergence step",
        "Of a run’s smooth curve: as published, the step of its largest value; beside it, of its steepest rise.",
    ),
    Term("Peak", "The largest value of a trajectory, at whatever step."),
    Term("z-score", "A value less the mean of all heads of its size at the final step, over their standard deviation."),
    Term("± SE", "The mean over seeds, plus and minus its standard error."),
    Term(
        "95 % interval",
        "A range made by a procedure that covers the true value in 95 of 100 repetitions, if its assumptions hold.",
    ),
    Term("Chance", "What the same statistic gives when the labels that it is about are shuffled."),
]

METHODS = [
    "Each text is tokenized on its own and read by the model; a head’s score of a corpus is the mean over texts of the "
    "text’s score: a mean of ratios, not a ratio of means.",
    "Mixed models are fitted by REML or maximum likelihood with Satterthwaite’s degrees of freedom, as "
    "lme4 and lmerTest "
    "do; smooth curves are thin-plate regression splines with the smoothing chosen by generalised cross-validation, as "
    "mgcv does. Their summaries are set as those packages print them.",
    "Onsets are known to lie between two measured steps; shares of runs are Turnbull’s estimate for such intervals, the "
    "fitted relation to size maximises the likelihood of the intervals, and its grey range lets the onsets lie anywhere "
    "in them. For the largest derivative the interval is itself a 95 % interval of a fitted curve, which may miss. A run "
    "that stops early bounds only from below what depends on its whole course. Intervals over seeds are percentile "
    "bootstraps.",
    "Chance for places shuffles layers within runs; chance for paired heads is the best pairing of heads dealt out "
    "anew, whole trajectories kept, because the best pairing of anything looks good: heads of a run are dealt out to its "
    "layers, or, to ask for more than layers explain, heads of a layer to the seeds.",
    "Seeds needed are read from the power of a two-sample t test at the observed effect; extrapolations "
    "fit a line to the "
    "sizes’ means, one observation a size.",
    "Steps are drawn on a logarithmic axis of step + 1, so that step 0, the initialisation, is on it. Two identical "
    "neighbouring checkpoints of a run have no slope between them.",
    "The figures draw the study’s tables as they are; every table is a Parquet file in the run directory’s folder "
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
        found.insert(
            0, f"Nothing was measured between steps {words}: what happens there is known only to lie between them."
        )
    return found
