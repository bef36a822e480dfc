"""What all benchmarks share: the rows of one table, and the machine that they were measured on."""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass, fields
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        work: what was done.
        measured: the number, with its unit; a ratio has none.
        against: what a ratio divides by, or what else the number is compared with.
        aim: the number to reach.
        note: the numbers behind a ratio, or why there is none.
    """

    work: str
    measured: str
    against: str = ""
    aim: str = ""
    note: str = ""


HEADING = "| " + " | ".join(field.name for field in fields(Row)) + " |\n" + "|---" * len(fields(Row)) + "|"


def machine() -> str:
    """The processor, its cores, the memory, and the versions that decide how fast things are."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "polars", "torch", "transformers"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{names[0] if names else platform.machine()}, {cores} cores, {memory:.0f} GiB, load {os.getloadavg()[0]:.1f}; "
        f"Python {platform.python_version()}, {packages}"
    )


def show(rows: Iterable[Row], *, bare: bool = False) -> None:
    """Print the table, a line as soon as it is measured; `bare` leaves out the machine and the heading."""
    if not bare:
        print(f"{machine()}\n\n{HEADING}", flush=True)
    for row in rows:
        print(f"| {' | '.join(astuple(row))} |", flush=True)


ABSENT = "left out: the published tables are absent (HEADWAY_REFERENCE names their folder)"


def reference(name: str) -> Path | None:
    """A file of the published tables; None where they are absent."""
    folder = Path(os.environ.get("HEADWAY_REFERENCE", Path(__file__).parents[2] / "shared" / "reference"))
    return folder / name if (folder / name).is_file() else None


def main(rows: Callable[[bool], Iterator[Row]], about: str | None) -> None:
    """The command line of a benchmark without other options."""
    parser = parser_of(about)
    asked = parser.parse_args()
    show(rows(asked.quick), bare=asked.bare)


def parser_of(about: str | None) -> argparse.ArgumentParser:
    """The options of every benchmark: --quick and --bare."""
    parser = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small part, which shows that it runs; no number counts")
    parser.add_argument("--bare", action="store_true", help="print the rows only")
    return parser


def seconds(work: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
