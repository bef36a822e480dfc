"""Make the report's chapter from a result of the study `causes`."""

from __future__ import annotations

from headway.reporting.causes import figures, texts
from headway.reporting.causes.frames import VIEWS
from headway.reporting.context import Context
from headway.reporting.parts import Chapter
from headway.studies import Finding, Result


def chapter(result: Result) -> Chapter:
    """Return the chapter of the result."""
    context = Context(result, VIEWS)
    factors: dict[str, list[str]] = context.values["factors"]
    outcomes = context.values["outcomes"]
    sections = [figures.over_steps(context), figures.onsets(context), figures.values(context), figures.told(context)]
    on_onsets = [*result.findings("onset"), *result.findings("windows")]
    shown_by = {
        (finding.section, finding.name): f"onsets-{figures.slug(finding.values['factor'])}"
        for finding in on_onsets
        if "factor" in finding.values  # a result of an older headway lacks it
    }

    def at(finding: Finding) -> dict[str, str]:
        return {"outcome_title": str(outcomes[finding.values["outcome"]]["title"])}

    return Chapter(
        study=result.study,
        subject=result.subject,
        title=texts.title(context),
        summary=context.highlights(shown_by, sections, at),
        facts=texts.facts(context),
        notes=result.notes,
        sections=sections,
        terms=texts.TERMS,
        methods=texts.METHODS,
        limits=texts.LIMITS,
        tables=context.tables,
        left_out=[(left["what"], left["reason"]) for left in result.values.get("left_out") or []],
        colours=max(len(levels) for levels in factors.values()),
    )
