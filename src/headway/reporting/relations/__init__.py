"""Make the report's chapter from a result of the study `relations`."""

from __future__ import annotations

from headway.reporting.context import Context
from headway.reporting.parts import Chapter, Section, Term
from headway.reporting.relations import figures
from headway.reporting.relations.frames import VIEWS
from headway.studies import Result
from headway.studies.relations.repeats import TOP
from headway.text import count

_TITLE = "Relations: which head feeds which?"
_TERMS = [
    Term(
        "Composition",
        "How much of what an earlier head writes a later head reads, by its queries (Q), keys (K) or values (V). It is 0 to 1.",
        "‖R W′‖ / (‖R‖ ‖W‖), Frobenius norms, of the folded circuits (Elhage et al. 2021)",
    ),
    Term(
        "Random heads",
        "Heads with the same singular values, whose directions are random. The root mean square of their composition is 1 / √d.",
        "d: the hidden size, less 1 if norms subtract the mean",
    ),
    Term(
        "Edge",
        "A pair of heads whose composition exceeds that of random heads: p ≤ 0.05 after Holm’s correction over all kinds and pairs of "
        "the checkpoint.",
    ),
    Term("Heads of the same layers", "All pairs of heads in the two layers of a pair: what layers alone explain."),
    Term(
        "Path",
        "The change of a later head when an earlier head’s part in its queries, keys or values is replaced, and nothing else.",
    ),
]
_METHODS = [
    "Composition is computed from weights alone. Gains and centring of norms are folded into them. Rotary positions are those of a token "
    "that attends to itself.",
    "Heads are those that hold a role at the last step of their run, and are followed back. Composition has risen at the first step "
    "from which some pair of them is an edge at every later measured step.",
    f"The {TOP} strongest pairs of each run at its last step are compared over runs. By chance heads exchange their places within their "
    "layers, in each run anew.",
    "Paths start from the residual stream that the model computed. The norm before a later head is computed anew on the changed input.",
    "Intervals are 95% t intervals over runs.",
]
_LIMITS = [
    "Composition says what a head can read of another one. It does not say that the model uses it: a path does, on given texts.",
    "Rotary positions turn queries and keys. What heads read at other distances than 0 may differ.",
    "Trained heads share some directions of the residual stream, so that many pairs beat random heads. Compare with heads of the "
    "same layers.",
    "Composition leaves out the scales of norms, biases, and what MLPs pass on.",
    "A path replaces one head’s direct part alone. Heads between that pass it on are left as they are.",
]


def chapter(result: Result) -> Chapter:
    """Return the chapter of the result."""
    context = Context(result, VIEWS)
    sections = list(_sections(context))
    shown_by = {("rise", "k"): "composition", ("repeats", "roles"): "circuit"}
    shown_by |= {("order", finding.name): "onsets" for finding in result.findings("order")}
    shown_by |= {("paths", finding.name): "paths" for finding in result.findings("paths")}
    return Chapter(
        study=result.study,
        subject=result.subject,
        title=_TITLE,
        summary=context.highlights(
            shown_by, sections, lambda one: {"title": one.values["title"]} if "title" in one.values else {}
        ),
        facts=_facts(context),
        notes=result.notes,
        sections=sections,
        terms=_TERMS,
        methods=_METHODS,
        limits=_LIMITS,
        tables=context.tables,
        sizes=context.sizes,
        seeds=context.seeds,
        left_out=[(left["what"], left["reason"]) for left in result.values.get("left_out") or []],
    )


def _sections(context: Context) -> list[Section]:
    of_compositions = (figures.rise, figures.order, figures.circuit, figures.repeats)
    found = [section(context) for section in of_compositions] if context.has("edge_counts") else []
    return [*found, figures.paths(context)] if context.has("path_means") else found


def _facts(context: Context) -> list[tuple[str, str]]:
    facts = [("runs", count(context.tables["runs"].height, "run"))]
    if context.has("edge_counts"):
        facts.append(("composition", f"at {count(len(context.levels('edge_counts', 'step')), 'step')}"))
    if context.has("path_changes"):
        senders, receivers = context.tables["path_changes"].select("senders", "receivers").row(0)
        facts.append(("paths", f"from {senders} to {receivers}"))
    return facts
