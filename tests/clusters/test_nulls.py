"""The nulls are what they say, find what is planted, and find nothing where nothing is."""

import numpy as np
import pytest
from scipy import stats

from headway.clusters.circuits import side_of, spectrum_space, subspace_space
from headway.clusters.partitions import Partition
from headway.clusters.reality import Cell, comparisons, found_partitions, null_draws, qualities
from headway.clusters.spaces import distances_of, permuted, principal_coordinates, random_heads, raw_space, rotated
from support_clusters import HEAD_DIM, HIDDEN, column_scales, noise, one_outlier, shared_directions, two_groups

NULLS = 39
ALL_NULLS = ("directions", "initial", "permutation", "covariance")
# Of 200 suites without clusters 10 are expected at 5 %; 2 to 22 leave out 1 in 1,000 (binomial).
FEWEST, MOST = 2, 22


def described(*spaces, methods=("kmeans", "ward"), ks=(2, 3), seed=0):
    """The rows of each space, compared with nulls side by side."""
    found = found_partitions(spaces, methods, [ks] * len(spaces))
    cells = [Cell(space, own, np.random.default_rng(seed)) for space, own in zip(spaces, found, strict=True)]
    return rows_of(cells, NULLS)


def rows_of(cells, n_draws):
    nulls = [null_draws(cell.space, n_draws, cell.random) for cell in cells]
    both = zip(qualities(cells), comparisons(cells, nulls), strict=True)
    return [[row | compared for row, compared in zip(*of, strict=True)] for of in both]


def described_as(labels, weights, n_draws, random):
    return rows_of([Cell(raw_space(weights), [labels], random)], n_draws)[0][0]


def test_random_heads_are_normal_weights():
    """Drawn without weights, distances are distributed as between drawn weights, at as many columns as heads too."""
    random = np.random.default_rng(0)
    for n_columns in (5, 7, 40):
        ours = random_heads(random, 4000, n_columns, 5)
        weights = random.standard_normal((4000, 5, n_columns))
        theirs = distances_of(weights @ weights.transpose(0, 2, 1))
        for pair in ((0, 1), (3, 4), (0, 4)):
            assert stats.ks_2samp(ours[:, *pair], theirs[:, *pair]).pvalue > 1e-3


def test_random_directions_keep_the_norms():
    norms = np.array([1.0, 2.0, 5.0])
    d = random_heads(np.random.default_rng(0), 2000, 60, 3, norms)
    # Of independent directions the mean squared distance is the sum of squared norms; 2,000 draws, sd 2 n m / sqrt(60).
    for i, j in ((0, 1), (1, 2)):
        error = 2 * norms[i] * norms[j] / np.sqrt(60 * 2000)
        assert abs(d[:, i, j].mean() - norms[i] ** 2 - norms[j] ** 2) < 4 * error


def test_permutation_within_blocks():
    weights = noise(np.random.default_rng(0), 5)
    space = raw_space(weights)
    assert space.blocks is not None
    whole = distances_of(permuted(space.blocks.sum(axis=0)[None], np.random.default_rng(1), 20))
    for draw in whole:  # one block: heads change places and nothing else
        np.testing.assert_allclose(np.sort(draw.ravel()), np.sort(space.squared_distances.ravel()), atol=1e-12)
    # By hand: permute the heads of each block of columns, then take distances.
    random = np.random.default_rng(2)
    orders = [random.permuted(np.arange(5)[None], axis=1)[0] for _ in range(HIDDEN)]
    by_hand = np.stack([weights[order, :, column] for column, order in enumerate(orders)], axis=-1)
    expected = raw_space(by_hand).squared_distances
    np.testing.assert_allclose(
        distances_of(permuted(space.blocks, np.random.default_rng(2), 1))[0], expected, atol=1e-12
    )


def test_rotation_keeps_the_spectrum_and_nothing_else():
    space = raw_space(one_outlier(np.random.default_rng(0)))
    draws = distances_of(rotated(space.gram, np.random.default_rng(1), 5))
    expected = np.linalg.norm(principal_coordinates(space.squared_distances).coordinates, axis=0)
    for draw in draws:
        found = np.linalg.norm(principal_coordinates(draw).coordinates, axis=0)
        np.testing.assert_allclose(found, expected, rtol=1e-9)  # rounding of two eigendecompositions
    assert np.ptp(draws[:, 0, 1]) > 0.1 * draws[:, 0, 1].mean()


def test_rotation_about_the_means_of_clusters_keeps_them():
    labels = np.arange(12) % 3
    space = raw_space(two_groups(np.random.default_rng(0), 1.0))
    members = (labels == np.arange(3)[:, None]) / 4
    for gram in rotated(space.gram, np.random.default_rng(1), 5, labels):
        np.testing.assert_allclose(members @ gram @ members.T, members @ space.gram @ members.T, rtol=1e-9, atol=1e-15)
        assert not np.allclose(gram, space.gram, rtol=0.1)


def test_rotated_heads_are_as_gaussian_heads_of_their_covariance():
    """The first head of a mixture lies about the mean as that of new Gaussian heads with the same spread does."""
    random = np.random.default_rng(2)
    scales = np.array([3.0, 1, 0.5])
    drawn, fresh = [], []
    for _ in range(1500):
        one, other = (raw_space(random.normal(size=(5, 3)) * scales) for _ in range(2))
        drawn.append(distances_of(rotated(one.gram, random, 1))[0])
        fresh.append(other.squared_distances)
    for pair in ((0, 1), (2, 4)):
        assert stats.ks_2samp(np.array(drawn)[:, *pair], np.array(fresh)[:, *pair]).pvalue > 1e-3


def circuit(make):
    def space(random):
        return make(side_of(noise(random)), side_of(noise(random)), 12)

    return space


