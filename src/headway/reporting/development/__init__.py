"""The chapter of a result of `development`: sections of figures, in the order of the study."""

from __future__ import annotations

from headway.reporting.context import Context
from headway.reporting.development import consistency, final, growth, identity, onset, position, seeds, texts
from headway.reporting.development.frames import VIEWS
from headway.reporting.parts import Chapter, Section
from headway.studies import Result

_SECTIONS = (
    final.final_step,
    growth.over_time,
    onset.onset,
    growth.peak_and_slope,
    consistency.consistency,
    onset.intervals,
    position.position,
    position.matching,
    identity.identity,
    seeds.how_many,
    seeds.sizes_to_come,
    identity.duplicates,
)

# The figure that stands beside a key finding in the summary, by the finding's section and name.
_SHOWN_BY = {
    ("growth", "rise"): "trajectories",
    ("onset", "published"): "onset-by-size",
    ("size", "peak"): "peak-by-size",
    ("size", "definitions"): "peak-definitions",
    ("consistency", "correlation"): "mds",
    ("position", "depth"): "top-head-depth",
    ("position", "ratio"): "ratio-heads",
    ("identity", "start"): "share-leads",
}


def chapter(result: Result) -> Chapter:
    """The result's part of the report."""
    context = Context(result, VIEWS)
    sections: list[Section] = [section(context) for section in _SECTIONS]
    return Chapter(
        study=result.study,
        subject=result.subject,
        title=texts.title(context),
        summary=context.highlights(_SHOWN_BY, sections),
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
