"""Texts of the chapter that belong to no single section."""

from __future__ import annotations

from headway.reporting.context import Context
from headway.reporting.parts import Term
from headway.reporting.weight_clusters.frames import KINDS
from headway.text import count

TITLE = "Weight clusters: do heads fall into groups, and is it real?"

TERMS = [
    Term(
        "Head’s weights",
        "A head’s rows of the query, key or value projection, or its columns of the output projection.",
    ),
    Term("Raw", "All of a head’s weights as one long vector, as in the published study."),
    Term(
        "Spectrum, subspace",
        "Features that do not depend on the basis inside a head. The spectrum holds the singular values of its QK and OV "
        "circuits. The subspaces are those that they read and write, compared by their distances.",
    ),
    Term(
        "Silhouette",
        "How much nearer a head is to its own cluster than to the next, averaged over heads.",
        "(b − a) / max(a, b)",
    ),
    Term(
        "Null",
        "The same search on heads without clusters. There are four nulls: random directions with the same norms; normal weights "
        "as in an untrained model; weights permuted between heads; and heads mixed by random rotations. "
        "The last one keeps the directions in which heads vary much. Clusters must exceed all four. "
        "Figures also show the run’s own step 0.",
    ),
    Term(
        "Groups",
        "Two or more sets of heads whose directions are alike within a set and differ between sets, beyond all nulls. "
        "Norms do not count: heads that differ only in norm are no groups, and a head of larger norm hides none.",
    ),
    Term(
        "Undecidable",
        "No null draw reached the observed value, but there are so few draws that even the smallest possible p does not survive "
        "correction.",
    ),
    Term(
        "p, corrected",
        "The smallest false discovery rate at which the result counts. Groups are corrected over all layers, kinds, features and "
        "runs, and then over the steps of those with groups.",
    ),
    Term("Outlier", "A head alone in its cluster, or one whose norm departed from the others’ during training."),
    Term(
        "Adjusted Rand index",
        "Agreement of two groupings of the same heads: 1 when they are equal, 0 on average by chance.",
    ),
    Term("KL divergence", "How far the next-token distribution moves from that of the unchanged model, in nats."),
    Term(
        "Random groups",
        "Groups of as many heads as the cluster, drawn from the same layers: all such groups if they are few.",
    ),
]

METHODS = [
    "Heads are clustered by k-means: two clusters, ten starts, a fixed seed. The tables also have more clusters, and Ward’s "
    "method. The clusters of H heads are the same in the H − 1 dimensions in which their distances live.",
    "p is the share of null draws whose silhouette is at least as large, the observed one included. For rotated heads it is that "
    "of the share of variance between clusters. The whole search is repeated on each draw. "
    "Corrections follow Benjamini and Hochberg.",
    "Groups are sought by k-means among heads’ directions. Heads alone in a cluster, or with more than twice the median norm, "
    "are set aside first, in null draws too. Draws are added while few of them reach the heads’ silhouette (Besag and Clifford "
    "1991). A further group must improve the separation by more than it does in heads without it.",
    "A head has departed from the others if its log norm changes at some step by far more than theirs (Grubbs 1950; Simes 1986 over "
    "steps). Its norm must also be at least 1.5 times their median, or less than the inverse of that.",
    "A transition’s place and verdict come from comparing a line, a smooth curve and up to three jumps on log steps. "
    "The bootstrap resamples runs if there are several, and residuals otherwise.",
    "Interventions act on the heads’ outputs before the output projection. Percentiles compare the effect with that of random "
    "groups; p counts the effect itself among them.",
]

LIMITS = [
    "Tests between clusters use the weights in which the clusters were found: they describe, they do not confirm.",
    "Raw weights depend on the basis inside a head, which training does not fix: two heads that do the same may look different.",
    "An effect of an intervention says that the model uses those heads, not what for. Heads that back each other up hide effects.",
    "Each null stands for one way to have no clusters: uneven norms, weights as in a fresh model, columns of larger weights, "
    "one Gaussian of any covariance.",
    "Weak groups are missed if norms are very uneven: see the table of power in the documentation of the study.",
    "With few heads in a layer, any head can be taken for a cluster. With four heads little can be told apart from noise.",
]


def facts(context: Context) -> list[tuple[str, str]]:
    """Labels and values that say what was analysed."""
    found = []
    if context.has("lines"):
        runs, steps = (len(context.levels("lines", column)) for column in ("run", "step"))
        kinds = ", ".join(context.levels("lines", "kind", KINDS))
        found.append(("clusters", f"{count(runs, 'run')}, {count(steps, 'step')}, weights {kinds}"))
    if context.has("effects"):
        n, runs = len(context.tables["effects"]), len(context.levels("effects", "run"))
        found.append(("interventions", f"{n:,} with controls, in {count(runs, 'run')}"))
    if context.has("prompts"):
        found.append(("prompts", f"{len(context.levels('prompts', 'prompt')):,}"))
    return found
