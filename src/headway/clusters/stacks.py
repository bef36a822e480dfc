"""Apply one function to the problems of many layers, kinds and nulls at once.

Squared distances of a dozen heads are 144 numbers, for which the calls of NumPy take longer than the arithmetic. A problem's
result does not depend on the problems beside it, so stacks of problems are joined where they have equally many heads.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from itertools import repeat
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Stack = tuple[NDArray[Any], ...]
Found = TypeVar("Found", bound=NDArray[Any] | tuple[NDArray[Any], ...])

_ROOM = 400_000  # elements of the first arrays that are joined: more leave a processor's cache, and take memory


def at_once(
    function: Callable[..., Found], stacks: Iterable[Stack], keys: Iterable[Hashable] = repeat(None)
) -> list[Found]:
    """`function(*stack)` for every stack, in their order.

    Args:
        function: takes arrays whose first axis is a problem, and returns an array or a tuple of arrays with that axis.
        stacks: arrays that belong together, of equal length. They are taken one by one, so a generator that makes them
            saves memory.
        keys: stacks are joined only if their keys are equal.
    """
    found: dict[int, Found] = {}
    waiting: dict[Hashable, list[tuple[int, Stack]]] = {}

    def run(those: list[tuple[int, Stack]]) -> None:
        places, parts = zip(*those, strict=True)
        joined = parts[0] if len(parts) == 1 else (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        edges = np.cumsum([len(part[0]) for part in parts])[:-1]
        found.update(zip(places, _split(function(*joined), edges), strict=True))

    for place, (stack, key) in enumerate(zip(stacks, keys, strict=False)):
        alike = (key, stack[0].shape[1:])
        waiting.setdefault(alike, []).append((place, stack))
        if sum(one[0].size for _, one in waiting[alike]) >= _ROOM:
            run(waiting.pop(alike))
    for those in waiting.values():
        run(those)
    return [found[place] for place in sorted(found)]


def _split(found: Any, edges: NDArray[np.int64]) -> list[Any]:
    if isinstance(found, tuple):
        return list(zip(*(np.split(array, edges) for array in found), strict=True))
    return np.split(found, edges)
