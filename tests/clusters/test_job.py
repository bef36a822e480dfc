"""The job: what of a model has clusters, and what it refuses."""

import pytest

from headway.clusters import GivenLabels, WeightClusters, open_labels
from headway.errors import CheckpointError, UsageError
from support_clusters import PlantedWeights


def rows_of(weights, **options):
    return WeightClusters(**{"methods": ("kmeans",), "ks": (2,), "nulls": 19} | options).rows(weights, weights.geometry)


@pytest.mark.parametrize("n_kv_heads", [1, 2])
def test_few_key_value_heads_keep_the_others_clusters(n_kv_heads):
    """Qwen2-0.5B has 2, Gemma-2b 1: their norms are there, and the clusters of Q, O and the circuits."""
    rows = rows_of(PlantedWeights(n_heads=8, n_kv_heads=n_kv_heads), labels=(GivenLabels("even_odd"),))
    clustered = {(row["kind"], row["feature"]) for row in rows if row["k"] > 1}
    assert clustered == {("q", "raw"), ("o", "raw")} | {(c, f) for c in ("qk", "ov") for f in ("spectrum", "subspace")}
    for kind in "kv":
        (row,) = [row for row in rows if row["kind"] == kind]
        assert (row["k"], len(row["norms"]), row["all_equal"]) == (1, n_kv_heads, False)
        assert [len(head) for head in row["coordinates"]] == [n_kv_heads - 1] * n_kv_heads


def test_a_model_without_enough_heads_of_any_kind_is_an_error():
    with pytest.raises(CheckpointError, match="2 heads per layer are too few for 2 clusters"):
        rows_of(PlantedWeights(n_heads=2))


def test_duplicate_choices_are_refused():
    with pytest.raises(UsageError, match="layers 0, 0: give each layer once"):
        WeightClusters(layers=(0, 0))
    with pytest.raises(UsageError, match="features raw, raw"):
        WeightClusters(features=("raw", "raw"))


@pytest.fixture
def labelled(tmp_path):
    """Writes a file of labels of twelve heads and gives its path."""

    def write(header, *lines):
        path = tmp_path / "mine.csv"
        path.write_text("\n".join([header, *lines]) + "\n")
        return str(path)

    return write


def test_labels_of_a_layer_that_is_not_there(labelled):
    spec = labelled("layer,head,label", *(f"99,{head},{head % 2}" for head in range(12)))
    with pytest.raises(UsageError, match=r"'mine': there is no layer 99: the model has layers 0 to 0"):
        rows_of(PlantedWeights(), features=("raw",), labels=(open_labels(spec),))


def test_labels_of_an_unknown_kind(labelled):
    spec = labelled("kind,head,label", *(f"zz,{head},{head % 2}" for head in range(12)))
    with pytest.raises(UsageError, match="no kind of weights 'zz'"):
        open_labels(spec)


def test_a_head_with_two_labels(labelled):
    spec = labelled("head,label", *(f"{head},{'ab'[head % 2]}" for head in range(12)), "3,a")
    with pytest.raises(UsageError, match="layer 0, kind q: head 3 has two labels, 'a' and 'b'"):
        rows_of(PlantedWeights(), features=("raw",), labels=(open_labels(spec),))
