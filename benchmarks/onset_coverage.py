"""How often the interval of onset on size covers the slope that was planted: `python benchmarks/onset_coverage.py`.

Onsets come from four sizes that scatter about a line, and are seen through the steps of the published study.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from headway.studies.development.size_scatter import size_line
from table import Row, main

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "studies"))

SLOPE = -0.5


def rows(quick: bool = False) -> Iterator[Row]:
    from test_size_scatter import planted

    n_sets = 3 if quick else 200
    for size_sd in (0.0, 0.1, 0.2, 0.4):
        for n_seeds in (3, 6, 9):
            sets = (planted(i, n_seeds, slope=SLOPE, size_sd=size_sd) for i in range(n_sets))
            lines = [line for one in sets if (line := size_line(*one)) is not None]
            covered = sum(line.lower <= SLOPE <= line.upper for line in lines) / n_sets
            widths = sorted(line.upper - line.lower for line in lines)
            is_open = sum(width == float("inf") for width in widths)
            yield Row(
                f"95% interval of onset on size: sizes scatter by {size_sd}, {n_seeds} seeds",
                f"{covered:.1%} covered",
                f"{n_sets} sets",
                "at least 95%",
                f"median width {widths[len(widths) // 2]:.2f}, open in {is_open / n_sets:.0%}",
            )


if __name__ == "__main__":
    main(rows, __doc__)
