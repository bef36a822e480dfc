"""The words of the chapter that do not belong to one section."""

from __future__ import annotations

from headway.report.parts import Term
from headway.report.weight_clusters.context import Context
from headway.words import count

TITLE = "Weight clusters: do heads fall into groups, and is it real?"

TERMS = [
    Term("Head’s weights", "A head’s rows of the query, key or value projection, or its columns of the output projection."),
    Term("Raw", "All of a head’s weights as one long vector: what study 1 compared."),
    Term("Spectrum, subspace", "Features that do not depend on the basis inside a head: the singular values of its QK and OV "
         "circuits, and the distances between the subspaces they read and write."),
    Term("Silhouette", "How much nearer a head is to its own cluster than to the next, averaged over heads.", "(b − a) / max(a, b)"),
    Term("Null", "The same search on heads that have no clusters: random directions of the same norms, normal weights as in a "
         "fresh model (not the run’s own step 0, which is drawn beside it), weights permuted between heads, and heads mixed by "
         "random rotations, which keep the directions in which heads vary much. To claim clusters, all must be beaten."),
    Term("Groups", "Clusters of several heads: where a head is alone, those of the others, tested anew without it."),
    Term("Gap statistic", "How much tighter k clusters are than in heads without clusters; the number chosen is the least that "
         "another cluster does not improve by more than in 5 % of null draws, one included, by the null that gives fewest."),
    Term("p, corrected", "The least false discovery rate, over all layers, kinds, steps and runs, at which the result counts."),
    Term("Outlier", "A head alone in its cluster, or alone among the heads that are left without such heads."),
    Term("Adjusted Rand index", "Agreement of two groupings of the same heads: 1 when they are equal, 0 on average by chance."),
    Term("KL divergence", "How far the next-token distribution moves from the untouched model’s, in nats."),
    Term("Random groups", "As many heads as the cluster has, drawn from the same layers: all such groups where they are few."),
]  # fmt: skip

METHODS = [
    "Heads are clustered by k-means (two clusters, ten starts, a fixed seed), with more clusters and Ward’s method beside it in "
    "the tables; distances between H heads live in at most H − 1 dimensions, where the clusters are the same.",
    "p counts the null draws whose silhouette (for rotated heads, share of variance between clusters) is at least as large, the "
    "observed one included; the whole search is repeated on each draw. Corrections follow Benjamini and Hochberg.",
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
    "one Gaussian of any covariance. Heads that are several of these at once can be beyond every null without groups.",
    "One head of a layer with few heads can always be taken for a cluster; with four heads little can be told apart from noise.",
]


def facts(context: Context) -> list[tuple[str, str]]:
    """What was analysed."""
    found = []
    if context.has("cluster_lines"):
        lines = context.tables["cluster_lines"]
        found.append(("clusters", f"{count(lines['run'].n_unique(), 'run')}, {count(lines['step'].n_unique(), 'step')}, "
                      f"weights {', '.join(context.kinds('cluster_lines'))}"))  # fmt: skip
    if context.has("cluster_effects"):
        rows = context.tables["cluster_effects"]
        found.append(("interventions", f"{len(rows):,} with controls, in {count(rows['run'].n_unique(), 'run')}"))
    if context.has("cluster_prompts"):
        rows = context.tables["cluster_prompts"]
        found.append(("prompts", f"{rows['prompt'].n_unique():,}"))
    return found
