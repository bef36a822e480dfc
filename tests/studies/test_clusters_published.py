"""The published table of silhouettes cell by cell, what a null result could have missed, and answers by task."""

import numpy as np
import polars as pl
import pytest

from headway.store.directory import RunDirectory
from headway.studies import weight_clusters
from headway.studies.weight_clusters.effects import answers_by_task
from headway.studies.weight_clusters.power import power
from headway.studies.weight_clusters.published import published_timeline
from support_clusters import noise, one_outlier, planted_sweep, two_groups

# Steps, and the silhouettes of Q, K and V that the published table of "Pythia clustering dynamics" gives, with its verdicts.
PUBLISHED = {
    1000: (0.019, 0.062, 0.026, "no clustering"),
    5000: (0.056, 0.090, 0.084, "weak"),
    10000: (0.048, 0.075, 0.074, "weak"),
    20000: (0.054, 0.070, 0.074, "weak"),
    40000: (0.050, 0.073, 0.080, "weak"),
    80000: (0.051, 0.084, 0.091, "weak"),
    120000: (0.646, 0.277, 0.626, "strong"),
    143000: (0.606, 0.467, 0.687, "strong"),
}


def lines(lone, groups=False, tested=True, undecided=False):
    rows = [
        {"run": "a", "size": "s", "seed": "1", "layer": 6, "step": step, "kind": kind, "silhouette": value,
         "lone_heads": lone if value > 0.2 else [], "groups": groups and value > 0.2, "undecided": undecided}
        for step, values in PUBLISHED.items()
        for kind, value in zip("qkv", values[:3], strict=True)
    ]  # fmt: skip
    types = {"layer": pl.Int32, "lone_heads": pl.List(pl.Int32), "groups": pl.Boolean}
    return pl.DataFrame(rows, schema_overrides=types).with_columns(
        feature=pl.lit("raw"), clustering=pl.lit("kmeans"), k=2, null_high=pl.lit(0.1), q_groups=0.5 if tested else None
    )


@pytest.mark.parametrize(
    ("table", "last"),
    [
        (lines([6]), "head 6 alone in Q, K, V"),
        (lines([], groups=True), "groups in Q, K, V"),
        (lines([], tested=False), "not tested"),
        (lines([], undecided=True), "undecidable in Q, K, V"),
        (lines([]), "no groups"),
    ],
)
def test_each_step_has_the_published_verdict_and_that_with_controls(table, last):
    found = published_timeline(table)
    assert found.height == 3 * len(PUBLISHED)
    verdicts = dict(found.select("step", "published").unique().rows())
    assert verdicts == {step: row[3] for step, row in PUBLISHED.items()}
    assert found.filter(pl.col("step") == 143000)["corrected"].unique().to_list() == [last]


def late(random, step):
    return {
        "q": two_groups(random, 1.0 if step >= 80_000 else 0.0),
        "v": one_outlier(random, 4 if step >= 80_000 else 1),
    }


def test_the_first_sentence_names_layer_weights_heads_step_and_runs(tmp_path):
    runs = ("toy-seed1", "toy-seed2")
    rundir = planted_sweep(RunDirectory(tmp_path), late, runs=runs, steps=(1000, 40_000, 80_000, 143_000), nulls=99)
    result = weight_clusters.study(rundir, bootstraps=0)
    first = result.headline[0].answer
    assert first == "Layer 0, Q: heads 0, 2, 4, 6, 8 and 10 form a group, from step 80,000, in 2 of 2 runs."
    assert not result.tables.get("power", pl.DataFrame()).height  # it simulates, so it needs bootstraps


def layers(spread, n_heads=12):
    """The rows of layers whose heads have log norms of the given spread."""
    normal = np.array([-1.2, -0.5, 0.0, 0.5, 1.2, 0.0] * (n_heads // 6))
    norms = np.exp(spread * normal / normal.std(ddof=1)).tolist()
    return pl.DataFrame(
        {"k": [1], "feature": ["raw"], "group_p": [0.5], "run": ["a"], "step": [3], "size": ["s"], "norms": [norms]}
    )


def test_the_power_is_that_of_the_planted_benchmark():
    """docs/weight-clusters.md has 88% at 0.5 and 100% at 0.7 of 40 layers with even norms; 0% and 12% with a spread of 0.3.

    20 layers: four standard errors of a share near 1/2 are 0.45.
    """
    even, uneven = power(layers(0.0), 0), power(layers(0.3), 0)
    assert even["norm_spread"][0] == pytest.approx(0, abs=1e-12)
    assert uneven["norm_spread"][0] == pytest.approx(0.3)
    share = dict(even.select("distance", "share").rows())
    assert share[0.35] < share[0.7] == pytest.approx(1, abs=0.2)
    assert dict(uneven.select("distance", "share").rows())[0.7] < 0.5


def test_layers_of_too_few_heads_have_no_power():
    few = layers(0.1).with_columns(norms=pl.lit([1.0, 1.1, 0.9], dtype=pl.List(pl.Float64)))
    assert power(few, 0).is_empty()


def test_answers_are_counted_by_task():
    rows = [
        {"run": "a", "step": 9, "layers": [0], "kind": kind, "clustering": "kmeans", "prompt": prompt, "task": task,
         "cluster": cluster, "clusters_differ": differ, "controls_differ": share}
        for kind in "qk"
        for cluster in (0, 1)
        for prompt, task, differ, share in (("2+2", "arithmetic", True, 0.5), ("3+3", "arithmetic", False, 0.1), ("a a", "patterns", True, 1.0))
    ]  # fmt: skip
    found = {row["task"]: row for row in answers_by_task(pl.DataFrame(rows)).to_dicts()}
    assert found["arithmetic"]["clusters"] == 0.5
    assert found["arithmetic"]["random_groups"] == pytest.approx(0.3)
    assert (found["arithmetic"]["n_prompts"], found["arithmetic"]["n"]) == (2, 4)
    assert found["patterns"]["clusters"] == 1


def test_noise_has_no_groups_and_says_what_would_have_been_found(tmp_path):
    rundir = planted_sweep(RunDirectory(tmp_path), lambda random, step: {"q": noise(random)}, steps=(8, 16), nulls=39)
    result = weight_clusters.study(rundir, bootstraps=99)
    (said,) = [finding for finding in result.findings("groups") if finding.name == "power"]
    assert said.values["least"]["1k"] in (0.5, 0.7)  # norms are even: the table of power has 88% and 100%