def uneven(random):
    """Random directions, norms that vary as trained heads' do."""
    return noise(random) * random.lognormal(0, 0.4, (12, 1, 1))


def raw(make):
    return lambda random: raw_space(make(random))


@pytest.mark.parametrize(
    ("make", "nulls"),
    [
        (raw(noise), ALL_NULLS),
        (raw(uneven), ("directions",)),
        (raw(shared_directions), ("covariance",)),
        (raw(column_scales), ("permutation", "covariance")),
        (circuit(spectrum_space), ("directions", "initial")),
        (circuit(subspace_space), ("directions", "initial")),
    ],
    ids=["raw", "raw, uneven norms", "raw, shared directions", "raw, column scales", "spectrum", "subspace"],
)
def test_false_positives_at_the_nominal_level(make, nulls):
    """Of each null that holds of the suites; and no kind of them is beyond every null more often, lone heads apart."""
    rows = [described(make(np.random.default_rng([seed, 7])), ks=(2,), seed=seed)[0] for seed in range(200)]
    for at, method in enumerate(("kmeans", "ward")):
        for null in nulls:
            positive = sum(row[at][f"{null}_p"] <= 0.05 for row in rows)
            assert FEWEST <= positive <= MOST, (null, method, positive)
        there = [null for null in ALL_NULLS if f"{null}_p" in rows[0][at]]
        beyond = [max(row[at][f"{null}_p"] for null in there) for row in rows]
        assert sum(p <= 0.05 for p in beyond) <= MOST, method


def test_two_groups_are_found_by_every_control():
    space = raw_space(two_groups(np.random.default_rng(3), 0.8))
    for row in described(space, ks=(2,))[0]:
        assert row["labels"] in ([0, 1] * 6, [1, 0] * 6)
        for null in ALL_NULLS:
            compared = "between_share" if null == "covariance" else "silhouette"
            assert row[f"{null}_p"] == 1 / (NULLS + 1)
            assert row[compared] > row[f"{null}_high"] > row[f"{null}_median"] > row[f"{null}_low"]
        assert row["stability"] > 0.95
        assert row["lone_heads"] == []


def test_an_outlier_is_reported_as_one():
    """Twelve random heads, one of them times 4: 'strong clustering' by its silhouette, and none beyond its norm."""
    weights = one_outlier(np.random.default_rng(0))
    space = raw_space(weights)
    row = described(space, methods=("kmeans",), ks=(2,))[0][0]
    assert row["silhouette"] > 0.5
    assert row["lone_heads"] == [6]
    assert row["directions_p"] > 0.05
    assert row["initial_p"] == 1 / (NULLS + 1)
    others = np.delete(space.norms, 6)
    assert space.norms[6] / others.mean() == pytest.approx(4, rel=0.1)


def test_spaces_side_by_side_are_as_one_by_one():
    random = np.random.default_rng(4)
    spaces = [raw_space(noise(random)), raw_space(two_groups(random, 0.5, 7)), raw_space(one_outlier(random))]
    spaces.append(spectrum_space(side_of(noise(random)), side_of(noise(random)), 12))
    alone = [described(space)[0] for space in spaces]
    assert described(*spaces) == alone
    assert alone[0] != alone[2]


def test_given_labels_are_tested_by_permuting_them():
    given = Partition("even_odd", 2, np.arange(12) % 2, given=True)
    random = np.random.default_rng(0)
    real = described_as(given, two_groups(random, 0.8), 199, random)
    assert real["permutation_p"] < 0.02
    assert real["stability"] is None
    values = [
        described_as(given, noise(np.random.default_rng(seed)), 39, random)["permutation_p"] for seed in range(200)
    ]
    assert FEWEST <= sum(value <= 0.05 for value in values) <= MOST


def test_circuit_features_are_what_numpy_and_scipy_say():
    from scipy.linalg import subspace_angles

    random = np.random.default_rng(0)
    q, k = noise(random, 5, (3, 17)).astype(np.float64), noise(random, 5, (3, 17)).astype(np.float64)
    left, right = side_of(q), side_of(k)
    spectrum = np.stack([np.linalg.svd(q[h].T @ k[h], compute_uv=False)[:3] for h in range(5)])
    squared = ((spectrum[:, None] - spectrum[None]) ** 2).sum(axis=-1)
    # Singular values are roots of eigenvalues: half their digits, 1e-8 of the largest, at worst.
    np.testing.assert_allclose(spectrum_space(left, right, 5).squared_distances, squared, rtol=1e-6, atol=1e-16)
    sines = np.zeros((5, 5))
    for i in range(5):
        for j in range(5):
            angles = [subspace_angles(side[i].T, side[j].T) for side in (q, k)]
            sines[i, j] = np.mean([np.sin(side) ** 2 for side in angles])
    # Overlaps are computed in float32.
    np.testing.assert_allclose(subspace_space(left, right, 5).squared_distances, sines, atol=2e-6)


def test_circuit_features_do_not_depend_on_the_basis_inside_a_head():
    random = np.random.default_rng(1)
    q, k = noise(random).astype(np.float64), noise(random).astype(np.float64)
    basis = random.normal(size=(12, HEAD_DIM, HEAD_DIM)) + 3 * np.eye(HEAD_DIM)
    turned = side_of(basis @ q), side_of(np.linalg.inv(basis).transpose(0, 2, 1) @ k)
    for make in (spectrum_space, subspace_space):
        before, after = make(side_of(q), side_of(k), 12), make(*turned, 12)
        np.testing.assert_allclose(before.squared_distances, after.squared_distances, atol=2e-6, rtol=1e-5)
    raw = [raw_space(weights).squared_distances for weights in (q, basis @ q)]
    assert not np.allclose(*raw, rtol=0.1)
