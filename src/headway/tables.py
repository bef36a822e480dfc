"""The columns of every table: name, type, unit and meaning.

A table is wide and tidy: one row per head and checkpoint, one column per score. Layers and heads count from 0. Studies
compute `layer_number`, `depth` and `step + 1`. They are not stored in tables.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from headway import known_abilities, known_scores

# Scores are declared in a separate module, which loads without polars.
Score = known_scores.Score
DECODER = known_scores.DECODER
SCORES = known_scores.SCORES


@dataclass(frozen=True)
class Column:
    name: str
    dtype: pl.DataType
    unit: str
    meaning: str


# Not called `tokens`, because patterns have a column of that name. Tables of older releases lack it.
TOKENS_SEEN = Column("tokens_seen", pl.Int64(), "tokens", "tokens that the run has seen until then; null if unknown")

# Columns that identify a checkpoint, in every table with rows of checkpoints.
CHECKPOINT_COLUMNS = (
    Column("suite", pl.String(), "", "family of training runs"),
    Column("run", pl.String(), "", "one training run: the repository's or folder's name"),
    Column("model", pl.String(), "", "the run's name without its seed, such as pythia-14m"),
    Column("size", pl.String(), "", "the size as the suite names it, such as 14m"),
    Column("seed", pl.String(), "", "the seed as the suite names it, such as 1 or data-seed2"),
    Column("step", pl.Int64(), "optimizer steps", "training step, 0 is initialisation"),
    TOKENS_SEEN,
    Column("n_params", pl.Int64(), "parameters", "embedding and unembedding included"),
    Column("n_layers", pl.Int32(), "layers", "layers of the model"),
    Column("n_heads", pl.Int32(), "heads", "query heads in a layer"),
)

# The stack that a head belongs to. Tables of older releases lack it: they are of decoders.
STACK = Column("stack", pl.String(), "", "decoder, encoder, or cross: attention of a decoder to an encoder's tokens")

# A run's value on each axis of its suite follows these, as text: the column axis_repeated is the axis `repeated`.
_AXIS = "axis_"


def axis_column(axis: str) -> str:
    """Name of the column that holds the runs' values on `axis`."""
    return _AXIS + axis


def axes_of(columns: Iterable[str]) -> tuple[str, ...]:
    """Names of the axes that are among the `columns` of a table, in their order."""
    return tuple(name.removeprefix(_AXIS) for name in columns if name.startswith(_AXIS))


def with_tokens(frame: pl.DataFrame) -> pl.DataFrame:
    """The table with the column of tokens seen, null if it was made by an older release or from a file of others."""
    absent = TOKENS_SEEN.name not in frame.columns
    return frame.with_columns(pl.lit(None, TOKENS_SEEN.dtype).alias(TOKENS_SEEN.name)) if absent else frame


def with_stack(frame: pl.DataFrame) -> pl.DataFrame:
    """The table with the column of stacks, filled where it was made by an older release or from a file of others."""
    there = pl.col(STACK.name).fill_null(DECODER) if STACK.name in frame.columns else pl.lit(DECODER)
    return frame.with_columns(there.alias(STACK.name))


def of_stack(frame: pl.DataFrame, stack: str = DECODER) -> pl.DataFrame:
    """The rows of one stack. Heads of several are never analysed as if they were of one."""
    return with_stack(frame).filter(pl.col(STACK.name) == stack)


def stacks_in(frame: pl.DataFrame) -> list[str]:
    """The stacks in a table of heads or clusters, the decoder first."""
    there = set(with_stack(frame)[STACK.name].unique())
    return [stack for stack in known_scores.STACKS if stack in there]


HEAD_COLUMNS = (
    Column("layer", pl.Int32(), "", "counted from 0"),
    Column("head", pl.Int32(), "", "query head within its layer, counted from 0"),
)

# One row per checkpoint, stack and head, then one Float64 column per requested score that is defined for a stack of the model.
# `n_layers` and `n_heads` are those of the row's stack.
HEADS_COLUMNS = (*CHECKPOINT_COLUMNS, STACK, *HEAD_COLUMNS)

# Abilities that heads tables state of their checkpoints, if they were measured before there was a table of abilities.
MODEL_COLUMNS = tuple(
    Column(name, pl.Float64(), known_abilities.ABILITIES[name].unit, known_abilities.ABILITIES[name].meaning)
    for name in ("loss", "repeat_accuracy")
)

