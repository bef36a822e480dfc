"""Weight features against dense matrices, and what heads do with tokens against transformers and closed forms."""

import numpy as np
import pytest
import torch

import headway
from headway.circuits.responses import attention_vectors, centred_pairs, evenly, output_vectors, unit
from headway.circuits.traits import circuit_traits, traits
from headway.errors import CheckpointError
from headway.models.paths import Paths
from headway.store import RunDirectory
from headway.tables import FEATURES_OF_CIRCUITS, HEAD_FEATURES
from support_circuits import PLACES, planted, planted_suite

N, D, M = 3, 5, 24


@pytest.fixture
def parts():
    random = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, N, D, M, dtype=torch.float64, generator=random)
    tokens = torch.randn(2, 60, M, dtype=torch.float64, generator=random) * torch.linspace(0.2, 2, M)
    return first, second, *(one.T @ one for one in tokens)


def test_features_are_those_of_the_dense_circuit(parts):
    first, second, read, written = parts
    found = circuit_traits(first, second, read, written)
    assert set(found) == set(FEATURES_OF_CIRCUITS)
    for head in range(N):
        c = (first[head].T @ second[head]).numpy()
        squares = np.linalg.svd(c, compute_uv=False) ** 2
        shares = squares[:D] / squares.sum()
        values = np.linalg.eigvals(c)
        size = np.linalg.norm(c)
        expected = {
            "size": np.log(size),
            "rank": -(shares * np.log(shares)).sum(),
            "top": shares[0],
            "symmetry": np.trace(c @ c) / size**2,
            "sign": values.real.sum() / np.abs(values).sum(),
            # What the first side reads is a row vector on the left of C.
            "first_tokens": np.log(np.trace(c.T @ read.numpy() @ c) / size**2 / (np.trace(read.numpy()) / M)),
            "second_tokens": np.log(np.trace(c @ written.numpy() @ c.T) / size**2 / (np.trace(written.numpy()) / M)),
        }
        for name, value in expected.items():
            # Sums of some hundred float64 products; eigenvalues of a dense matrix of low rank are known to about 1e-12.
            assert float(found[name][head]) == pytest.approx(value, abs=1e-9), name


def test_no_basis_decides_a_feature(parts):
    """Not one inside the head (A first, A^-T second), nor a rotation of the residual stream."""
    first, second, read, written = parts
    random = torch.Generator().manual_seed(1)
    inside = torch.randn(D, D, dtype=torch.float64, generator=random)
    turned = torch.linalg.qr(torch.randn(M, M, dtype=torch.float64, generator=random))[0]
    before = circuit_traits(first, second, read, written)
    after = circuit_traits(
        inside @ first @ turned,
        torch.linalg.inv(inside).T @ second @ turned,
        *(turned.T @ one @ turned for one in (read, written)),
    )
    for name, value in before.items():
        np.testing.assert_allclose(after[name], value, atol=1e-9, err_msg=name)


def test_random_directions_read_tokens_like_any_others():
    random = torch.Generator().manual_seed(2)
    first, second = torch.randn(2, 40, 4, 200, dtype=torch.float64, generator=random)
    spread = torch.diag(torch.linspace(0.1, 3, 200, dtype=torch.float64))
    found = circuit_traits(first, second, spread, spread)
    for name in ("first_tokens", "second_tokens"):
        # The share of 4 directions scatters by about 0.1; the mean of 40 heads by 0.02.
        assert float(found[name].mean()) == pytest.approx(0, abs=0.06)


def hsic(one, other):
    """The unbiased estimate of HSIC as Song et al. (2012), equation 4, write it."""
    n, ones = len(one), np.ones(len(one))
    k, m = (kernel - np.diag(np.diag(kernel)) for kernel in (one, other))
    parts = np.trace(k @ m), (ones @ k @ ones) * (ones @ m @ ones) / ((n - 1) * (n - 2)), ones @ k @ m @ ones / (n - 2)
    return (parts[0] + parts[1] - 2 * parts[2]) / (n * (n - 3))


def test_products_of_vectors_are_the_unbiased_kernel_alignment():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(20, 30)), random.normal(size=(20, 4))
    y += x[:, :4]
    k, m = x @ x.T, y @ y.T
    vectors = [centred_pairs(one) for one in (k, m)]
    assert 2 * vectors[0] @ vectors[1] / (20 * 17) == pytest.approx(hsic(k, m))
    expected = hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))
    assert unit(vectors[0]) @ unit(vectors[1]) == pytest.approx(expected, rel=1e-5)  # kept in float32


