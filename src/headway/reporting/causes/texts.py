"""Texts of the chapter that belong to no single section."""

from __future__ import annotations

from headway.reporting.context import Context
from headway.reporting.parts import Term
from headway.text import count

TERMS = [
    Term(
        "Factor, level",
        "Something in which the runs of a laboratory differ, such as the share of repeated passages; one of its values.",
    ),
    Term(
        "Onset",
        "The first checkpoint past a level that is the same for all runs: half way between untrained runs (their median) and "
        "trained ones (the 90% quantile of their peaks). It is known only to lie after the checkpoint before.",
    ),
    Term("Peak, final value", "The largest value of a run over its steps; its value at the last step."),
    Term(
        "p, corrected",
        "The smallest level at which the comparison counts, with all comparisons of the outcome (Holm 1979).",
    ),
    Term(
        "These runs can tell",
        "The smallest effect that a comparison finds with a power of 80%, after correction.",
        "(t₁₋α/₂ + t₀.₈) × standard error",
    ),
]

METHODS = [
    "Runs are the units. Steps within a run are not, because errors of a run persist from step to step.",
    "Onsets are compared by a log-normal regression of intervals, for two levels at a time. It allows for the other factors and for "
    "sizes. p is that of the likelihood ratio, as F with the degrees of freedom of least squares. If no run of a level has an "
    "onset, its factor has only one bound.",
    "Peaks and final values are compared by a mixed model with a random effect of the seed, because runs of one seed share their "
    "initialisation and their data. If that effect is estimated as 0, the model is that of least squares. Intervals follow "
    "Satterthwaite.",
    "Interactions of two factors are tested by F, with least squares.",
]

LIMITS = [
    "An effect holds for these models, these data and these levels. It does not say what a larger model needs.",
    "One factor is changed at a time, but levels may change more than their name says: a share of repeats also changes how much text "
    "a model reads.",
    "No difference found is no proof of none: see the smallest effect that these runs can tell.",
    "The onset’s level is taken from the same runs. It moves if a level with far larger peaks is added.",
    "Runs of all levels are taken to scatter alike about their means.",
]


def title(context: Context) -> str:
    return f"Causes: what changes {context.score.lower() if context.score[:2].istitle() else context.score}?"


def facts(context: Context) -> list[tuple[str, str]]:
    """Labels and values that say what was analysed."""
    runs = context.tables["runs"]
    return [
        *(
            (f"Factor {name.replace('_', ' ')}", ", ".join(levels))
            for name, levels in context.values["factors"].items()
        ),
        ("Runs", f"{count(runs.height, 'run')}, {count(runs['seed'].n_unique(), 'seed')}"),
        ("Sizes", ", ".join(context.levels("runs", "size"))),
        *(
            (
                f"Onset of {context.values['outcomes'][name]['title'][:1].lower()}{context.values['outcomes'][name]['title'][1:]}",
                f"past {level:.3g}",
            )
            for name, level in context.values["levels_of_onset"].items()
        ),
    ]