# What was measured lies in the table `abilities`, and what was imported beside it: a table has one job.
MEASURED_ABILITIES, IMPORTED_ABILITIES = "abilities", "imported_abilities"

# One row per checkpoint and ability, in both tables. A checkpoint has one value of each ability.
ABILITIES_COLUMNS = (
    *CHECKPOINT_COLUMNS,
    Column("ability", pl.String(), "", "name of the ability, such as repeat_accuracy or arc_easy.acc (task.metric)"),
    Column("value", pl.Float64(), "its unit", "the ability's number"),
    Column("std_error", pl.Float64(), "its unit", "its standard error; null if unknown"),
    Column("unit", pl.String(), "", "the ability's unit; null if unknown"),
    Column("higher_is_better", pl.Boolean(), "", "whether a larger number is better; null if unknown or neither"),
    Column("n_samples", pl.Int64(), "samples", "sequences or questions that were averaged; null if unknown"),
    Column("source", pl.String(), "", "the corpus that was read, or the file of the items or of the number"),
)


# One row per checkpoint, head and text, then one Float32 column per score. What else identifies a checkpoint is in `heads`,
# so that the many rows stay small. A score has no number on texts that it is not computed on.
TEXTS_COLUMNS = (
    Column("run", pl.String(), "", "one training run, as in `heads`"),
    Column("step", pl.Int64(), "optimizer steps", "training step, as in `heads`"),
    *HEAD_COLUMNS,
    Column("repeated", pl.Boolean(), "", "whether the text is one of the repeated random tokens, not of the corpus"),
    Column("text", pl.Int32(), "", "number of the text in the corpus, or among the repeated ones, counted from 0"),
)

# One row per checkpoint, item and head.
SPANS_COLUMNS = (
    *CHECKPOINT_COLUMNS,
    *HEAD_COLUMNS,
    Column("item", pl.Int32(), "", "line of the item in the file, counted from 1"),
    Column("label", pl.String(), "", "label of the item"),
    Column("distance", pl.Int32(), "tokens", "from the last token of the key to the first of the query"),
    Column("n_query", pl.Int32(), "tokens", "tokens of the query"),
    Column("n_key", pl.Int32(), "tokens", "tokens of the key"),
    Column("attention", pl.Float64(), "probability", "mean over query tokens of the attention to all key tokens"),
)


def samples_column(score: str) -> str:
    """Name of the column that counts the samples averaged for a score that was imported; null if unknown."""
    return f"{score}_samples"


# Size of the corpus as a checkpoint read it, repeated on the rows of its heads.
CORPUS_COLUMNS = (
    Column("n_texts", pl.Int64(), "texts", "texts that the model read"),
    Column("n_tokens", pl.Int64(), "tokens", "tokens that the model read"),
    Column("n_short", pl.Int64(), "texts", "texts with fewer than 2 tokens, which were left out"),
    Column("n_windowed", pl.Int64(), "texts", "texts longer than the model's context, which were split into windows"),
)


def schema(columns: tuple[Column, ...], axes: Iterable[str] = ()) -> dict[str, pl.DataType]:
    """Polars schema of `columns`, and after them of the runs' `axes`."""
    return {column.name: column.dtype for column in columns} | {axis_column(name): pl.String() for name in axes}


def score_columns(frame: pl.DataFrame) -> list[str]:
    """Names of the scores in a heads table, in the order of `SCORES`."""
    return [name for name in SCORES if name in frame.columns]


# One row per checkpoint, head and text: a whole attention pattern, for the report's viewer.
PATTERNS_COLUMNS = (
    *CHECKPOINT_COLUMNS,
    *HEAD_COLUMNS,
    Column("text", pl.Int32(), "", "the text, counted from 0"),
    Column("title", pl.String(), "", "how the text begins"),
    Column("tokens", pl.List(pl.String()), "", "its T tokens, as text"),
    Column(
        "attention",
        pl.List(pl.Float32()),
        "probability",
        "A[i, j] for j = 0..i, row after row: T (T + 1) / 2 numbers",
    ),
)

