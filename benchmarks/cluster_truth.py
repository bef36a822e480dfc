"""Is the truth in the headline? `python benchmarks/cluster_truth.py`: planted suites, and suites without anything.

Every suite has one run of ten steps, one layer of twelve heads, and goes through `cluster` and `analyze` with their default
options. Planted ones count if the headline says what was planted; those without anything if it claims no groups and no head
that left the others. The suites are those of `tests/support_clusters.py`.

With --power: the share of layers with two planted groups whose p is at most 0.05, and at most 0.001, which is what a correction
for some fifty layers and kinds asks.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from table import Row, parser_of, show

SEEDS = 3
DISTANCES, LAYERS = (0.5, 0.7, 1.0, 1.3, 1.6), 40
CLAIMS = ("left the others", "at an earlier step", "Undecidable")


def headline(name: str, spread: float, seed: int) -> list[str]:
    from headway.store.directory import RunDirectory
    from headway.studies import weight_clusters
    from support_clusters import truth_suite

    with tempfile.TemporaryDirectory() as place:
        rundir = truth_suite(RunDirectory(Path(place)), name, spread, seed)
        return [finding.text for finding in weight_clusters.study(rundir).headline]


def p_of_two_groups(distance: float, spread: float, seed: int) -> float:
    """The p of groups of even and odd heads, `distance` of a head's own variation apart."""
    import numpy as np

    from headway.clusters.groups import find_groups
    from headway.clusters.spaces import raw_space
    from support_clusters import two_groups

    random = np.random.default_rng([seed, 7])
    weights = two_groups(random, distance / 2) * np.exp(random.normal(0, spread, (12, 1, 1)))
    (found,) = find_groups([raw_space(weights)], 5, 99, 999, [random])
    return max(found.p.values()) if found else 1.0


def power(workers: int, distances: Sequence[float] = DISTANCES, layers_each: int = LAYERS) -> Iterator[Row]:
    import numpy as np

    from support_clusters import SPREADS

    with ProcessPoolExecutor(workers) as pool:
        for distance in distances:
            for spread in SPREADS:
                layers = [(distance, spread, seed) for seed in range(layers_each)]
                p = np.array(list(pool.map(p_of_two_groups, *zip(*layers, strict=True))))
                work = f"two groups, {distance:g} of a head's own variation apart, norms spread by {spread:g}: p < 0.05"
                yield Row(
                    work,
                    f"{np.mean(p <= 0.05):.0%}",
                    f"{layers_each} layers",
                    "",
                    f"p < 0.001: {np.mean(p <= 0.001):.0%}",
                )


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--null-suites", type=int, default=200)
    parser.add_argument("--only", default="", help="one kind of planted suites")
    parser.add_argument("--power", action="store_true", help="the power by distance and norms instead")
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    found = power(asked.workers) if asked.power else rows(asked.quick, asked.null_suites, asked.only, asked.workers)
    show(found, bare=asked.bare)


def rows(quick: bool = False, null_suites: int = 200, only: str = "", workers: int = 2) -> Iterator[Row]:
    from support_clusters import SPREADS, TRUTHS

    if quick:
        yield from power(1, DISTANCES[-1:], 1)
        return
    names = [name for name in TRUTHS if name != "nothing" and only in ("", name)]
    planted = [(name, spread, seed) for name in names for spread in SPREADS for seed in range(SEEDS)]
    nothing = [("nothing", SPREADS[seed % len(SPREADS)], seed) for seed in range(null_suites)]
    told: dict[tuple[str, float], int] = dict.fromkeys(((name, spread) for name, spread, _ in planted), 0)
    claims = 0
    with ProcessPoolExecutor(workers) as pool:
        suites = planted + nothing
        for (name, spread, _), said in zip(suites, pool.map(headline, *zip(*suites, strict=True)), strict=True):
            if name == "nothing":
                claims += wrong(name, said)
            else:
                told[name, spread] += not wrong(name, said)
    for (name, spread), n in told.items():
        yield Row(f"clusters: {name}, norms spread by {spread:g}", f"{n} told", f"{SEEDS} suites", "all")
    yield Row("clusters: nothing planted, any claim", f"{claims}", f"{len(nothing)} suites", "at most 5%")


def wrong(name: str, said: list[str]) -> bool:
    """Whether the headline lacks what was planted, or claims what was not; it is then shown."""
    from support_clusters import untold

    found = bool(untold(name, said)) or (name == "nothing" and any(claim in " ".join(said) for claim in CLAIMS))
    if found:
        print(name, *said[:4], sep="\n    ", file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    main()
