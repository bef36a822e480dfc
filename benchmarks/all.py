"""Every benchmark, as one table: `python benchmarks/all.py [--quick]`, which `make bench` runs. It takes an hour or more.

Each benchmark has a process of its own, because some count memory or set the number of threads.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import table

BENCHMARKS = (
    "attention", "sweep", "stacking", "clusters", "published", "partitions", "stats", "published_fits",
    "cluster_truth", "onset_coverage", "scorecard_coverage", "prediction", "smooths", "causes_null",
    "loss_alarms", "composition", "large_checkpoint",
)  # fmt: skip


def main() -> None:
    asked = table.parser_of(__doc__).parse_args()
    table.show([], bare=asked.bare)
    quick = ["--quick"] if asked.quick else []
    failed = [name for name in BENCHMARKS if run(name, quick)]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def run(name: str, options: list[str]) -> int:
    script = Path(__file__).with_name(f"{name}.py")
    return subprocess.run([sys.executable, script, "--bare", *options], check=False).returncode


if __name__ == "__main__":
    main()