# One row per checkpoint of a nano run but its last: means over the steps from it to the next checkpoint.
DATA_COLUMNS = (
    *CHECKPOINT_COLUMNS[:6],
    Column("sequences", pl.Float64(), "sequences", "sequences that the run read in a step"),
    Column("tokens", pl.Float64(), "tokens", "tokens that it read in a step"),
    Column("repeats", pl.Float64(), "fraction", "share of sequences that repeat one passage over and over"),
    Column("repeated_ngrams", pl.Float64(), "fraction", "share of 4-grams that stand earlier in their sequence, too"),
    Column("novel_ngrams", pl.Float64(), "fraction", "share of a batch's different 4-grams that no earlier batch has"),
    Column("entropy", pl.Float64(), "nats", "entropy of the frequencies of single tokens in a batch"),
)

# One row per checkpoint, stack, layer, kind of weight, feature and clustering. Values of the heads as a whole are on the row of
# k = 1, with all heads in one cluster. Nulls and tests that were not computed are null.
CLUSTERS_COLUMNS = (
    *CHECKPOINT_COLUMNS,
    STACK,
    Column("layer", pl.Int32(), "", "counted from 0"),
    Column("kind", pl.String(), "", "q, k, v or o (weights), qk or ov (circuits)"),
    Column("feature", pl.String(), "", "raw, spectrum (singular values) or subspace"),
    Column("clustering", pl.String(), "", "all (k = 1), kmeans, ward, or the name of given labels"),
    Column("k", pl.Int32(), "clusters", "number of clusters"),
    Column("labels", pl.List(pl.Int32()), "", "cluster of each head, in the order of heads"),
    Column(
        "label_names", pl.List(pl.String()), "", "names of the clusters of given labels; null for other clusterings"
    ),
    Column("sizes", pl.List(pl.Int32()), "heads", "heads in each cluster"),
    Column("silhouette", pl.Float64(), "", "mean silhouette of heads, -1 to 1"),
    Column("centre_distance", pl.Float64(), "weight", "largest distance between two centres"),
    Column("within_variance", pl.Float64(), "weight²", "variance within clusters per column, mean over clusters"),
    Column("separation_ratio", pl.Float64(), "1/weight", "centre_distance / within_variance, as published"),
    Column("between_share", pl.Float64(), "fraction", "share of the sum of squares that is between clusters"),
    Column("wasserstein", pl.Float64(), "weight", "W1 between all weights of two clusters"),
    Column("published_ks", pl.Float64(), "", "Kolmogorov-Smirnov statistic over pooled weights"),
    Column("published_ks_p", pl.Float64(), "probability", "its p-value, as if weights were independent samples"),
    Column("published_t", pl.Float64(), "", "Student's t over pooled weights"),
    Column("published_t_p", pl.Float64(), "probability", "its p-value, as if weights were independent samples"),
    Column("cohen_d", pl.Float64(), "standard deviations", "difference of mean weights over pooled weights"),
    Column("heads_ks_p", pl.Float64(), "probability", "difference of distributions, labels of heads permuted"),
    Column("heads_t_p", pl.Float64(), "probability", "difference of head means, labels of heads permuted"),
    Column("heads_d", pl.Float64(), "standard deviations", "difference of head means over heads"),
    *(
        Column(f"{null}_{name}", pl.Float64(), unit, f"{meaning} of the null {null!r}")
        for null, compared in (
            ("directions", "silhouette"),
            ("initial", "silhouette"),
            ("permutation", "silhouette"),
            ("covariance", "between_share"),
        )
        for name, unit, meaning in (
            ("p", "probability", f"share of draws with at least this {compared}, +1 both,"),
            ("low", "", f"5% quantile of the {compared}"),
            ("median", "", f"median of the {compared}"),
            ("high", "", f"95% quantile of the {compared}"),
        )
    ),
    Column("stability", pl.Float64(), "", "mean adjusted Rand index with clusters of random 4/5 of the heads"),
    Column("lone_heads", pl.List(pl.Int32()), "", "heads that form a cluster alone: outliers"),
    Column("gap", pl.Float64(), "log", "gap statistic of k-means for this k, by the null with the smallest gap"),
    Column("gap_std_error", pl.Float64(), "log", "its standard error (Tibshirani's s_k)"),
    Column("gap_margin", pl.Float64(), "log", "the 95% quantile of the gap of heads without clusters"),
    Column(
        "group_labels", pl.List(pl.Int32()), "", "k = 1: group of each head, by directions; null for excluded heads"
    ),
    Column("group_k", pl.Int32(), "groups", "k = 1: number of groups; 1 if p > 0.05"),
    Column("group_silhouette", pl.Float64(), "", "k = 1: silhouette of the best two groups, of directions"),
    Column("group_p", pl.Float64(), "probability", "k = 1: largest p-value of these two groups, of the nulls below"),
    Column("group_draws", pl.Int32(), "draws", "k = 1: number of draws of each null"),
    *(
        Column(f"group_{null}_p", pl.Float64(), "probability", f"k = 1: p-value of the groups by the null {null!r}")
        for null in ("directions", "permutation", "covariance")
    ),
    Column("all_equal", pl.Boolean(), "", "k = 1: whether all heads are copies of one, so that there are no clusters"),
    Column("n_distinct", pl.Int32(), "heads", "k = 1: number of distinct heads"),
    Column("norms", pl.List(pl.Float64()), "weight", "k = 1: Frobenius norm of each head"),
    Column("coordinates", pl.List(pl.List(pl.Float64())), "weight", "k = 1: principal coordinates of each head"),
    Column("explained", pl.List(pl.Float64()), "fraction", "k = 1: variance explained by each coordinate"),
    Column("previous_step", pl.Int64(), "optimizer steps", "k = 1: the earlier step that changes are measured from"),
    Column("head_changes", pl.List(pl.Float64()), "weight", "k = 1: mean absolute change of each head"),
    Column(
        "relative_changes", pl.List(pl.Float64()), "fraction", "k = 1: norm of each head's change over its norm before"
    ),
    Column("mean_change", pl.Float64(), "weight", "k = 1: mean absolute change of all columns of all heads"),
    Column("largest_change", pl.Float64(), "weight", "k = 1: largest absolute change of any column"),
)

