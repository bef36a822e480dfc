"""Clusters in the space of distances are those of scikit-learn in full dimension."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import AgglomerativeClustering, KMeans
from sklearn.metrics import adjusted_rand_score

from headway.clusters.kmeans import _over_heads, kmeans
from headway.clusters.partitions import search
from headway.clusters.spaces import raw_space
from support_clusters import noise, one_outlier, two_groups

MADE = [noise, one_outlier, lambda random: two_groups(random, 0.5), lambda random: noise(random, 7)]


@pytest.mark.parametrize("make", MADE)
@pytest.mark.parametrize("k", [2, 3, 4, 5])
def test_labels_and_inertia_are_those_of_full_dimension(make, k):
    for seed in range(10):
        weights = make(np.random.default_rng([seed, k]))
        flat = weights.reshape(len(weights), -1)
        space = raw_space(weights)
        ours = kmeans(space.squared_distances[None], k)
        theirs = KMeans(k, n_init=10, random_state=42).fit(flat.astype(np.float64))
        assert ours.labels[0].tolist() == theirs.labels_.tolist()
        # The inertia is a sum of squared distances; their rounding is that of norms², 1e-16 of them.
        assert ours.inertia[0] == pytest.approx(theirs.inertia_, rel=1e-9)


def test_many_problems_at_once_are_as_one_by_one():
    random = np.random.default_rng(0)
    spaces = np.stack([raw_space(noise(random)).squared_distances for _ in range(500)])  # more than one chunk
    together = kmeans(spaces, 3).labels
    assert (together == np.concatenate([kmeans(one[None], 3).labels for one in spaces])).all()


def test_sums_over_heads_have_the_order_of_sums_of_a_last_axis():
    """Ties between candidates are decided by rounding, so results of other orders are those of other clusters."""
    random = np.random.default_rng(0)
    for n_heads in (*range(1, 40), 96, 127, 128, 129, 200):
        values = random.random((n_heads, 5))
        assert (_over_heads(values) == np.ascontiguousarray(values.T).sum(axis=1)).all(), n_heads


def test_clusters_that_lose_their_heads_take_others():
    # Two places only, three clusters: some starts must choose one place twice.
    points = np.repeat([[0.0], [1.0]], [5, 2], axis=0)
    squared = (points - points.T) ** 2
    found = kmeans(squared[None], 3)
    assert found.inertia[0] == 0
    assert adjusted_rand_score(found.labels[0] == found.labels[0][0], [True] * 5 + [False] * 2) <= 1
    with pytest.raises(ValueError, match="7 heads cannot form 8 clusters"):
        kmeans(squared[None], 8)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(4, 11))
def test_inertia_does_not_depend_on_the_order_of_heads(seed, n_heads):
    random = np.random.default_rng(seed)
    squared = raw_space(noise(random, n_heads)).squared_distances
    order = random.permutation(n_heads)
    shuffled = squared[np.ix_(order, order)]
    one, other = kmeans(squared[None], 2, starts=50), kmeans(shuffled[None], 2, starts=50)
    assert one.inertia[0] == pytest.approx(other.inertia[0], rel=2e-2)  # 50 starts may end in neighbouring optima


@pytest.mark.parametrize("make", MADE)
def test_ward_is_scikit_learns(make):
    for seed in range(5):
        weights = make(np.random.default_rng(seed))
        found = search("ward", raw_space(weights).squared_distances[None], [2, 3, 4, 5])
        for k, labels in found.items():
            theirs = AgglomerativeClustering(k).fit_predict(weights.reshape(len(weights), -1).astype(np.float64))
            assert adjusted_rand_score(labels[0], theirs) == 1
            firsts = [labels[0].tolist().index(cluster) for cluster in range(k)]
            assert firsts == sorted(firsts)
