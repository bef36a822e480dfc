"""The chapter of the study `weight_clusters`: its result -> sections of figures."""

from __future__ import annotations

from headway.reporting.parts import Chapter
from headway.reporting.weight_clusters import clusters, effects, heads, published, texts
from headway.reporting.weight_clusters.context import Context
from headway.studies import Result

_SECTIONS = (
    clusters.beyond_noise,
    clusters.transitions,
    clusters.metrics,
    heads.where_heads_lie,
    heads.who_is_with_whom,
    effects.what_they_do,
    effects.alone,
    published.what_was_published,
)


def chapter(result: Result) -> Chapter:
    """The study's part of the report."""
    context = Context(result)
    return Chapter(
        study=result.study,
        title=texts.TITLE,
        summary=result.values.get("headline") or [],
        facts=texts.facts(context),
        notes=result.notes,
        sections=[section(context) for section in _SECTIONS],
        terms=texts.TERMS,
        methods=texts.METHODS,
        limits=texts.LIMITS,
        tables=context.tables,
    )
