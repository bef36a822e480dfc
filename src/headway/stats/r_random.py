"""R's default random sampling, to draw the same random subsamples as R.

R seeds the Mersenne Twister (Matsumoto & Nishimura 1998) by a linear congruential scramble. Since 3.6.0 it draws indices by
rejection on whole bits (see R's help pages ?Random and ?sample).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MULTIPLIER, _WARM_UP, _STATE_SIZE = 69069, 50, 624


def r_sample(n: int, size: int, seed: int) -> NDArray[np.intp]:
    """R's `set.seed(seed); sample.int(n, size)`, counted from 0: a sample without replacement."""
    generator = _mersenne_twister(seed)
    pool = np.arange(n)
    drawn = np.empty(size, dtype=np.intp)
    for i in range(size):
        j = _index_below(n - i, generator)
        drawn[i] = pool[j]
        pool[j] = pool[n - i - 1]
    return drawn


def _mersenne_twister(seed: int) -> np.random.RandomState:
    scrambled = seed
    for _ in range(_WARM_UP):
        scrambled = (_MULTIPLIER * scrambled + 1) % 2**32
    state = np.empty(_STATE_SIZE + 1, dtype=np.uint32)
    for i in range(_STATE_SIZE + 1):
        scrambled = (_MULTIPLIER * scrambled + 1) % 2**32
        state[i] = scrambled
    generator = np.random.RandomState()
    generator.set_state(("MT19937", state[1:], _STATE_SIZE, 0, 0.0))
    return generator


def _index_below(n: int, generator: np.random.RandomState) -> int:
    """Random integer in [0, n): draw as many bits as n needs, 16 at a time, until the number is below n."""
    bits = int(n - 1).bit_length()
    while True:
        value = 0
        for _ in range(0, bits + 1, 16):
            value = value * 65536 + (int(generator.randint(0, 2**32, dtype=np.uint32)) >> 16)
        value &= (1 << bits) - 1
        if value < n:
            return value