_GROUP_COLUMNS = (
    Column("layers", pl.List(pl.Int32()), "", "layers whose heads are changed together"),
    Column("kind", pl.String(), "", "the clustered weights: q, k, v, o, qk or ov"),
    Column("clustering", pl.String(), "", "kmeans, ward, or the name of given labels"),
)
_CLUSTER = (
    "the cluster, numbered as in `clusters`. If clusters of several layers by k-means or Ward are joined, they are numbered "
    "by size in each layer: 0 is the smallest, and ties go to the cluster with the first head"
)

# One row per checkpoint, grouping of heads, operation and cluster. Controls are the same operation on random groups of
# equally many heads in the same layers.
INTERVENTIONS_COLUMNS = (
    *CHECKPOINT_COLUMNS,
    *_GROUP_COLUMNS,
    Column("operation", pl.String(), "", "zero or mean (ablation of the cluster), swap (of two clusters' outputs)"),
    Column("cluster", pl.Int32(), "", _CLUSTER),
    Column("other_cluster", pl.Int32(), "", "the cluster that it is swapped with; null for an ablation"),
    Column("heads", pl.String(), "", "the changed heads, such as L3H1 L3H4, or L3H1 ↔ L3H4 for a swap"),
    Column("cluster_size", pl.Int32(), "heads", "number of changed heads"),
    Column("n_texts", pl.Int32(), "texts", "texts that the model read"),
    Column("loss_before", pl.Float64(), "nats per token", "loss of the unchanged model, over all predicted tokens"),
    *(
        Column(name, pl.Float64(), unit, meaning)
        for stem, unit, what, over in (
            ("kl", "nats", "KL(before ‖ after) of the next token", "all positions of all texts"),
            ("kl_last", "nats", "KL(before ‖ after) of the next token at the last position", "texts"),
            ("loss_change", "nats per token", "loss after minus loss before", "all predicted tokens of all texts"),
            ("top_changed", "fraction", "whether the most probable token at the last position changes", "texts"),
        )
        for name, meaning in (
            (stem, f"{what}: mean over {over}"),
            (f"{stem}_sd", f"{what}: standard deviation over {over}"),
            (f"{stem}_control_low", f"{what}: 5% quantile of the controls' means"),
            (f"{stem}_control_median", f"{what}: median of the controls' means"),
            (f"{stem}_control_high", f"{what}: 95% quantile of the controls' means"),
            (f"{stem}_percentile", f"{what}: percentage of controls with a smaller mean"),
            (f"{stem}_p", f"{what}: share of groups, itself included, with at least this mean"),
        )
    ),
    Column("n_controls", pl.Int32(), "groups", "number of distinct controls"),
    Column("top_texts", pl.List(pl.String()), "", "last tokens of the first texts, at most four"),
    Column("top_before", pl.List(pl.List(pl.String())), "", "five most probable tokens after each of them, before"),
    Column("top_before_p", pl.List(pl.List(pl.Float64())), "probability", "their probabilities"),
    Column("top_after", pl.List(pl.List(pl.String())), "", "five most probable tokens after each of them, after"),
    Column("top_after_p", pl.List(pl.List(pl.Float64())), "probability", "their probabilities"),
)