def test_unrelated_outputs_have_no_alignment_however_many_their_dimensions():
    random = np.random.default_rng(1)
    kernels = [x @ x.T for x in random.normal(size=(60, 30, 64))]
    vectors = np.stack([unit(centred_pairs(kernel)) for kernel in kernels])
    products = (vectors @ vectors.T)[np.triu_indices(60, 1)]
    # 435 pairs of tokens: products scatter by 1/√435 = 0.05, their mean over 1,770 pairs by far less. Without U-centring it is 0.7.
    assert products.mean() == pytest.approx(0, abs=0.01)
    assert products.std() == pytest.approx(435**-0.5, rel=0.3)


@pytest.fixture(scope="module")
def model():
    return planted("gpt_neox", noise=0.05)


TEXTS = [np.array([1, 5, 3, 8, 2, 5, 3, 9]), np.array([4, 4, 7, 0, 11])]


def test_attention_is_compared_with_an_even_one(model):
    vectors = attention_vectors(model, TEXTS)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        layers = [model(torch.tensor(text)[None], output_attentions=True).attentions for text in TEXTS]
    model.set_attn_implementation("sdpa")
    for (layer, head), found in vectors.items():
        parts = []
        for text, attentions in zip(TEXTS, layers, strict=True):
            rows = attentions[layer][0, head].double().numpy()
            parts += [rows[i, j] - 1 / (i + 1) for i in range(len(text)) for j in range(i + 1)]
        np.testing.assert_allclose(found, np.array(parts) / np.linalg.norm(parts), atol=1e-5)  # float32 attention


def test_outputs_are_those_that_reach_the_residual_stream(model):
    vectors = output_vectors(Paths(model), model, TEXTS)
    dense = model.gpt_neox.layers[1].attention.dense
    read = []
    handle = dense.register_forward_pre_hook(lambda _, args: read.append(args[0][0].double()))
    with torch.no_grad():
        for text in TEXTS:
            model(torch.tensor(text)[None])
    handle.remove()
    z, width = torch.cat(read), dense.weight.shape[0] // 4
    for head in range(4):
        own = slice(head * width, (head + 1) * width)
        written = (z[:, own] @ dense.weight.double().T[own]).detach().numpy()
        expected = unit(centred_pairs(written @ written.T))
        np.testing.assert_allclose(vectors[1, head], expected, atol=1e-5)  # float32 forward passes


def test_tokens_are_spread_over_all_texts():
    assert evenly(10, 96).tolist() == list(range(10))
    assert len(evenly(1000, 96)) == 96
    assert evenly(1000, 96)[[0, -1]].tolist() == [0, 999]


def test_the_command_tells_a_decoy_from_an_induction_head(tmp_path):
    run = "planted-1m-seed1"
    folder = planted_suite(tmp_path, {run: {"previous": 1, "induction": 1, "decoy": 1}}, (0, 1))
    summary = headway.describe(
        folder / "suite", out=folder / "out", corpus=str(folder / "texts.txt"), repeated_length=8
    )
    assert summary.failed == []
    table = RunDirectory(folder / "out").read("descriptions").filter(step=1)
    assert table.height == 8
    own = {name: table.filter(layer=layer, head=head).row(0, named=True) for name, (layer, head) in PLACES.items()}
    induction, decoy, previous = (own[name] for name in ("induction", "decoy", "previous"))
    attention = {name: np.array(one["attention"]) for name, one in own.items()}
    assert attention["induction"] @ attention["decoy"] > 0.95  # the same pattern
    assert attention["induction"] @ attention["previous"] < 0.6
    assert induction["ov_size"] - decoy["ov_size"] > 1
    assert induction["qk_size"] - decoy["qk_size"] == pytest.approx(0, abs=0.1)
    assert previous["qk_rank"] < induction["qk_rank"]  # it attends by one constant direction
    outputs = {name: np.array(one["outputs"]) for name, one in own.items()}
    assert outputs["induction"] @ outputs["decoy"] < 0.9
    assert all(np.linalg.norm(vector) == pytest.approx(1, abs=1e-3) for vector in outputs.values())


def test_damaged_weights_are_named(model):
    broken = planted("gpt_neox")
    with torch.no_grad():
        broken.gpt_neox.layers[1].attention.dense.weight[0, 0] = float("nan")
    with pytest.raises(CheckpointError, match="layer 1 are not finite"):
        list(traits(Paths(broken)))
    names = {name for layer in traits(Paths(model)) for name in layer}
    assert names == {column.name for column in HEAD_FEATURES}
