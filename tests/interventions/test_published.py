"""The interventions of the published clustering study, against weights changed by hand."""

import copy

import numpy as np
import polars as pl
import pytest
import torch

import headway
from headway import sweep
from headway.corpora import Corpus
from headway.errors import UnsupportedModel, UsageError
from headway.interventions.groups import Grouping
from headway.interventions.objects import Replace
from headway.interventions.published import PublishedEffects, SwapRows, Together, ZeroSlices
from headway.interventions.text_effects import effects
from headway.models import load, load_tokenizer
from headway.store import RunDirectory
from headway.suites import open_suite
from support_interventions import RUN, clustered, intervened, neox, write_suite
from support_models import random_model

HEADS = 4
TOLERANCE = 1e-6  # of logits below 1 in float32, by the same products in another order


def logits(model, ids):
    with torch.no_grad():
        return model(ids).logits


@pytest.fixture
def model():
    return random_model("gpt_neox")


def swapped_by_hand(model, layer, one, other):
    """Rows of the weight as three blocks of heads: those of two heads exchanged in each block."""
    changed = copy.deepcopy(model)
    weight = changed.gpt_neox.layers[layer].attention.query_key_value.weight
    size = weight.shape[0] // 3 // model.config.num_attention_heads
    with torch.no_grad():
        before = weight.clone()
        for third in range(3):
            at = [(third * model.config.num_attention_heads + head) * size for head in (one, other)]
            weight[at[0] : at[0] + size] = before[at[1] : at[1] + size]
            weight[at[1] : at[1] + size] = before[at[0] : at[0] + size]
    return changed


def without_slice_by_hand(model, layer, head):
    """The projection writes nothing to a slice of the residual stream."""
    changed = copy.deepcopy(model)
    dense = changed.gpt_neox.layers[layer].attention.dense
    size = dense.weight.shape[0] // model.config.num_attention_heads
    with torch.no_grad():
        dense.weight[head * size : (head + 1) * size] = 0
        dense.bias[head * size : (head + 1) * size] = 0
    return changed