# One row per checkpoint, dose, operation and effect: an ability without chosen heads. Controls stand beside the largest dose.
ABLATIONS_COLUMNS = (
    *CHECKPOINT_COLUMNS,
    Column("group", pl.String(), "", "how the heads were chosen, such as top 3 by prev, or the group's name in a file"),
    Column("dose", pl.Int32(), "heads", "number of ablated heads: the first of the group"),
    Column("heads", pl.String(), "", "the ablated heads, such as L3H1 L3H4"),
    Column("operation", pl.String(), "", "zero, mean or resample"),
    Column(
        "effect",
        pl.String(),
        "",
        "the ability or score that is measured, or kl: KL(before ‖ after) of the next token, in nats",
    ),
    Column(
        "of_head",
        pl.String(),
        "",
        "of a score: the head that has the highest before, of those that are not ablated; null for abilities",
    ),
    Column("higher_is_better", pl.Boolean(), "", "whether a larger number of it is better; null if neither"),
    Column("before", pl.Float64(), "its unit", "the ability of the unchanged model; 0 for kl"),
    Column("after", pl.Float64(), "its unit", "the ability without the heads"),
    Column("change", pl.Float64(), "its unit", "after less before"),
    Column(
        "control",
        pl.String(),
        "",
        "random groups of as many heads beside it: of the same layers, or of the same norm of their outputs in any layer; null "
        "beside a smaller dose",
    ),
    Column("n_controls", pl.Int32(), "groups", "distinct groups of this kind; 0 if there are no other heads"),
    Column("control_low", pl.Float64(), "its unit", "5% quantile of the controls' changes"),
    Column("control_median", pl.Float64(), "its unit", "their median"),
    Column("control_high", pl.Float64(), "its unit", "their 95% quantile"),
    Column("percentile", pl.Float64(), "percent", "percentage of controls that cost less"),
    Column("p", pl.Float64(), "probability", "share of groups, itself included, that cost at least as much"),
)

# One row per checkpoint, kind and pair of heads in layers that are in order.
COMPOSITIONS_COLUMNS = (
    *CHECKPOINT_COLUMNS,
    Column("kind", pl.String(), "", "what reads: q, k or v (queries, keys or values)"),
    Column("from_layer", pl.Int32(), "", "layer of the head that writes, counted from 0"),
    Column("from_head", pl.Int32(), "", "the head that writes"),
    Column("layer", pl.Int32(), "", "layer of the head that reads"),
    Column("head", pl.Int32(), "", "the head that reads"),
    Column("composition", pl.Float64(), "fraction", "‖R W'‖ / (‖R‖ ‖W‖), 0 to 1; null if a head has no weights"),
    Column("chance", pl.Float64(), "fraction", "root mean square of random heads of the same spectra"),
    Column("excess", pl.Float64(), "fraction", "composition less chance"),
    Column("z", pl.Float64(), "standard deviations", "composition² above that of random heads of the same spectra"),
    Column("p", pl.Float64(), "probability", "share of random heads with at least this composition"),
    Column(
        "p_holm", pl.Float64(), "probability", "the same, corrected over all kinds and pairs of the checkpoint (Holm)"
    ),
)

