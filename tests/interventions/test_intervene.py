"""`headway intervene`, from a suite's files to its tables."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from scipy.stats import entropy

from headway.errors import RunDirectoryError, UsageError
from headway.interventions import Patch, effects
from headway.interventions.selection import Choice, by_size
from headway.models import load
from headway.store.directory import RunDirectory
from headway.studies import Result
from headway.studies.weight_clusters.effects import effects as effects_study
from headway.suites import open_suite
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
    rows = grouped.read("interventions").filter(pl.col("operation") == "zero")
    for kind, layer, labels in clusters.select("kind", "layer", "labels").rows():
        own = rows.filter(pl.col("kind") == kind, pl.col("layers") == [layer])
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
    rows = directory.read("interventions").filter(pl.col("operation") == "zero", pl.col("step") == 8)
    assert set(rows["kind"]) == {"q", "k", "v"}
    numbers = set()
    for kind, cluster, heads in rows.select("kind", "cluster", "heads").rows():
        expected = []
        for layer, labels in clusters.filter(pl.col("kind") == kind).sort("layer").select("layer", "labels").rows():
            small = min((0, 1), key=lambda label: (labels.count(label), labels.index(label)))
            chosen = small if cluster == 0 else 1 - small
            numbers.add(chosen == cluster)
            expected += [f"L{layer}H{head}" for head, label in enumerate(labels) if label == chosen]
        assert heads.split() == expected
    assert numbers == {True, False}  # else the clusters' own numbers would have done
    result = Result("weight_clusters", {"findings": []})
    effects_study(result, directory.read("interventions"))
    first = directory.read("interventions").filter(pl.col("step") == 0)
    key = ["kind", "operation", "cluster", "other_cluster"]
    beside = result.tables["effects"].filter(pl.col("step") == 8).join(first, on=key, nulls_equal=True, suffix="_first")
    assert beside["kl_first_step"].to_list() == beside["kl_first"].to_list()
    assert len(beside) == 3 * 5


def test_on_every_layer_if_none_is_named_and_on_several_that_are(plain):
    for layers, done in ((None, [[0], [1]]), ((1,), [[1]]), ((1, 0), [[0], [1]])):
        intervened(plain, kinds=("q",), layers=layers, force=True)
        assert RunDirectory(plain / "out").read("interventions")["layers"].unique().sort().to_list() == done


def test_heads_are_patched_from_a_checkpoint_into_another(plain):
    earlier, later = (load(one.source.path, lm_head=True) for one in open_suite(plain / "suite").checkpoints())
    text = np.array([1, 2, 3, 4, 5])
    [effect] = effects(later, [Patch(earlier, [(1, 2), (1, 3)])], [text])
    # By hand: the columns of the output projection that read these heads get what the other model's heads say.
    said = {}
    for name, model in (("earlier", earlier), ("later", later)):
        projection = model.gpt_neox.layers[1].attention.dense
        handle = projection.register_forward_pre_hook(lambda _, args, name=name: said.update({name: args[0].clone()}))
        with torch.no_grad():
            said[f"{name} logits"] = model(torch.from_numpy(text)[None]).logits[0].double()
        handle.remove()
    mixed = said["later"].clone()
    mixed[..., 2 * 4 : 4 * 4] = said["earlier"][..., 2 * 4 : 4 * 4]
    handle = later.gpt_neox.layers[1].attention.dense.register_forward_pre_hook(lambda *_: (mixed,))
    with torch.no_grad():
        after = later(torch.from_numpy(text)[None]).logits[0].double()
    handle.remove()
    kl = entropy(said["later logits"].softmax(-1), after.softmax(-1), axis=-1)
    assert effect.mean("kl") == pytest.approx(kl.mean(), abs=2e-6)  # float32 log-probabilities
    assert effect.mean("kl") > 1e-3


def test_the_documented_example_runs(plain, capsys):
    documented = (Path(__file__).parents[2] / "docs" / "interventions.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```python\n(.*?)```", documented, re.DOTALL)
    first, last = (checkpoint.source.path for checkpoint in open_suite(plain / "suite").checkpoints())
    texts = [np.array([1, 2, 3, 4]), np.array([5, 6, 7])]
    names = {
        "folder": last,
        "earlier_folder": first,
        "texts": texts,
        "ids": torch.tensor([[1, 2]]),
        "labels": (0, 1, 1, 0, 1, 1),
    }
    exec(example, names)
    assert all(np.isfinite(float(word)) for word in capsys.readouterr().out.split())
    assert len(names["controls"]) == 15


def test_any_number_of_clusters_is_ablated_swapped_two_by_two_and_asked(plain):
    for options in ({"clustering": "three"}, {"clustering": "kmeans", "k": 3}):
        assert [summary.failed for summary in intervened(plain, kinds=("q",), force=True, **options)] == [[], []]
        directory = RunDirectory(plain / "out")
        rows = directory.read("interventions").filter(pl.col("step") == 8, pl.col("layers") == [0])
        done = rows.select("operation", "cluster", "other_cluster").rows()
        ablated = [(operation, cluster, None) for operation in ("zero", "mean") for cluster in range(3)]
        assert set(done) == {*ablated, ("swap", 0, 1), ("swap", 0, 2), ("swap", 1, 2)}
        assert len(done) == 9
        answers = directory.read("prompts").filter(pl.col("step") == 8, pl.col("layers") == [0])
        assert answers.group_by("prompt").agg(pl.col("cluster").sort())["cluster"].to_list() == [[0, 1, 2]] * 2


def test_given_labels_keep_their_numbers_and_swaps_name_the_heads_that_move(plain):
    intervened(plain, clustering="three", kinds=("q",), together=True, force=True)
    rows = RunDirectory(plain / "out").read("interventions").filter(pl.col("step") == 8)
    zero = rows.filter(pl.col("operation") == "zero").sort("cluster")
    assert zero["heads"].to_list() == [  # the labels a, b and c
        "L0H1 L0H2 L1H1 L1H2", "L0H3 L0H4 L0H5 L1H3 L1H4 L1H5", "L0H0 L1H0",
    ]  # fmt: skip
    swap = rows.filter(pl.col("operation") == "swap").sort("cluster", "other_cluster")
    assert swap["heads"].to_list() == [
        "L0H1 L0H2 L1H1 L1H2 ↔ L0H3 L0H4 L1H3 L1H4", "L0H1 L1H1 ↔ L0H0 L1H0", "L0H3 L1H3 ↔ L0H0 L1H0",
    ]  # fmt: skip
    assert swap["cluster_size"].to_list() == [8, 4, 4]


def test_layers_with_other_labels_are_not_joined(tmp_path):
    folder = write_suite(tmp_path, {(RUN, 8): neox(8)})
    for name, of_layer_1 in (("fewer", "accccc"), ("others", "abcccd"), ("same", "ccabbb")):
        rows = [
            f"{layer},{head},{label}"
            for layer, own in ((0, "abcccc"), (1, of_layer_1))
            for head, label in enumerate(own)
        ]
        (folder / f"{name}.csv").write_text("\n".join(["layer,head,label", *rows]))
    (folder / "kinds.csv").write_text(  # each kind has labels of its own, which nothing joins
        "\n".join(["kind,head,label", *(f"{kind},{head},{kind}{head % 2}" for kind in "qk" for head in range(6))])
    )
    directory = clustered(folder, labels=[str(folder / f"{name}.csv") for name in ("fewer", "others", "same", "kinds")])
    names = directory.read("clusters").filter(pl.col("kind") == "q", pl.col("layer") == 1)
    assert dict(names.select("clustering", "label_names").rows()) == {
        "all": None, "kmeans": None, "fewer": ["a", "c"], "others": ["a", "b", "c", "d"], "same": ["a", "b", "c"],
        "kinds": ["q0", "q1"],
    }  # fmt: skip
    for name, words in (("fewer", "a and c"), ("others", "a, b, c and d")):
        with pytest.raises(
            UsageError, match=f"{name}' of q are a, b and c in layer 0, but {words} in layer 1. --together"
        ):
            intervened(folder, clustering=name, kinds=("q",), together=True)
    for name, kinds in (("same", ("q",)), ("kinds", ("q", "k"))):
        summaries = intervened(folder, clustering=name, kinds=kinds, together=True, force=True)
        assert [summary.failed for summary in summaries] == [[], []]
    intervened(folder, clustering="fewer", kinds=("q",), force=True)  # one layer after another


def test_layers_of_a_table_without_names_are_joined_if_their_numbers_agree():
    rows = [
        (RUN, 8, "raw", layer, "q", "mine", len(set(own)), own, 4)
        for layer, own in enumerate([[0, 1, 1, 0], [0, 1, 2, 2]])
    ]
    columns = ["run", "step", "feature", "layer", "kind", "clustering", "k", "labels", "n_heads"]
    table = pl.DataFrame(rows, schema=columns, orient="row").with_columns(all_equal=pl.lit(False))
    choice = Choice(("q",), "mine", None, together=True)
    with pytest.raises(UsageError, match="are 0 and 1 in layer 0, but 0, 1 and 2 in layer 1"):
        choice.of(table, RUN, 8)
    assert len(choice.of(table.filter(pl.col("layer") == 1), RUN, 8).groupings) == 1


BAD = {
    "a layer beside one that is there": ({"layers": (0, 9)}, "have no layer 9: choose from 0, 1"),
    "a kind beside one that is there": ({"kinds": ("q", "zz")}, "have no kind of weight 'zz': choose from q, k, v, o"),
    "a number of clusters": (
        {"k": 5},
        "no clusters kmeans with k = 5, only kmeans with k = 2, kmeans with k = 3",
    ),
    "a clustering": ({"clustering": "four"}, "no clusters four, only .*three with k = 3"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_requests_are_named(plain, name):
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
        assert "the run toy-1m-seed1 has no clusters of heads" in failed.error
        assert "NaN" in failed.error  # why clustering failed
        assert set(directory.read(table)["run"]) == {"toy-1m-seed2"}
        assert directory.failures(table)["toy-1m-seed1@5"]["error"] == failed.error


def test_a_run_that_was_repaired_is_done_without_force_and_the_others_are_kept(tmp_path):
    broken = neox(3)
    with torch.no_grad():
        broken.gpt_neox.layers[1].attention.query_key_value.weight[3, 3] = float("nan")
    runs = {(f"toy-1m-seed{seed}", step): neox(10 * seed + step) for seed in (2, 3) for step in (0, 5)}
    folder = write_suite(tmp_path, runs | {("toy-1m-seed1", 0): neox(1), ("toy-1m-seed1", 5): broken})
    directory = clustered(folder, where="step=5")
    first = intervened(folder, kinds=("q",))
    assert [(one.done, one.reused, len(one.failed)) for one in first] == [(4, 0, 1)] * 2
    neox(4).save_pretrained(folder / "suite" / "toy-1m-seed1" / "step5")
    clustered(folder, where="step=5")
    again = intervened(folder, kinds=("q",))
    assert [(one.done, one.reused, one.failed) for one in again] == [(2, 4, [])] * 2

    neox(6).save_pretrained(folder / "suite" / "toy-1m-seed2" / "step5")  # then its clusters are others
    before = labels_at_step_5(directory)
    clustered(folder, where="step=5")
    after = labels_at_step_5(directory)
    assert [run for run in after if before[run] != after[run]] == ["toy-1m-seed2"]
    again = intervened(folder, kinds=("q",))
    assert [(one.done, one.reused, one.failed) for one in again] == [(2, 4, [])] * 2  # of step 0, too
    rows = directory.read("interventions").filter(pl.col("operation") == "zero", pl.col("run") == "toy-1m-seed2")
    expected = {
        f"L{layer}H{head}" for layer, own in after["toy-1m-seed2"] for head, label in enumerate(own) if label == 0
    }
    for step in (0, 5):
        own = rows.filter(pl.col("step") == step, pl.col("cluster") == 0)["heads"]
        assert set(" ".join(own).split()) == expected


OTHERWISE = {
    "steps: last there, 0 now": {"where": "step=0"},
    "kinds: q there, k now": {"kinds": ("k",)},
    "layers: None there, 0 now": {"layers": (0,)},
    "together: False there, True now": {"together": True},
    "clustering: mine there, kmeans now; k: None there, 2 now": {"clustering": "kmeans"},
}


def test_clusters_that_were_chosen_otherwise_are_refused(tmp_path):
    folder = write_suite(tmp_path, {(RUN, 0): neox(0), (RUN, 5): neox(5)})
    mine = folder / "mine.csv"
    mine.write_text("head,label\n0,a\n1,b\n2,b\n3,b\n4,b\n5,b\n")
    clustered(folder, labels=[str(mine)])
    options = {"kinds": ("q",), "clustering": "mine"}
    intervened(folder, **options)
    for words, other in OTHERWISE.items():
        with pytest.raises(RunDirectoryError, match=f"computed with other settings .*{words}"):
            intervened(folder, **options | other)
    mine.write_text(mine.read_text().replace("1,b", "1,a"))
    clustered(folder, labels=[str(mine)], force=True)
    with pytest.raises(RunDirectoryError, match=r"clusters: .*mine .* there, .*mine .* now"):
        intervened(folder, **options)


def labels_at_step_5(directory):
    """By run: layer and labels of the clusters of q."""
    rows = directory.read("clusters").filter(
        pl.col("step") == 5, pl.col("kind") == "q", pl.col("clustering") == "kmeans"
    )
    return {
        run: rows.filter(pl.col("run") == run).select("layer", "labels").rows() for run in rows["run"].unique().sort()
    }


def test_an_effect_is_compared_with_that_of_the_same_heads_alone(plain):
    intervened(plain, kinds=("q",), force=True)
    rows = RunDirectory(plain / "out").read("interventions")
    result = Result("weight_clusters", {"findings": []})
    effects_study(result, rows.with_columns(heads=pl.when(pl.col("step") == 0).then(pl.lit("L0H0")).otherwise("heads")))
    assert result.tables["effects"]["kl_first_step"].null_count() == len(rows)


def test_heads_that_are_equal_are_said_to_be(tmp_path):
    model = neox(1)

    def make_equal(layer):
        fused = model.gpt_neox.layers[layer].attention.query_key_value.weight.view(6, 3, 4, 24)
        fused[:, 0] = fused[:1, 0].clone()

    with torch.no_grad():
        make_equal(1)
    folder = write_suite(tmp_path, {(RUN, 5): model})
    directory = clustered(folder)
    with pytest.warns(UserWarning, match=r"seed1@5 leave out layer 1, q: all heads are equal"):
        intervened(folder, kinds=("q",))
    assert set(directory.read("interventions")["layers"].explode()) == {0}
    with pytest.raises(UsageError, match="no clusters to intervene on: layer 1, q: all heads are equal"):
        intervened(folder, kinds=("q",), layers=(1,))


def test_a_prompt_that_is_too_long_is_warned_of(plain):
    (plain / "long.txt").write_text("a\t" + "w1 " * 33 + "\nb\tw1 w2\n")
    with pytest.warns(UserWarning, match="left out: the prompt 'w1 w1 .* has 33 tokens; the model reads 1 to 32"):
        intervened(plain, prompts=str(plain / "long.txt"), kinds=("q",), layers=(0,), force=True)
