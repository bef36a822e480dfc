"""The words of the chapter that do not belong to one section."""

from __future__ import annotations

from headway.reporting.context import Context
from headway.reporting.parts import Term
from headway.reporting.weight_clusters.frames import KINDS
from headway.text import count

TITLE = "Weight clusters: do heads fall into groups, and is it real?"

TERMS = [
    Term("Head’s weights", "A head’s rows of the query, key or value projection, or its columns of the output projection."),
    Term("Raw", "All of a head’s weights as one long vector: what the published study compared."),
    Term("Spectrum, subspace", "Features that do not depend on the basis inside a head: the singular values of its QK and OV "
         "circuits, and the distances between the subspaces they read and write."),
    Term("Silhouette", "How much nearer a head is to its own cluster than to the next, averaged over heads.", "(b − a) / max(a, b)"),
    Term("Null", "The same search on heads that have no clusters: random directions of the same norms, normal weights as in a "
         "fresh model (not the run’s own step 0, which is drawn beside it), weights permuted between heads, and heads mixed by "
         "random rotations, which keep the directions in which heads vary much. To claim clusters, all must be beaten."),
    Term("Groups", "Two or more sets of heads whose directions are alike within and differ between them, beyond all nulls. "
         "Norms are set aside: heads of different norm alone are no groups, and a head of larger norm hides none."),
    Term("Undecidable", "None of the null draws reached what was observed, but so few were made that the smallest p that they can "
         "give does not survive correction."),
    Term("p, corrected", "The least false discovery rate at which the result counts. For groups, first over all layers, kinds, "
         "features and runs, then over the steps of those that have any."),
    Term("Outlier", "A head alone in its cluster, or one whose norm left the others’ in training."),
    Term("Adjusted Rand index", "Agreement of two groupings of the same heads: 1 when they are equal, 0 on average by chance."),
    Term("KL divergence", "How far the next-token distribution moves from the untouched model’s, in nats."),
    Term("Random groups", "As many heads as the cluster has, drawn from the same layers: all such groups where they are few."),
]  # fmt: skip

METHODS = [
    "Heads are clustered by k-means (two clusters, ten starts, a fixed seed), with more clusters and Ward’s method beside it in "
    "the tables; distances between H heads live in at most H − 1 dimensions, where the clusters are the same.",
    "p counts the null draws whose silhouette (for rotated heads, share of variance between clusters) is at least as large, the "
    "observed one included; the whole search is repeated on each draw. Corrections follow Benjamini and Hochberg.",
    "Groups are sought by k-means among heads’ directions; heads alone in a cluster, or with more than twice the median norm, are "
    "set aside first, in null draws as in the heads. Draws are added while few of them reach the heads’ silhouette (Besag and "
    "Clifford 1991). A further group must part the heads better than it does where there is none.",
    "A head has left the others if the change of its log norm, averaged after and before some step, lies far from the changes of the "
    "others (Grubbs 1950; Simes 1986 over steps), and its norm is at least 1.5 times their median or less than its inverse.",
    "A transition’s place and verdict come from a comparison of a line, a smooth curve and up to three steps on log steps, "
    "with a bootstrap over runs where there are several and over residuals otherwise.",
    "Interventions act on the heads’ outputs before the output projection. Percentiles compare the effect with that of random "
    "groups; p counts the effect itself among them.",
]

LIMITS = [
    "Clusters were found in the same weights that the tests between them compare: those tests describe, they do not confirm.",
    "Raw weights depend on the basis inside a head, which training does not fix: two heads that do the same may look different.",
    "An effect of an intervention says that the model uses those heads, not what for; heads that back each other up hide it.",
    "Each null stands for one way to have no clusters: uneven norms, weights as in a fresh model, columns of larger weights, "
    "one Gaussian of any covariance.",
    "Weak groups are missed where norms are very uneven: see the table of power in the documentation of the study.",
    "One head of a layer with few heads can always be taken for a cluster; with four heads little can be told apart from noise.",
]


def facts(context: Context) -> list[tuple[str, str]]:
    """What was analysed."""
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
