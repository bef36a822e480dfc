"""Groups of heads: found at any norms, as many as there are, and none where there are none."""

import time

import numpy as np
import pytest

from headway.clusters import WeightClusters
from headway.clusters.circuits import side_of, spectrum_space, subspace_space
from headway.clusters.groups import find_groups, part
from headway.clusters.kmeans import kmeans
from headway.clusters.quality import silhouette
from headway.clusters.spaces import raw_space, unit_distances
from headway.stats.sequential import sequential_p
from support_clusters import PlantedWeights, column_scales, noise, one_outlier, shared_directions, two_groups

EVEN_ODD = ([0, 1] * 6, [1, 0] * 6)


def groups_of(space, seed=0, fewest=99, most=99):
    return find_groups([space], 5, fewest, most, [np.random.default_rng(seed)])[0]


def p_of(space, seed=0, **draws):
    return max(groups_of(space, seed, **draws).p.values())


def spread(random, width):
    """Log norms that differ by `width`."""
    return np.exp(random.normal(0, width, (12, 1, 1)))


# No groups --------------------------------------------------------------------------------------------------


def raw(make):
    return lambda random: raw_space(make(random))


def circuit(make):
    return lambda random: make(side_of(noise(random)), side_of(noise(random)), 12)


def norms_only(random):
    return noise(random) * np.where(np.arange(12) % 2, 1, 2)[:, None, None]


NOTHING = {
    "normal": raw(noise),
    "uneven norms": raw(lambda random: noise(random) * spread(random, 0.3)),
    "shared directions": raw(shared_directions),
    "uneven norms along shared directions": raw(lambda random: shared_directions(random) * spread(random, 0.3)),
    "column scales": raw(column_scales),
    "two kinds of norm": raw(norms_only),
    "spectrum": circuit(spectrum_space),
    "subspace": circuit(subspace_space),
}


@pytest.mark.parametrize("make", NOTHING.values(), ids=NOTHING)
def test_heads_without_groups_have_none(make):
    """60 layers: 3 are expected to have p <= 0.05 at most; 9 leave out 1 in 400 (binomial)."""
    found = (groups_of(make(np.random.default_rng([seed, 7])), seed, 39, 39) for seed in range(60))
    assert sum(max(groups.p.values()) <= 0.05 for groups in found) <= 9


def test_a_head_of_larger_norm_along_shared_directions_makes_no_groups():
    """Uneven norms and shared directions at once: by raw weights a third of such layers were beyond every null."""
    found = 0
    for seed in range(60):
        weights = shared_directions(np.random.default_rng([seed, 7]))
        weights[6] *= 4
        found += p_of(raw_space(weights), seed, fewest=39, most=39) <= 0.05
    assert found <= 9  # as above


def test_p_is_no_smaller_than_it_says_with_few_or_many_draws():
    """Besag & Clifford's p of a normal value against normal draws: at most α in a share α of cases, 5,000 of them."""
    random = np.random.default_rng(0)
    for most in (19, 99, 999):
        p = np.array(
            [
                sequential_p(random.normal(), lambda n: {"null": random.normal(size=n)}, 19, most).p["null"]
                for _ in range(5000)
            ]
        )
        for level in (0.05, 0.2, 0.5):
            # Four standard errors of a share.
            assert (p <= level).mean() <= level + 4 * np.sqrt(level * (1 - level) / 5000)


def test_draws_stop_where_p_cannot_be_small():
    drawn = []

    def draw(n):
        drawn.append(n)
        return {"one": np.zeros(n), "other": np.ones(n)}

    found = sequential_p(0.5, draw, 99, 1999)
    assert found == ({"one": 1 / 100, "other": 1.0}, 99)
    assert sequential_p(2.0, draw, 99, 1999) == ({"one": 1 / 2000, "other": 1 / 2000}, 1999)
    assert sum(drawn) == 99 + 1999


# Groups -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [0, 0.15, 0.3])
def test_uneven_norms_hide_no_groups(width):
    """Half a head's variation to each side: found in all of 10 layers of equal norms, and in nearly all of others."""
    found = 0
    for seed in range(10):
        random = np.random.default_rng([seed, 7])
        groups = groups_of(raw_space(two_groups(random, 0.6) * spread(random, width)), seed)
        right = groups.labels.tolist() in EVEN_ODD
        found += right and groups.k == 2 and max(groups.p.values()) <= 0.05
    assert found >= 9


def test_spaces_side_by_side_have_the_groups_that_they_have_alone():
    """Some have groups, some need few draws, and one has fewer heads than groups need."""
    random = np.random.default_rng(5)
    made = [noise(random), two_groups(random, 0.6), one_outlier(random), two_groups(random, 0.8, 7), noise(random, 3)]
    spaces = [raw_space(weights) for weights in made]
    together = find_groups(spaces, 5, 39, 199, [np.random.default_rng(at) for at in range(5)])
    for at, space in enumerate(spaces):
        alone = groups_of(space, at, 39, 199)
        assert (alone is None) == (together[at] is None) == (at == 4)
        if alone is not None:
            assert alone.labels.tolist() == together[at].labels.tolist()
            assert (alone.k, alone.silhouette, alone.p, alone.n_draws) == (
                together[at].k, together[at].silhouette, together[at].p, together[at].n_draws
            )  # fmt: skip
    assert {found.n_draws for found in together[:4]} == {39, 78, 199}  # they stop in different rounds