def test_a_swap_exchanges_rows_of_the_published_reading_and_is_undone(model):
    ids = torch.arange(9)[None]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    n = model.config.num_attention_heads
    order = [1, 0, *range(2, n)]
    with SwapRows({1: order}).on(model):
        found = logits(model, ids)
    expected = logits(swapped_by_hand(model, 1, 0, 1), ids)
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)
    assert (found - logits(model, ids)).abs().max() > 100 * TOLERANCE
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_slices_are_of_the_residual_stream_and_no_heads(model):
    ids = torch.arange(9)[None]
    with ZeroSlices([(1, 2)]).on(model):
        found = logits(model, ids)
    torch.testing.assert_close(found, logits(without_slice_by_hand(model, 1, 2), ids), atol=TOLERANCE, rtol=0)
    zero = torch.zeros(model.config.num_attention_heads, model.config.hidden_size // model.config.num_attention_heads)
    with Replace([(1, 2)], {1: zero}).on(model):
        right = logits(model, ids)
    assert (found - right).abs().max() > 100 * TOLERANCE
    assert not model.gpt_neox.layers[1].attention.dense._forward_hooks


def test_other_architectures_are_refused_by_name():
    with (
        pytest.raises(UnsupportedModel, match="only for GPT-NeoX's fused weight, which LlamaForCausalLM does not have"),
        SwapRows({0: [1, 0]}).on(random_model("llama")),
    ):
        pass


def test_the_table_holds_what_the_study_would_have_measured(tmp_path):
    """Slices are zeroed in the swapped model; the divergence is from the model as it was."""
    write_suite(tmp_path, {(RUN, 7): neox(heads=HEADS)})
    suite, directory = open_suite(tmp_path / "suite"), RunDirectory(tmp_path / "out")
    grouping = Grouping("v", "kmeans", {1: (0, 0, 1, 0)})
    corpus = Corpus.of("toy", ["w1 w2 w3 w4 w5 w1 w2", "w7 w5 w9 w2"])
    job = PublishedEffects(corpus, {RUN: [grouping]}, n_texts=2)
    assert sweep.run(job, suite.checkpoints(), directory).failed == []
    table = directory.read("interventions_published")
    assert set(table["operation"]) == {"zero", "swap"}
    folder = suite.checkpoints()[0].source.path
    model, tokenizer = load(folder, lm_head=True), load_tokenizer(tmp_path / "suite")
    texts = [np.asarray(tokenizer.encode(text), np.int64) for text in corpus.texts]
    swapped = swapped_by_hand(model, 1, 0, 2)
    silent = without_slice_by_hand(swapped, 1, 2)
    for by_hand, row in (
        (swapped, table.filter(operation="swap").row(0, named=True)),
        (silent, table.filter(pl.col("operation") == "zero", pl.col("cluster") == 1).row(0, named=True)),
    ):
        divergences = []
        for ids in texts:
            p, q = (logits(one, torch.as_tensor(ids)[None])[0].double().log_softmax(-1) for one in (model, by_hand))
            divergences.append((p.exp() * (p - q)).sum(-1))
        assert row["kl"] == pytest.approx(
            float(torch.cat(divergences).mean()), rel=1e-3
        )  # float32 differences of logarithms
        # Each head could have been alone; to swap the first two is the same both ways.
        assert row["n_controls"] == (HEADS if row["operation"] == "zero" else HEADS - 1)
    assert table.filter(pl.col("cluster") == 1, operation="zero")["heads"].item() == "L1H2"


def test_two_clusters_are_needed_and_only_known_operations(tmp_path):
    write_suite(tmp_path, {(RUN, 7): neox(heads=HEADS)})
    corpus = Corpus.of("toy", ["w1 w2 w3"])
    three = Grouping("v", "kmeans", {1: (0, 1, 2, 0)})
    [failed] = sweep.run(
        PublishedEffects(corpus, {RUN: [three]}),
        open_suite(tmp_path / "suite").checkpoints(),
        RunDirectory(tmp_path / "out"),
    ).failed
    assert "takes two clusters in each layer, and kmeans has 3" in failed.error
    with pytest.raises(UsageError, match="knows the operations zero and swap, not mean"):
        PublishedEffects(corpus, {}, operations=("mean",))


def test_both_interventions_at_once_are_undone_together(model):
    before = logits(model, torch.arange(5)[None])
    with (
        pytest.raises(ValueError, match="stop"),
        Together([SwapRows({0: [1, 0, *range(2, model.config.num_attention_heads)]}), ZeroSlices([(0, 0)])]).on(model),
    ):
        raise ValueError("stop")
    assert torch.equal(logits(model, torch.arange(5)[None]), before)
    assert effects(model, [ZeroSlices([(0, 0)])], [np.arange(5)])[0].mean("kl") > 0


def test_the_study_puts_both_beside_each_other_and_the_report_shows_them(tmp_path):
    write_suite(tmp_path, {(RUN, step): neox(seed=step, heads=HEADS) for step in (0, 8)})
    directory = clustered(tmp_path)
    where = {"where": "step=last", "kinds": ["q"]}
    intervened(tmp_path, **where)
    intervened(tmp_path, convention="published", **where)
    headway.analyze(directory.path, studies=["weight_clusters"], bootstraps=0)
    table = pl.read_parquet(directory.analysis / "weight_clusters" / "weights.conventions.parquet")
    assert set(table["operation"]) == {"zero", "swap"}
    published = directory.read("interventions_published").filter(step=8, operation="swap")["kl"].sort().to_list()
    assert table.filter(step=8, operation="swap")["kl_published"].sort().to_list() == published
    page = headway.report(directory.path, figures=False)
    assert "as the published study made them" in page.read_text(encoding="utf-8")
