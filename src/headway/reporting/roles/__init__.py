"""Make the report's chapter from a result of the study `roles`."""

from __future__ import annotations

from headway.known_scores import SCORES
from headway.reporting.context import Context
from headway.reporting.parts import Chapter, Term
from headway.reporting.roles import figures
from headway.reporting.roles.frames import VIEWS
from headway.studies import Result
from headway.text import count

_TITLE = "Roles of heads: when do they arise, and in what order?"
_SECTIONS = (figures.order, figures.numbers, figures.places, figures.changes)
_METHODS = [
    "A head holds a role at a step if its score exceeds the role’s level. Unless a level was given, it comes from the heads of all "
    "runs at step 0: with m their median and M the largest, it is m + 2 (M − m).",
    "A role has arisen in a run at the first step from which some head holds it at every later measured step. The onset lies "
    "between that step and the one before it.",
    "A role comes first in a run if its interval ends before the other’s begins. Runs whose intervals overlap are ties. The sign test "
    "over the other runs is exact; p is corrected over all pairs of roles (Holm).",
    "One role per head is that whose level it exceeds most. Roles of attention come before copying, since every head both "
    "attends somewhere and writes something.",
    "Overlaps and changes are compared with chance within each layer of each run: exact sums of hypergeometric counts, "
    "two-sided, corrected over all pairs or cells (Holm).",
]
_LIMITS = [
    "A role is a criterion on scores of attention or, for copying, of weights. Whether a head does what its role says needs an "
    "intervention.",
    "Copying is read from weights: the scales of norms, biases and what other layers do to a token are left out.",
    "The level says that a head differs from untrained ones. A head above it may do other things most of the time.",
    "An order of onsets is no cause: what two roles need may arise in this order for other reasons.",
    "Heads of one run are not independent. The tests of overlaps and changes take the heads of a layer as exchangeable.",
]


def chapter(result: Result) -> Chapter:
    """Return the chapter of the result."""
    context = Context(result, VIEWS)
    sections = [section(context) for section in _SECTIONS]
    orders = {("order", finding.name): "onsets" for finding in result.findings("order")}
    shown_by = orders | {("number", "last"): "holders"}
    return Chapter(
        study=result.study,
        subject=result.subject,
        title=_TITLE,
        summary=context.highlights(shown_by, sections),
        facts=[
            ("roles", f"{count(len(figures.role_names(context)), 'role')}, {count(len(context.tables['runs']), 'run')}")
        ],
        notes=result.notes,
        sections=sections,
        terms=_terms(context),
        methods=_METHODS,
        limits=_LIMITS,
        tables=context.tables,
        sizes=context.sizes,
        seeds=context.seeds,
        left_out=[(left["what"], left["reason"]) for left in result.values.get("left_out") or []],
    )


def _terms(context: Context) -> list[Term]:
    """Each role with its score and level."""
    found = []
    for row in context.tables["levels"].drop_nulls("level").iter_rows(named=True):
        score = SCORES[row["score"]]
        source = "given by the user" if row["given"] else f"from {count(row['n_untrained'], 'untrained head')}"
        found.append(
            Term(
                f"{row['role'].capitalize()} head",
                f"Its score {score.name} ({score.title.lower()}) exceeds {row['level']:.3g}, {source}.",
                score.formula,
            )
        )
    return found
