"""Random groups of the same sizes in the same layers: all of them where they are few."""

from itertools import combinations

import pytest

from headway.errors import UsageError
from headway.interventions import Grouping


def test_groups_that_tell_nothing_apart_are_refused():
    with pytest.raises(UsageError, match="all heads are in one cluster"):
        Grouping("q", "kmeans", {0: (1, 1, 1)})
    with pytest.raises(UsageError, match="at least one layer"):
        Grouping("q", "kmeans", {})


def test_few_groups_are_all_there():
    found = [one.heads(1) for one in Grouping("q", "kmeans", {4: (0, 1, 0, 1, 0)}).shuffled()]
    assert sorted(found) == [tuple((4, head) for head in pair) for pair in combinations(range(5), 2)]


def test_groups_of_several_layers_and_clusters():
    grouping = Grouping("q", "mine", {0: (0, 1, 2), 1: (0, 0, 1)})
    found = grouping.shuffled()
    assert len({tuple(one.labels.values()) for one in found}) == len(found) == 6 * 3
    assert grouping in found


def test_random_groups_are_drawn_with_a_seed_if_there_are_many():
    grouping = Grouping("q", "kmeans", {0: (0, 1) * 8, 1: (1,) + (0,) * 15})
    found = [tuple(one.labels.values()) for one in grouping.shuffled(30, seed=1)]
    assert len(set(found)) == 30
    assert all((sum(first), sum(second)) == (8, 1) for first, second in found)
    assert found == [tuple(one.labels.values()) for one in grouping.shuffled(30, seed=1)]
    assert found != [tuple(one.labels.values()) for one in grouping.shuffled(30, seed=2)]


def test_query_heads_that_share_a_key_head_stay_together():
    grouping = Grouping("k", "kmeans", {0: (0, 1, 0, 0)}, shared_by=2)
    assert grouping.heads(1) == ((0, 2), (0, 3))
    pairs = [((0, 2 * head), (0, 2 * head + 1)) for head in range(4)]
    assert sorted(one.heads(1) for one in grouping.shuffled()) == pairs


def test_partitions_are_equal_whatever_their_clusters_are_called():
    one = Grouping("q", "kmeans", {0: (0, 1, 1, 0)})
    assert one.partition == Grouping("q", "kmeans", {0: (1, 0, 0, 1)}).partition
    assert one.partition != Grouping("q", "kmeans", {0: (0, 1, 0, 1)}).partition
