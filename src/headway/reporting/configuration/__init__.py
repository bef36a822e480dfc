"""Make the report's chapter from a result of the study `configuration`."""

from __future__ import annotations

from headway.reporting.configuration import figures
from headway.reporting.configuration.frames import VIEWS
from headway.reporting.context import Context
from headway.reporting.parts import Chapter, Term
from headway.studies import Result
from headway.text import count, listed

_TITLE = "Configuration: are the heads of a role alike?"
_TERMS = [
    Term(
        "Weight feature",
        "A number of a head’s weights that no basis decides, so that heads of different runs can be compared: size, effective rank, "
        "symmetry, eigenvalues, and what is read of the tokens’ embeddings.",
        "of W_Q′ W_K and W_V′ W_O with norms folded",
    ),
    Term(
        "Balanced accuracy",
        "The mean of two shares: heads of the role that are told to hold it, and other heads that are told not to. Chance is 50%.",
    ),
    Term(
        "Similarity of attention",
        "The cosine of how two heads’ attention differs from an even one, on the same texts.",
    ),
    Term(
        "Similarity of outputs",
        "Linear centred kernel alignment, unbiased, of what two heads write at the same tokens. It is 0 on average for unrelated heads.",
        "CKA (Kornblith et al. 2019) with HSIC₁ (Song et al. 2012)",
    ),
]
_METHODS = [
    "Heads are those that hold a role of attention at the last step of their run. They are compared with the other heads of the same "
    "layers; layers in which all or none hold the role do not count.",
    "Features are less the mean of the head’s layer, over the run’s standard deviation. The layer of a head tells nothing.",
    "The classifier is a linear discriminant with a shrunk covariance (Ledoit and Wolf 2004). It never sees a run of the held-out seed.",
    "Chance comes from heads that exchange their roles within their layers, in each run anew. Everything is then computed again.",
    "Heads of two runs are matched one to one, so that the sum of similarities is largest.",
    "Intervals of differences are 95% t intervals over runs.",
]
_LIMITS = [
    "A role is defined by attention on texts. Weights that tell it show that the role has a configuration of its own, not that it "
    "causes anything.",
    "Features leave out biases, the scales of norms, and rotary positions at other distances than 0. A role that lies in these alone is not seen.",
    "Matching by attention and roles by attention rest on like quantities. Matching by outputs does not.",
]


def chapter(result: Result) -> Chapter:
    """Return the chapter of the result."""
    context = Context(result, VIEWS)
    sections = [figures.weights(context), figures.features(context), figures.matches(context)]
    shown_by = {("weights", "classification"): "classified", ("matches", "roles"): "matched"}
    return Chapter(
        study=result.study,
        subject=result.subject,
        title=_TITLE,
        summary=context.highlights(shown_by, sections),
        facts=[
            ("runs", count(context.tables["runs"].height, "run")),
            ("roles", listed(list(context.values["roles"])) or "none"),
        ],
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
