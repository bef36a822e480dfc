"""A job with numbers that are known beforehand, and that can be told to be slow, to fail or to die."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import polars as pl
import torch
from safetensors.numpy import load_file

from headway.errors import CheckpointError
from headway.store.directory import RunDirectory
from headway.suites import Checkpoint, FolderSource, files
from headway.sweep.run import claim


class Read(NamedTuple):
    identities: dict[str, str]


def grid(runs: int = 2, steps: int = 5) -> list[Checkpoint]:
    return [
        Checkpoint(
            suite="toy",
            run=f"toy-1m-seed{seed}",
            model="toy-1m",
            size="1m",
            seed=str(seed),
            step=10 * i,
            revision=f"step{10 * i}",
            source=FolderSource(Path(__file__).parent),
        )
        for seed in range(1, runs + 1)
        for i in range(steps)
    ]


@dataclass
class Squares:
    """One row per head: (10 seed + step)^2. `faults` maps a checkpoint's key to what shall happen to it."""

    table: str = "heads"
    factor: int = 1
    seconds: float = 0.0
    faults: dict[str, str] = field(default_factory=dict)
    marks: str = ""

    needs = frozenset({"weights"})

    def identity(self) -> dict[str, Any]:
        return {"factor": self.factor}

    @contextmanager
    def read(self, checkpoint: Checkpoint) -> Iterator[Read]:
        if self.faults.get(checkpoint.key) == "missing":
            raise CheckpointError(f"{checkpoint.key}: no such revision")
        yield Read({checkpoint.key: f"weights of {checkpoint.key}"})

    def compute(self, checkpoint: Checkpoint, input: Read) -> pl.DataFrame:
        time.sleep(self.seconds)
        fault = self.faults.get(checkpoint.key)
        if fault == "bug":
            raise ZeroDivisionError("a defect")
        if fault == "taken":
            claim("heads", {"factor": 2}, [checkpoint.key], RunDirectory(self.marks), {}, force=True, computes=True)
        if fault == "dies always" or (fault == "dies once" and self.first_time(checkpoint)):
            os.kill(os.getpid(), signal.SIGKILL)
        value = self.factor * (10 * int(checkpoint.seed) + checkpoint.step) ** 2
        return pl.DataFrame(
            {"run": [checkpoint.run] * 3, "step": [checkpoint.step] * 3, "head": [0, 1, 2], "x": [float(value)] * 3}
        )

    def first_time(self, checkpoint: Checkpoint) -> bool:
        mark = Path(self.marks) / checkpoint.key
        seen = mark.exists()
        mark.touch()
        return not seen


@dataclass
class Contents:
    """One row: what the checkpoint's files hold, as `suites.files` brings them."""

    table: str = "heads"

    needs = frozenset({"config", "weights", "tokenizer"})

    def identity(self) -> dict[str, Any]:
        return {}

    @contextmanager
    def read(self, checkpoint: Checkpoint) -> Iterator[SimpleNamespace]:
        with files(checkpoint, self.needs) as found:
            paths = [found.folder / "config.json", found.tokenizer_folder / "tokenizer.json"]
            read = {path.name: path.read_text() for path in paths}
            weights = load_file(found.folder / "model.safetensors")["a"]
            yield SimpleNamespace(read=read | {"first": weights[0, 0]}, identities={checkpoint.key: found.identity})

    def compute(self, checkpoint: Checkpoint, input: SimpleNamespace) -> pl.DataFrame:
        return pl.DataFrame({"run": checkpoint.run, "step": checkpoint.step} | input.read)


@dataclass
class Allotted(Squares):
    """One row: what the worker was given of the machine."""

    def compute(self, checkpoint: Checkpoint, input: Read) -> pl.DataFrame:
        time.sleep(self.seconds)  # long enough for the other worker to take its share
        names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
        return pl.DataFrame({name: [os.environ.get(name)] for name in names})


@dataclass
class Threads(Squares):
    """Notes which thread reads and which computes, and on how many cores its parallel loops would run."""

    read_by: list[tuple[int, int]] = field(default_factory=list)
    computed: list[tuple[int, int]] = field(default_factory=list)

    @contextmanager
    def read(self, checkpoint: Checkpoint) -> Iterator[Read]:
        self.read_by.append((threading.get_ident(), torch.get_num_threads()))
        with super().read(checkpoint) as read:
            yield read

    def compute(self, checkpoint: Checkpoint, input: Read) -> pl.DataFrame:
        self.computed.append((threading.get_ident(), torch.get_num_threads()))
        return super().compute(checkpoint, input)


def expected(checkpoints: list[Checkpoint], factor: int = 1) -> dict[tuple[str, int], float]:
    return {(c.run, c.step): float(factor * (10 * int(c.seed) + c.step) ** 2) for c in checkpoints}


def found(frame: pl.DataFrame) -> dict[tuple[str, int], float]:
    assert frame.height == 3 * frame.select("run", "step").n_unique()
    return {(run, step): x for run, step, x in frame.select("run", "step", "x").unique().iter_rows()}


def measure_command(*words: object) -> None:
    """`headway measure` with these words, silent."""
    from headway.cli import main

    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    sys.argv = ["headway", "measure", *map(str, words)]
    main()
