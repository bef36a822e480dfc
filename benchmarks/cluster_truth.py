"""Is the truth in the headline? `python benchmarks/cluster_truth.py`: planted suites, and suites without anything.

Every suite has one run of ten steps, one layer of twelve heads, and goes through `cluster` and `analyze` with their default
options. Planted ones count if the headline says what was planted; those without anything if it claims no groups and no head
that left the others. The suites are those of `tests/support_clusters.py`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

SEEDS = 3
CLAIMS = ("left the others", "at an earlier step", "Undecidable")


def headline(name: str, spread: float, seed: int) -> list[str]:
    from headway.rundir import RunDirectory
    from headway.studies import weight_clusters
    from support_clusters import truth_suite

    with tempfile.TemporaryDirectory() as place:
        rundir = truth_suite(RunDirectory(Path(place)), name, spread, seed)
        return list(weight_clusters.study(rundir).values["headline"])


def main() -> None:
    from support_clusters import SPREADS, TRUTHS, untold

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--null-suites", type=int, default=200)
    parser.add_argument("--only", default="", help="one kind of planted suites")
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    names = [name for name in TRUTHS if name != "nothing" and asked.only in ("", name)]
    planted = [(name, spread, seed) for name in names for spread in SPREADS for seed in range(SEEDS)]
    nothing = [("nothing", SPREADS[seed % len(SPREADS)], seed) for seed in range(asked.null_suites)]
    told: dict[tuple[str, float], int] = dict.fromkeys(((name, spread) for name, spread, _ in planted), 0)
    claims = 0
    with ProcessPoolExecutor(asked.workers) as pool:
        suites = planted + nothing
        for suite, said in zip(suites, pool.map(headline, *zip(*suites, strict=True)), strict=True):
            name, spread, _ = suite
            missing = untold(name, said)
            wrong = bool(missing) or (name == "nothing" and any(claim in " ".join(said) for claim in CLAIMS))
            if name == "nothing":
                claims += wrong
            else:
                told[name, spread] += not wrong
            if wrong:
                print(suite, *said[:4], sep="\n    ", flush=True)
    print(f"| planted | {' | '.join(f'spread {spread:g}' for spread in SPREADS)} |\n|---|{'---|' * len(SPREADS)}")
    for name in names:
        print(f"| {name} | {' | '.join(f'{told[name, spread]} of {SEEDS}' for spread in SPREADS)} |")
    if nothing:
        print(f"| nothing | any claim in {claims} of {len(nothing)} suites |")


if __name__ == "__main__":
    main()
