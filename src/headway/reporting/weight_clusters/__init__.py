"""Make the report's chapter from a result of the study `weight_clusters`."""

from __future__ import annotations

from headway.reporting.context import Context
from headway.reporting.parts import Chapter
from headway.reporting.weight_clusters import clusters, effects, heads, published, texts
from headway.reporting.weight_clusters.frames import VIEWS
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

# The figure that stands beside a key finding in the summary, by the finding's section and name.
_SHOWN_BY = {
    ("groups", "groups"): "map",
    ("outliers", "left"): "norms",
    ("outliers", "norms"): "norms",
    ("published", "clusters"): "silhouette",
    ("effects", "beyond"): "effects",
    ("prompts", "differ"): "answers",
}


def chapter(result: Result) -> Chapter:
    """Return the chapter of the result."""
    context = Context(result, VIEWS)
    sections = [section(context) for section in _SECTIONS]
    return Chapter(
        study=result.study,
        subject=result.subject,
        title=texts.TITLE,
        summary=context.highlights(_SHOWN_BY, sections),
        facts=texts.facts(context),
        notes=result.notes,
        sections=sections,
        terms=texts.TERMS,
        methods=texts.METHODS,
        limits=texts.LIMITS,
        tables=context.tables,
        left_out=[(left["what"], left["reason"]) for left in result.values.get("left_out") or []],
    )