def test_groups_are_found_behind_an_outlier():
    weights = two_groups(np.random.default_rng(0), 0.8)
    weights[6] *= 4
    found = groups_of(raw_space(weights))
    assert found.labels.tolist() in EVEN_ODD  # head 6 by its direction
    assert (max(found.p.values()), found.k) == (0.01, 2)
    weights[6] = 4 * noise(np.random.default_rng(1), 1)
    assert groups_of(raw_space(weights)).labels[6] == -1


def test_a_head_that_lies_elsewhere_is_set_aside():
    """Eleven heads share most of what they are; one shares nothing with them. Alone it is no group."""
    random = np.random.default_rng(0)
    weights = noise(random) + 3 * noise(random, 1)
    weights[4] = 3 * noise(random, 1)[0]
    found = groups_of(raw_space(weights.astype(np.float32)))
    assert found.labels[4] == -1
    assert found.k == 1


def test_an_outlier_is_no_group():
    found = groups_of(raw_space(one_outlier(np.random.default_rng(0))))
    assert found.k == 1
    assert max(found.p.values()) > 0.05


@pytest.mark.parametrize("n_groups", [2, 3, 4])
@pytest.mark.parametrize("width", [0, 0.3])
def test_as_many_groups_as_were_planted(n_groups, width):
    for seed in range(5):
        random = np.random.default_rng([seed, n_groups])
        weights = (noise(random) + 1.5 * noise(random, n_groups)[np.arange(12) % n_groups]) * spread(random, width)
        found = groups_of(raw_space(weights), seed)
        assert found.k == n_groups
        together = [set(found.labels[group::n_groups].tolist()) for group in range(n_groups)]
        assert all(len(labels) == 1 for labels in together)


def test_groups_of_circuits_are_found_and_no_more_of_them():
    for seed in range(5):
        random = np.random.default_rng([seed, 1])
        sides = []
        for _ in range(2):
            shared = noise(random, 2)[np.arange(12) % 2]
            basis = np.linalg.qr(random.normal(size=(12, 6, 6)))[0]
            sides.append(side_of((basis @ (noise(random) + shared)).astype(np.float32)))
        found = groups_of(subspace_space(*sides, 12), seed)
        assert found.labels.tolist() in EVEN_ODD
        assert found.k == 2


def test_draws_are_parted_as_the_heads_are():
    """Many at once are as one by one, lone heads and all."""
    d = np.stack([unit_distances(raw_space(one_outlier(np.random.default_rng(seed))).gram) for seed in range(30)])
    d[3, 5] += 3
    d[3, :, 5] += 3
    d[3, 5, 5] = 0
    together = part(d)
    assert together.labels[3, 5] == -1
    for problem in range(30):
        alone = part(d[problem][None])
        assert alone.labels[0].tolist() == together.labels[problem].tolist()
        assert alone.silhouette[0] == together.silhouette[problem]
        kept = np.flatnonzero(alone.labels[0] >= 0)
        own = d[problem][np.ix_(kept, kept)][None]
        three = kmeans(own, 3, starts=5).labels
        assert alone.silhouette[0] >= silhouette(own, alone.labels[0][kept][None])[0]
        assert alone.silhouette[0] in (
            silhouette(own, alone.labels[0][kept][None])[0],
            silhouette(own, three)[0],
        )


# Copies -----------------------------------------------------------------------------------------------------


def kinds_of(n_kinds, n_heads=12):
    return noise(np.random.default_rng(n_kinds), n_kinds)[np.arange(n_heads) % n_kinds]


@pytest.mark.parametrize("n_kinds", [1, 2, 3])
def test_copies_of_heads_end_in_finite_numbers(n_kinds):
    """Before, a cluster of copies that lost its last head took it back and lost it again, to the last iteration."""
    weights = PlantedWeights(dict.fromkeys("qkvo", kinds_of(n_kinds)))
    start = time.perf_counter()
    rows = WeightClusters(nulls=19, most_draws=19).rows(weights, weights.geometry)
    assert time.perf_counter() - start < 60  # a few seconds; it was an hour
    for row in rows:
        if row["k"] == 1:
            assert row["n_distinct"] == n_kinds
            assert row["all_equal"] == (n_kinds == 1)
            assert row.get("group_k") == (None if n_kinds == 1 else n_kinds)
        else:
            assert row["k"] <= n_kinds
    if n_kinds > 1:
        best = next(row for row in rows if row["clustering"] == "kmeans" and row["k"] == n_kinds)
        assert best["silhouette"] == pytest.approx(1)


def test_heads_set_aside_do_not_split_copies():
    """They are distinct heads too, and raised the number of groups to search for among the others."""
    heads = kinds_of(3, 15).copy()
    heads[12:] = 10 * noise(np.random.default_rng(7), 3)
    weights = PlantedWeights(dict.fromkeys("qkvo", heads))
    rows = WeightClusters(nulls=19, most_draws=19, methods=("kmeans",)).rows(weights, weights.geometry)
    with_norms = [row for row in rows if row["k"] == 1 and row["feature"] != "subspace"]  # by which heads are set aside
    assert {row["n_distinct"] for row in with_norms} == {6}
    assert {row["group_k"] for row in with_norms} == {3}


def test_lloyd_stops_where_a_refilled_cluster_loses_its_head_again():
    points = np.repeat([[0.0], [1.0]], 6, axis=0)
    squared = np.tile((points - points.T) ** 2, (200, 1, 1))
    start = time.perf_counter()
    assert (kmeans(squared, 5).inertia == 0).all()
    assert time.perf_counter() - start < 10  # a third of a second; with 300 iterations, two minutes
