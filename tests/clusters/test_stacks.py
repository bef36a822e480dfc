"""Joined stacks give what each gives alone."""

import numpy as np

from headway.clusters.stacks import _ROOM, at_once


def test_stacks_are_joined_and_parted_again():
    """Of other shapes, with other keys, and more than there is room for; results are in the order of the stacks."""
    random = np.random.default_rng(0)
    shapes = [(3, 2, 2), (5, 7, 7), (1, 2, 2), (_ROOM // 4, 2, 2), (2, 7, 7), (0, 2, 2), (2, 2, 2)]
    stacks = [(random.random(shape), random.random(shape[:1])) for shape in shapes]
    calls = []

    def total(square, shift):
        calls.append(len(square))
        return square.sum(axis=(1, 2)) + shift, shift

    found = at_once(total, iter(stacks), [0, 0, 0, 0, 1, 0, 0])
    assert sorted(calls) == sorted([3 + 1 + _ROOM // 4, 5, 2, 2])
    for (square, shift), (summed, same) in zip(stacks, found, strict=True):
        np.testing.assert_array_equal(summed, square.sum(axis=(1, 2)) + shift)
        np.testing.assert_array_equal(same, shift)
    assert at_once(total, []) == []


def test_a_function_of_one_array():
    assert [one.tolist() for one in at_once(lambda x: -x, ((np.ones(n),) for n in (2, 1)))] == [[-1, -1], [-1]]
