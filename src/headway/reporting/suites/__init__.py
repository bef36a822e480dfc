"""Make the report's chapter from a result of the study `suites`."""

from __future__ import annotations

import polars as pl

from headway.reporting.context import Context
from headway.reporting.parts import Chapter, Term
from headway.reporting.suites import figures
from headway.reporting.suites.frames import VIEWS
from headway.studies import Result
from headway.text import count

_TITLE = "Suites: do roles arise after as much training?"
_METHODS = [
    "A role’s level is the same in all suites: the largest of the levels that the untrained heads of each suite give. So no untrained "
    "head of any suite passes it.",
    "A role has arisen in a run at the first step from which some head holds it at every later measured step. The onset lies between "
    "that step and the one before it, and so do its tokens.",
    "Onsets are taken as log-normal and known only up to their intervals. Factors between suites come from maximum likelihood, with F "
    "tests and t intervals. Runs are the units.",
    "If two suites share sizes, only runs of these sizes are compared, each within its size. p is corrected over roles and pairs of "
    "suites (Holm).",
]
_LIMITS = [
    "Suites differ in many ways at once. A factor between them is not the effect of any one of these.",
    "Steps of suites with different batches are not comparable. Tokens of different tokenizers are not the same amount of text.",
    "Tokens that come from a revision’s name are rounded.",
    "Runs of one size in a suite often share their data and its order, so they are not independent in all respects.",
]
_TERMS = [
    Term("Tokens seen", "Tokens that a run has been trained on until a step, repeated ones counted each time."),
    Term("Onset", "The time from which on some head holds the role at every later measured step."),
    Term("Factor", "The onset in the second suite over that in the first."),
]


def chapter(result: Result) -> Chapter:
    """Return the chapter of the result."""
    context = Context(result, VIEWS)
    sections = [figures.compared(context), figures.followed(context)]
    # The figure shows one role until the reader chooses another, so it stands beside the findings on that role alone.
    first = next(iter(result.values["roles"]))
    compared = [finding for finding in result.findings("compared") if finding.values.get("role") == first]
    shown_by = {("compared", finding.name): "suite-onsets" for finding in compared}
    runs = context.tables["runs"]
    return Chapter(
        study=result.study,
        subject=result.subject,
        title=_TITLE,
        summary=context.highlights(shown_by, sections),
        facts=[(name, count(runs.filter(pl.col("suite") == name).height, "run")) for name in figures.names(context)],
        notes=result.notes,
        sections=sections,
        terms=_TERMS,
        methods=_METHODS,
        limits=_LIMITS,
        tables=context.tables,
        colours=len(context.sizes),
        left_out=[(left["what"], left["reason"]) for left in result.values.get("left_out") or []],
    )
