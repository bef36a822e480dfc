"""Every number on a partition, against scikit-learn, SciPy or its plain definition over full-dimensional weights."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import cdist, pdist, squareform
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score, silhouette_score

from headway.clusters.between import arrangements_of, between, kolmogorov_p, kolmogorov_smirnov, wasserstein
from headway.clusters.quality import adjusted_rand, dispersion, gap, silhouette, spread
from headway.clusters.spaces import principal_coordinates, raw_space
from support_clusters import noise, two_groups

LABELS = [[0, 1] * 6, [0] * 11 + [1], [0, 1, 2] * 4, [2, 0, 1] + [0] * 9]


@pytest.fixture(scope="module")
def weights():
    return two_groups(np.random.default_rng(5), 0.4)


@pytest.mark.parametrize("labels", LABELS)
def test_silhouette_and_spread(weights, labels):
    labels = np.array(labels)
    flat = weights.reshape(12, -1).astype(np.float64)
    squared = raw_space(weights).squared_distances
    # Squared distances by inner products carry 1e-16 of the norms², which are of their own size here.
    assert silhouette(squared[None], labels[None])[0] == pytest.approx(silhouette_score(flat, labels), abs=1e-12)
    clusters = [flat[labels == k] for k in range(labels.max() + 1)]
    centres = np.stack([cluster.mean(axis=0) for cluster in clusters])
    found = spread(squared, labels, flat.shape[1])
    assert found.centre_distance == pytest.approx(cdist(centres, centres).max(), rel=1e-12)
    within = np.mean([np.var(cluster, axis=0).mean() for cluster in clusters])
    assert found.within_variance == pytest.approx(within, rel=1e-12)
    assert found.separation_ratio == pytest.approx(cdist(centres, centres).max() / within, rel=1e-12)
    inside = sum(((cluster - cluster.mean(axis=0)) ** 2).sum() for cluster in clusters)
    total = ((flat - flat.mean(axis=0)) ** 2).sum()
    assert found.between_share == pytest.approx(1 - inside / total, rel=1e-10)
    assert dispersion(squared[None], labels[None])[0] == pytest.approx(inside, rel=1e-12)


def test_silhouette_is_undefined_for_one_cluster_and_for_as_many_as_heads():
    squared = raw_space(noise(np.random.default_rng(0), 4)).squared_distances
    assert np.isnan(silhouette(squared[None], np.zeros((1, 4), int))).all()
    assert np.isnan(silhouette(squared[None], np.arange(4)[None])).all()


def test_principal_coordinates_are_a_pca(weights):
    flat = weights.reshape(12, -1).astype(np.float64)
    squared = raw_space(weights).squared_distances
    ours, theirs = principal_coordinates(squared), PCA().fit(flat)
    assert ours.coordinates.shape == (12, 11)
    np.testing.assert_allclose(ours.explained, theirs.explained_variance_ratio_[:11], rtol=1e-10)
    # Eigenvectors hold half the digits of inner products where two eigenvalues are near each other.
    np.testing.assert_allclose(np.abs(ours.coordinates), np.abs(theirs.transform(flat)[:, :11]), atol=1e-8)
    np.testing.assert_allclose(squareform(pdist(ours.coordinates)) ** 2, squared, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 12), st.integers(0, 10**6))
def test_adjusted_rand(n_heads, seed):
    random = np.random.default_rng(seed)
    one, other = random.integers(0, 3, (2, 5, n_heads))
    expected = [adjusted_rand_score(a, b) for a, b in zip(one, other, strict=True)]
    np.testing.assert_allclose(adjusted_rand(one, other), expected, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(2, 60), st.integers(0, 2), st.integers(0, 10**6))
def test_distances_of_distributions(m, n, columns, decimals, seed):
    """Rounded weights have ties, within and across the groups."""
    random = np.random.default_rng(seed)
    first = np.round(random.normal(0, 1, (m, columns)), decimals)
    second = np.round(random.normal(0.3, 1.2, (n, columns)), decimals)
    assert wasserstein(first, second) == pytest.approx(
        stats.wasserstein_distance(first.ravel(), second.ravel()), abs=1e-12
    )
    ours = kolmogorov_smirnov(np.sort(first, axis=None), np.sort(second, axis=None))
    theirs = stats.ks_2samp(first.ravel(), second.ravel(), method="asymp")
    assert ours.statistic == pytest.approx(theirs.statistic, abs=1e-12)
    assert ours.p == pytest.approx(theirs.pvalue, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("n", [9_999, 10_000, 10_001, 73_728, 1_000_001])
@pytest.mark.parametrize("square", [0.5, 2.19, 2.21, 7.3, 18.1, 120.0, 350.0, 400.0])  # n d²
def test_kolmogorov_p(n, square):
    d = (square / n) ** 0.5
    assert kolmogorov_p(d, n) == pytest.approx(stats.kstwo.sf(d, n), rel=1e-11)


@pytest.mark.parametrize("shift", [0.0, 0.01, 0.02, 0.05, 0.1, 1.0])
def test_kolmogorov_smirnov_of_pooled_weights(shift):
    random = np.random.default_rng(3)
    first, second = random.normal(0, 1, 50_000), random.normal(shift, 1, 70_000)
    ours, theirs = kolmogorov_smirnov(np.sort(first), np.sort(second)), stats.ks_2samp(first, second, method="asymp")
    assert ours.statistic == pytest.approx(theirs.statistic, rel=1e-12)
    assert ours.p == pytest.approx(theirs.pvalue, rel=1e-9)


def test_tests_over_pooled_weights_and_over_heads(weights):
    labels = np.array([0] * 5 + [1] * 7)
    flat = weights.reshape(12, -1).astype(np.float64)
    flat[labels == 1] += 0.002
    found = between(flat, labels, np.random.default_rng(0))
    first, second = flat[labels == 0].ravel(), flat[labels == 1].ravel()
    t = stats.ttest_ind(first, second)
    assert (found.published_t, found.published_t_p) == pytest.approx((t.statistic, t.pvalue), rel=1e-9)
    means = flat.mean(axis=1)
    exact = stats.permutation_test(
        (means[labels == 0], means[labels == 1]), lambda a, b: abs(a.mean() - b.mean()), n_resamples=np.inf,
        alternative="greater",
    )  # fmt: skip
    assert found.heads_t_p == pytest.approx(exact.pvalue, abs=1e-12)  # all 792 arrangements in both
    pooled_sd = np.sqrt((4 * means[labels == 0].var(ddof=1) + 6 * means[labels == 1].var(ddof=1)) / 10)
    assert found.heads_d == pytest.approx((means[labels == 0].mean() - means[labels == 1].mean()) / pooled_sd, rel=1e-9)


def test_a_lone_head_cannot_be_significant_over_heads():
    flat = noise(np.random.default_rng(0)).reshape(12, -1)
    flat[3] += 1
    found = between(flat, (np.arange(12) == 3).astype(int), np.random.default_rng(0))
    assert found.published_t_p < 1e-300 < found.heads_t_p
    assert found.heads_t_p == pytest.approx(1 / 12)


def test_arrangements_are_all_or_random():
    random = np.random.default_rng(0)
    assert len(arrangements_of(np.array([0, 0, 1, 1, 1]), random)) == 10
    many = arrangements_of(np.arange(24) % 2, random, most=200)
    assert many.shape == (200, 24)
    assert (many.sum(axis=1) == 12).all()


def test_gap_is_what_lies_below_the_dispersion_of_null_draws():
    null = np.exp(np.array([[3.0, 2.0, 1.0], [3.2, 2.2, 1.2]]))
    observed = np.exp(np.array([3.0, 1.0, 0.1]))
    found = gap(observed, null)
    np.testing.assert_allclose(found.value, [0.1, 1.1, 1.0])
    np.testing.assert_allclose(found.std_error, 0.1 * np.sqrt(1.5))
    np.testing.assert_allclose(found.margin, 0.09)  # of two draws 0.2 apart, the 5 % quantile lies 0.01 above the lower
