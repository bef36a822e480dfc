"""`headway intervene`, from a suite's files to its tables."""

import polars as pl
import pytest

from support_interventions import RUN, clustered, intervened, llama, write_suite


@pytest.fixture(scope="module")
def grouped(tmp_path_factory):
    """Eight query heads that share four of keys and values."""
    folder = write_suite(tmp_path_factory.mktemp("grouped"), {(RUN, 0): llama(0), (RUN, 7): llama(7)})
    directory = clustered(folder)
    assert [summary.failed for summary in intervened(folder, controls=200)] == [[], []]
    return directory


def test_query_heads_that_share_a_key_head_are_compared_with_such(grouped):
    clusters = grouped.read("clusters").filter(pl.col("step") == 7, pl.col("k") == 2, pl.col("kind").is_in(["k", "v"]))
    n_groups = {1: 4, 2: 6, 3: 4}  # of 4 heads; all 28 and 70 pairs and fours of query heads are not such groups
    effects = grouped.read("interventions").filter(pl.col("operation") == "zero")
    for kind, layer, labels in clusters.select("kind", "layer", "labels").rows():
        own = effects.filter(pl.col("kind") == kind, pl.col("layers") == [layer])
        for size, n_controls in own.select("cluster_size", "n_controls").rows():
            assert size % 2 == 0
            assert n_controls == n_groups[size // 2], (kind, layer, labels)


def test_in_prompts_too(grouped):
    n_partitions = {(1, 3): 4, (2, 2): 3}
    prompts = grouped.read("prompts").filter(pl.col("kind").is_in(["k", "v"]))
    for heads, n_controls in (
        prompts.group_by("step", "layers", "kind", "prompt")
        .agg(pl.col("heads").str.split(" ").list.len().sort() // 2, pl.col("n_controls").first())[:, -2:]
        .rows()
    ):
        assert n_controls == n_partitions[tuple(heads)]