# One row per checkpoint, pair of heads, changed input, replacement and effect.
PATHS_COLUMNS = (
    *CHECKPOINT_COLUMNS,
    Column("senders", pl.String(), "", "how the heads were chosen that paths start from"),
    Column("receivers", pl.String(), "", "how the heads were chosen that they lead to"),
    Column("from_layer", pl.Int32(), "", "layer of the head whose part is replaced, counted from 0"),
    Column("from_head", pl.Int32(), "", "the head whose part is replaced"),
    Column("layer", pl.Int32(), "", "layer of the head that reads it"),
    Column("head", pl.Int32(), "", "the head that reads it"),
    Column("input", pl.String(), "", "the changed input: q, k or v"),
    Column("replaced_by", pl.String(), "", "mean or resample"),
    Column("effect", pl.String(), "", "a score of the reading head, or next_token_logit: its effect on the logit"),
    Column("before", pl.Float64(), "its unit", "the effect's number in the unchanged model"),
    Column("after", pl.Float64(), "its unit", "with the part replaced in this input alone"),
    Column("change", pl.Float64(), "its unit", "after less before"),
    Column("n_texts", pl.Int32(), "texts", "texts that the model read"),
    Column("n_controls", pl.Int32(), "heads", "other heads of the same layer whose part was replaced instead"),
    Column("control_low", pl.Float64(), "its unit", "5% quantile of their changes"),
    Column("control_median", pl.Float64(), "its unit", "their median"),
    Column("control_high", pl.Float64(), "its unit", "their 95% quantile"),
    Column("p", pl.Float64(), "probability", "share of heads, itself included, with at least as large a change"),
)

# Weight features of heads that no basis decides, of the circuits C = W_Q' W_K (qk) and C = W_V' W_O (ov).
FEATURES_OF_CIRCUITS = {
    "size": "logarithm of the Frobenius norm",
    "rank": "entropy of the shares of the squared singular values: the logarithm of the effective rank",
    "top": "share of the largest squared singular value",
    "symmetry": "tr(C C) / ‖C‖²: 1 if C is symmetric, -1 if it is antisymmetric",
    "sign": "sum of the eigenvalues over the sum of their magnitudes, -1 to 1",
    "first_tokens": "how much its first side reads of the token embeddings: log of their share over that of random directions",
    "second_tokens": "the same of its second side; of ov, of the unembedding, which it writes to",
}
HEAD_FEATURES = tuple(
    Column(f"{circuit}_{name}", pl.Float64(), "", f"{title}: {meaning}")
    for circuit, title in (("qk", "what queries and keys match"), ("ov", "what is read and written"))
    for name, meaning in FEATURES_OF_CIRCUITS.items()
)

# One row per checkpoint and head: what compares heads of different runs.
DESCRIPTIONS_COLUMNS = (
    *CHECKPOINT_COLUMNS,
    *HEAD_COLUMNS,
    *HEAD_FEATURES,
    Column(
        "attention",
        pl.List(pl.Float32()),
        "",
        "how the attention on the same texts differs from an even one: a vector of norm 1, whose products are cosines",
    ),
    Column(
        "outputs",
        pl.List(pl.Float32()),
        "",
        "how alike the outputs of pairs of tokens are, U-centred: a vector of norm 1, whose products are kernel alignment (CKA)",
    ),
)

# One row per checkpoint, grouping of heads, prompt and cluster: the layer's answer with only that cluster's heads.
PROMPTS_COLUMNS = (
    *CHECKPOINT_COLUMNS,
    *_GROUP_COLUMNS,
    Column("task", pl.String(), "", "the prompt's kind of task"),
    Column("prompt", pl.String(), "", "text of the prompt"),
    Column("cluster", pl.Int32(), "", _CLUSTER),
    Column(
        "heads", pl.String(), "", "its heads, the only ones that are not ablated in these layers, such as L3H1 L3H4"
    ),
    Column("top_token", pl.String(), "", "the most probable next token with this cluster alone"),
    Column("top_probability", pl.Float64(), "probability", "its probability"),
    Column("model_top_token", pl.String(), "", "the most probable next token of the unchanged model"),
    Column("model_top_probability", pl.Float64(), "probability", "its probability"),
    Column("clusters_differ", pl.Boolean(), "", "whether the clusters' most probable tokens differ"),
    Column("divergence", pl.Float64(), "nats", "Jensen-Shannon divergence between the clusters' predictions"),
    Column("n_controls", pl.Int32(), "partitions", "different random partitions of the same sizes"),
    Column("controls_differ", pl.Float64(), "fraction", "random partitions whose most probable tokens differ"),
    Column("divergence_p", pl.Float64(), "probability", "share of partitions, itself included, that diverge as much"),
    Column("left_out", pl.List(pl.String()), "", "prompts that the model cannot read, with the reasons"),
)
