"""Composition against dense matrices, its null against draws, and circuits that were written by hand."""

import numpy as np
import pytest
import scipy.stats
import torch

from headway.circuits.composition import compositions, far_tail, group_sizes, moments, upper_tail
from headway.errors import UnsupportedModel
from headway.models.paths import Paths
from headway.stats.corrections import holm
from support_circuits import PLACES, planted
from support_models import random_model

# Of float32 products of a hundred terms.
TOLERANCE = 1e-5


def dense(model, kind, one, other):
    """Composition by the definition, with M × M matrices in float64."""
    config = model.config
    n_heads, hidden = config.num_attention_heads, config.hidden_size

    def of(layer, head):
        if config.model_type == "gpt_neox":
            own = model.gpt_neox.layers[layer]
            rows = own.attention.query_key_value.weight.detach().double().numpy().reshape(n_heads, 3, -1, hidden)
            q, k, v = rows[head]
            o = own.attention.dense.weight.detach().double().numpy().reshape(hidden, n_heads, -1)[:, head]
        else:
            own = model.model.layers[layer]
            group = n_heads // config.num_key_value_heads
            q, k, v = (
                getattr(own.self_attn, f"{name}_proj").weight.detach().double().numpy().reshape(-1, config.head_dim, hidden)[at]
                for name, at in (("q", head), ("k", head // group), ("v", head // group))
            )  # fmt: skip
            o = own.self_attn.o_proj.weight.detach().double().numpy().reshape(hidden, n_heads, -1)[:, head]
        gain = np.diag(own.input_layernorm.weight.detach().double().numpy())
        centre = np.eye(hidden)
        if config.model_type == "gpt_neox":
            centre = centre - 1 / hidden
        q, k, v = (rows @ gain @ centre for rows in (q, k, v))
        return {"qk": q.T @ k, "ov": o @ v, "centred_ov": centre @ o @ v}

    above, below = of(*other), of(*one)["centred_ov"]
    read = {"q": above["qk"].T, "k": above["qk"], "v": above["ov"]}[kind]
    return np.linalg.norm(read @ below) / np.linalg.norm(read) / np.linalg.norm(below)


@pytest.mark.parametrize("architecture", ["gpt_neox", "llama"])
def test_it_is_that_of_dense_matrices(architecture):
    """`llama` shares each key and value between two query heads."""
    model = random_model(architecture)
    found = compositions(Paths(model))
    n = model.config.num_attention_heads
    assert len(found.p) == 3 * 3 * n * n  # kinds, pairs of three layers, pairs of heads
    assert (found.from_layer < found.layer).all()
    random = np.random.default_rng(0)
    for at in random.permutation(len(found.p))[:60]:
        one, other = (found.from_layer[at], found.from_head[at]), (found.layer[at], found.head[at])
        assert found.composition[at] == pytest.approx(dense(model, found.kind[at], one, other), rel=TOLERANCE)
    dimensions = model.config.hidden_size - (architecture == "gpt_neox")
    np.testing.assert_allclose(found.chance, dimensions**-0.5)


def drawn_squares(random, a, b, d, n):
    """tr A H B H' for `n` random orthogonal H, of which only the rows and columns with weights are drawn."""
    columns = np.linalg.qr(random.normal(size=(n, d, len(b))))[0]
    return np.einsum("i,nij,j->n", a, columns[:, : len(a)] ** 2, b)


@pytest.mark.parametrize(
    ("reading", "writing"),
    [([1.0], [1.0]), ([3.0, 1.0, 0.3], [2.0, 2.0]), (np.geomspace(1, 0.01, 8), np.geomspace(1, 0.2, 6))],
)
def test_moments_are_those_of_random_orthogonal_matrices(reading, writing):
    d, n = 40, 40_000
    a, b = (np.array(one) / np.sum(one) for one in (reading, writing))
    drawn = drawn_squares(np.random.default_rng(1), a, b, d, n)
    powers = [[np.sum((one - 1 / d) ** k) + (d - len(one)) * (-1 / d) ** k for k in (2, 3)] for one in (a, b)]
    null = moments(*(np.array([powers[0][k] * powers[1][k]]) for k in (0, 1)), d)
    away = drawn - 1 / d
    for moment, expected in ((1, 0.0), (2, null.sd[0] ** 2), (3, null.skewness[0] * null.sd[0] ** 3)):
        error = (away**moment).std() / n**0.5
        assert (away**moment).mean() == pytest.approx(expected, abs=4 * error)
    # Three moments are no whole distribution: the tails differ a little, and draws scatter, at 0.001 by 16%.
    for share, tolerance in ((0.05, 0.1), (0.01, 0.15), (0.001, 0.5)):
        level = np.quantile(drawn, 1 - share)
        assert upper_tail(np.array([level]), null)[0] == pytest.approx(share, rel=tolerance)


def test_the_far_tail_is_that_of_a_sum_of_chi_squares():
    """One weight alone is a χ² of one degree of freedom, and equal weights are one of as many."""
    sizes = group_sizes(3)
    assert sizes == [1, 1, 1]
    z = np.array([4.0, 8.0, 20.0])
    single = np.tile([1.0, 0.0, 0.0], (3, 1))
    # The saddlepoint is not exact, but errs by the same few percent all along the tail (Kuonen 1999).
    expected = scipy.stats.chi2.sf(1 + z * 2**0.5, 1)
    np.testing.assert_allclose(far_tail(z, single, single, sizes), expected, rtol=0.15)
    equal = np.full((3, 3), 1 / 3)
    expected = scipy.stats.chi2.sf(9 + z * 18**0.5, 9)
    np.testing.assert_allclose(far_tail(z, equal, equal, sizes), expected, rtol=0.02)
    assert sum(group_sizes(64)) == 64
    assert group_sizes(64)[:6] == [1, 1, 1, 1, 2, 2]


def test_the_moments_of_rank_one_are_those_of_a_beta_distribution():
    """The square of a random unit vector's coordinate is Beta(1/2, (d - 1)/2)."""
    d = 17
    second, third = ((1 - 1 / d) ** k + (d - 1) * (-1 / d) ** k for k in (2, 3))
    null = moments(np.array([second**2]), np.array([third**2]), d)
    beta = scipy.stats.beta(0.5, (d - 1) / 2)
    assert (null.mean[0], null.sd[0] ** 2) == pytest.approx(beta.stats("mv"))
    assert null.skewness[0] == pytest.approx(beta.stats("s"))


def random_neox(seed, decay=0.0):
    """Untrained, with the singular values of its heads' weights falling by `decay`."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(seed)
    model = GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=7, hidden_size=96, num_hidden_layers=4, num_attention_heads=6, intermediate_size=8,
            max_position_embeddings=8,
        )
    ).eval()  # fmt: skip
    scale = torch.exp(-decay * torch.arange(16.0))
    with torch.no_grad():
        for layer in model.gpt_neox.layers:
            layer.attention.query_key_value.weight.mul_(scale.repeat(18)[:, None])
            layer.attention.dense.weight.mul_(scale.repeat(6))
    return model


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_random_heads_are_edges_at_the_nominal_rate(decay):
    """`benchmarks/composition.py` has more models, and longer tails."""
    p = np.array([compositions(Paths(random_neox(seed, decay))).p for seed in range(12)])
    # Pairs of a model share heads, but composition with a random head does not depend on the other one's direction: errors
    # of independent draws, doubled.
    for level in (0.05, 0.01):
        assert (p <= level).mean() == pytest.approx(level, abs=4 * (level / p.size) ** 0.5)
    assert sum(holm(one).min() <= 0.05 for one in p) <= 3  # of 12 models, 0.6 expected; P(4 or more) = 0.003


@pytest.mark.parametrize("architecture", ["gpt_neox", "llama"])
def test_composition_is_where_it_was_written_and_nowhere_else(architecture):
    """Keys of `induction` and `decoy` read what `previous` writes; other reading heads of layer 1 read the token itself."""
    found = compositions(Paths(planted(architecture, noise=0.02)))
    p = holm(found.p)
    edges = {(found.kind[at], found.from_head[at], found.head[at]) for at in np.flatnonzero(p <= 0.05)}
    reading = {PLACES["induction"][1], PLACES["decoy"][1]}
    assert edges == {("k", PLACES["previous"][1], head) for head in reading}
    # A model without the first head has no edge.
    alone = compositions(Paths(planted(architecture, ("induction", "copying"), noise=0.02)))
    assert holm(alone.p).min() > 0.05


def test_heads_without_weights_have_no_composition():
    found = compositions(Paths(planted("gpt_neox", ("previous", "induction"))))
    there = np.isfinite(found.composition)
    # The decoy's place is empty, and so are the other heads of both layers.
    assert {(found.from_head[at], found.head[at]) for at in np.flatnonzero(there)} == {(1, 0)}
    k = found.composition[there & (found.kind == "k")]
    # All that one writes is what the other reads, in 23 equal directions: ‖P P‖ / ‖P‖².
    assert k == pytest.approx(23**-0.5, rel=TOLERANCE)
    assert found.composition[there & (found.kind == "q")] == pytest.approx(0, abs=TOLERANCE)
    assert found.p[there & (found.kind == "q")] == pytest.approx(1, abs=0.4)


def test_a_model_without_known_norms_is_refused_by_name():
    from transformers import CodeGenConfig, CodeGenForCausalLM

    model = CodeGenForCausalLM(
        CodeGenConfig(vocab_size=11, n_embd=32, n_layer=2, n_head=4, rotary_dim=4, n_positions=8)
    )
    with pytest.raises(UnsupportedModel, match="norms of the architecture 'codegen'"):
        compositions(Paths(model))
