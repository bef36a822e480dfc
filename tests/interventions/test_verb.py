"""`headway intervene`, from a suite's files to its tables."""

import polars as pl
import pytest
import torch

from headway.errors import UsageError
from headway.interventions.found import by_size
from headway.rundir import RunDirectory
from support_interventions import RUN, clustered, intervened, llama, neox, write_suite


@pytest.fixture(scope="module")
def grouped(tmp_path_factory):
    """Eight query heads that share four of keys and values."""
    folder = write_suite(tmp_path_factory.mktemp("grouped"), {(RUN, 0): llama(0), (RUN, 7): llama(7)})
    directory = clustered(folder)
    assert [summary.failed for summary in intervened(folder, kinds=("k", "v"), controls=100)] == [[], []]
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


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A run of two steps, with clusters of its own and labels in three groups that were given; nothing done yet."""
    folder = write_suite(tmp_path_factory.mktemp("plain"), {(RUN, 0): neox(0), (RUN, 8): neox(8)})
    (folder / "three.csv").write_text("head,label\n0,c\n1,a\n2,a\n3,b\n4,b\n5,b\n")
    clustered(folder, labels=[str(folder / "three.csv")], ks=(2, 3))
    return folder


def test_layers_that_are_changed_together_join_their_smaller_clusters(plain):
    # What k-means numbers 0 in one layer has nothing to do with what it numbers 0 in the next.
    assert by_size((1, 1, 0, 1)) == (1, 1, 0, 1)
    assert by_size((0, 0, 1, 0)) == (1, 1, 0, 1)
    assert by_size((2, 1, 1, 2, 0)) == (1, 2, 2, 1, 0)
    intervened(plain, kinds=("q", "k", "v"), together=True, force=True)
    directory = RunDirectory(plain / "out")
    clusters = directory.read("clusters").filter(
        pl.col("step") == 8, pl.col("k") == 2, pl.col("clustering") == "kmeans", pl.col("feature") == "raw"
    )
    effects = directory.read("interventions").filter(pl.col("operation") == "zero", pl.col("step") == 8)
    assert set(effects["kind"]) == {"q", "k", "v"}
    numbers = set()
    for kind, cluster, heads in effects.select("kind", "cluster", "heads").rows():
        expected = []
        for layer, labels in clusters.filter(pl.col("kind") == kind).sort("layer").select("layer", "labels").rows():
            small = min((0, 1), key=lambda label: (labels.count(label), labels.index(label)))
            chosen = small if cluster == 0 else 1 - small
            numbers.add(chosen == cluster)
            expected += [f"L{layer}H{head}" for head, label in enumerate(labels) if label == chosen]
        assert heads.split() == expected
    assert numbers == {True, False}  # else the clusters' own numbers would have done


def test_any_number_of_clusters_is_ablated_swapped_two_by_two_and_asked(plain):
    for options in ({"clustering": "three"}, {"clustering": "kmeans", "k": 3}):
        assert [summary.failed for summary in intervened(plain, kinds=("q",), force=True, **options)] == [[], []]
        directory = RunDirectory(plain / "out")
        effects = directory.read("interventions").filter(pl.col("step") == 8, pl.col("layers") == [0])
        done = effects.select("operation", "cluster", "other_cluster").rows()
        ablated = [(operation, cluster, None) for operation in ("zero", "mean") for cluster in range(3)]
        assert set(done) == {*ablated, ("swap", 0, 1), ("swap", 0, 2), ("swap", 1, 2)}
        assert len(done) == 9
        answers = directory.read("prompts").filter(pl.col("step") == 8, pl.col("layers") == [0])
        assert answers.group_by("prompt").agg(pl.col("cluster").sort())["cluster"].to_list() == [[0, 1, 2]] * 2


def test_given_labels_keep_their_numbers_and_swaps_name_the_heads_that_move(plain):
    intervened(plain, clustering="three", kinds=("q",), together=True, force=True)
    effects = RunDirectory(plain / "out").read("interventions").filter(pl.col("step") == 8)
    zero = effects.filter(pl.col("operation") == "zero").sort("cluster")
    assert zero["heads"].to_list() == [  # the labels a, b and c
        "L0H1 L0H2 L1H1 L1H2", "L0H3 L0H4 L0H5 L1H3 L1H4 L1H5", "L0H0 L1H0",
    ]  # fmt: skip
    swap = effects.filter(pl.col("operation") == "swap").sort("cluster", "other_cluster")
    assert swap["heads"].to_list() == [
        "L0H1 L0H2 L1H1 L1H2 ↔ L0H3 L0H4 L1H3 L1H4", "L0H1 L1H1 ↔ L0H0 L1H0", "L0H3 L1H3 ↔ L0H0 L1H0",
    ]  # fmt: skip
    assert swap["cluster_size"].to_list() == [8, 4, 4]


BAD = {
    "a layer beside one that is there": ({"layers": (0, 9)}, "no layer 9 .* there are 0, 1"),
    "a kind beside one that is there": ({"kinds": ("q", "zz")}, "no kind of weight 'zz' .* there are q, k, v, o"),
    "a number of clusters": (
        {"k": 5},
        "no clusters kmeans with k = 5 were made, but kmeans with k = 2, kmeans with k = 3",
    ),
    "a clustering": ({"clustering": "four"}, "no clusters four were made, but .*three with k = 3"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_there_is_named(plain, name):
    options, words = BAD[name]
    with pytest.raises(UsageError, match=words):
        intervened(plain, **options)


def test_a_selection_may_be_written_with_spaces(plain):
    assert intervened(plain, where="step= last size=1m", kinds=("q",), layers=(0, 1), force=True)[0].failed == []
    assert set(RunDirectory(plain / "out").read("interventions")["step"]) == {0, 8}


def test_a_run_without_clusters_is_a_recorded_failure_and_the_others_go_on(tmp_path):
    broken = neox(3)
    with torch.no_grad():
        broken.gpt_neox.layers[1].attention.query_key_value.weight[3, 3] = float("nan")
    folder = write_suite(tmp_path, {("toy-1m-seed1", 5): broken, ("toy-1m-seed2", 5): neox(2)})
    directory = clustered(folder)
    summaries = intervened(folder, layers=(0, 1), kinds=("q",))
    for table, summary in zip(("interventions", "prompts"), summaries, strict=True):
        [failed] = summary.failed
        assert failed.checkpoint.run == "toy-1m-seed1"
        assert "no clusters of heads are given for the run toy-1m-seed1" in failed.error
        assert "NaN" in failed.error  # why clustering failed
        assert set(directory.read(table)["run"]) == {"toy-1m-seed2"}
        assert directory.failures(table)["toy-1m-seed1@5"]["error"] == failed.error


def test_heads_that_are_equal_are_said_to_be(tmp_path):
    model = neox(1)

    def make_equal(layer):
        fused = model.gpt_neox.layers[layer].attention.query_key_value.weight.view(6, 3, 4, 24)
        fused[:, 0] = fused[:1, 0].clone()

    with torch.no_grad():
        make_equal(1)
    folder = write_suite(tmp_path, {(RUN, 5): model})
    directory = clustered(folder)
    with pytest.warns(UserWarning, match=r"seed1@5 is intervened on without layer 1, q: all its heads are equal"):
        intervened(folder, kinds=("q",))
    assert set(directory.read("interventions")["layers"].explode()) == {0}
    with pytest.raises(UsageError, match="no clusters to intervene on: layer 1, q: all its heads are equal"):
        intervened(folder, kinds=("q",), layers=(1,))


def test_a_prompt_that_is_too_long_is_warned_of(plain):
    (plain / "long.txt").write_text("a\t" + "w1 " * 33 + "\nb\tw1 w2\n")
    with pytest.warns(UserWarning, match="left out: the prompt 'w1 w1 .* has 33 tokens; the model reads 1 to 32"):
        intervened(plain, prompts=str(plain / "long.txt"), kinds=("q",), layers=(0,), force=True)
