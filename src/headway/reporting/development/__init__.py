"""The chapter of the study `development`: its result -> sections of figures, in the order of the study."""

from __future__ import annotations

from headway.reporting.development import beyond, consistency, final, growth, onset, seeds, texts
from headway.reporting.development.context import Context
from headway.reporting.parts import Chapter, Section
from headway.studies import Result

_SECTIONS = (
    final.final_step,
    growth.over_time,
    onset.onset,
    growth.peak_and_slope,
    consistency.consistency,
    onset.intervals,
    beyond.position,
    beyond.matching,
    beyond.identity,
    seeds.how_many,
    seeds.sizes_to_come,
    beyond.duplicates,
)


def chapter(result: Result) -> Chapter:
    """The study's part of the report."""
    context = Context(result)
    sections: list[Section] = [section(context) for section in _SECTIONS]
    return Chapter(
        study=result.study,
        title=texts.title(context),
        summary=result.values.get("headline") or [],
        facts=texts.facts(context),
        notes=result.notes,
        sections=sections,
        terms=texts.terms(context),
        methods=texts.METHODS,
        limits=texts.limits(context),
        tables=context.tables,
        sizes=context.sizes,
        seeds=context.seeds,
        left_out=[(left["what"], left["reason"]) for left in result.values.get("left_out") or []],
    )
