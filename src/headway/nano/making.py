"""Training a nano suite once, in worker processes, and finding it again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue

from headway import options
from headway.devices import choose_device, cores
from headway.errors import HeadwayError, StorageError
from headway.nano.forks import forked
from headway.nano.laboratory import announced, cost, laboratory, planned_runs
from headway.nano.location import cache_folder, is_prepared, missing_runs, prepare
from headway.nano.recipe import Recipe, preset
from headway.progress import Progress, Silent
from headway.store.directory import require_folder
from headway.text import count, listed

# Each worker loads PyTorch, which takes half a gigabyte.
MOST_WORKERS = 16
# On a CPU, arithmetic takes most of a step: runs together save nothing, and apart they keep all workers busy to the end.
# A GPU has room for all runs of a size.
MOST_TOGETHER = {"cpu": 1, "cuda": 64}
_WORKER_SETTINGS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def place(name: str) -> Path:
    """The folder of the preset `name` in the user's cache, whether it is there or not.

    Raises:
        SelectionError: no preset of that name.
    """
    return _cached(name, preset(name))


def _cached(name: str, recipe: Recipe) -> Path:
    """The folder in the cache is named after recipe, text and code: another Python has other documentation to train on."""
    return cache_folder() / f"{name}-{recipe.key()}"


def folder(name: str = "quick", progress: Progress | None = None, runs: Collection[str] | None = None) -> Path:
    """The folder of the preset `name` in the user's cache. What is missing of its `runs` is trained first; None: of all.

    Raises: as `train`.
    """
    recipe = preset(name)
    return _complete(_cached(name, recipe), recipe, progress=progress or Silent(), wanted=runs)


@options.documented(options.NANO_TRAIN)
def train(
    recipe: str | Recipe,
    out: str | os.PathLike[str] | None = options.SUITE_FOLDER.default,
    vary: Sequence[str] = options.VARY.default,
    seeds: int | None = options.N_SEEDS.default,
    sizes: Sequence[str] = options.SIZES.default,
    start: str | None = options.START.default,
    keep_optimizer: bool = options.KEEP_OPTIMIZER.default,
    device: str = options.TRAINING_DEVICE.default,
    workers: int | None = options.RUNS_AT_ONCE.default,
    progress: Progress | None = None,
) -> Path:
    """Trains what is missing of a nano suite, and says where it lies: a folder suite, RUN/stepN/.

    A run is there whole or not at all, so that training that was stopped goes on with the runs that are missing. Two
    trainings of one suite wait for each other. Each worker trains one run after another, on one thread; on a GPU, up to
    64 runs of a size together.

    A laboratory, whose runs differ in the factors of `vary`, has a run for each combination of levels, sizes and seeds.
    A fork takes its recipe from the run that it starts from, so that `recipe` then counts for nothing. Its data are those
    of the run from that step on, but for what `vary` changes. If the optimizer's moments were kept at that checkpoint, a
    fork that changes nothing gives the weights of the run, up to rounding. Otherwise AdamW starts without moments.

    Args:
        recipe: `quick` or `standard`, or a recipe of your own.
        {options}

    Raises:
        SelectionError: no preset, size, run or step of that name.
        UsageError: a factor or level is unknown; `out` is empty, a file or holds something else; or the device is not
            there.
        StorageError: the folder cannot be written to.
        HeadwayError: a worker failed, with the last thing it said.
    """
    if out is not None:
        require_folder(out)
    name, recipe = (recipe, preset(recipe)) if isinstance(recipe, str) else ("own", recipe)
    content = None
    if start is not None:
        name, (recipe, content) = "fork", forked(start)
    recipe = laboratory(recipe, vary, seeds, sizes)
    return _complete(
        _cached(name, recipe) if out is None else Path(out),
        recipe,
        content,
        device=device,
        workers=workers,
        keep_optimizer=keep_optimizer,
        progress=progress or Silent(),
    )


def _complete(
    place: Path,
    recipe: Recipe,
    start: bytes | None = None,
    *,
    progress: Progress,
    wanted: Collection[str] | None = None,
    device: str = options.TRAINING_DEVICE.default,
    workers: int | None = options.RUNS_AT_ONCE.default,
    keep_optimizer: bool = options.KEEP_OPTIMIZER.default,
) -> Path:
    """`place`, once the `wanted` runs of `recipe` are there; None: all."""
    from filelock import FileLock

    device = choose_device(device)
    wanted = planned_runs(recipe) if wanted is None else wanted
    try:
        if is_prepared(place, recipe) and not set(wanted) & set(missing_runs(place, recipe)):
            return place  # without waiting for another process, which may train other runs for hours
        place.mkdir(parents=True, exist_ok=True)
        with FileLock(place / ".lock"):
            prepare(place, recipe, start)
            for left_behind in place.glob(".nano-*"):
                shutil.rmtree(left_behind, ignore_errors=True)
            runs = [run for run in missing_runs(place, recipe) if run in wanted]
            if runs:
                workers = workers or processes(len(runs))
                if recipe.vary:
                    progress.say(announced(recipe, runs, workers))
                per_run = recipe.steps[-1] - recipe.first_step
                what, there = f"training {count(len(runs), 'nano model')}", len(wanted) - len(runs)
                progress.start(what, per_run * len(wanted), done=per_run * there)
                _train(place, recipe, runs, device, workers, progress, keep_optimizer)
    except OSError as error:
        raise StorageError(
            f"the nano suite cannot be written to {place}: {error.strerror or error}; make room, or set HEADWAY_CACHE "
            "to another folder"
        ) from error
    return place


def processes(n_runs: int) -> int:
    """How many processes train so many runs: one for each core, or for each run if a second round would leave cores idle.

    Processes that share cores take longer, but all of them end at once.
    """
    most = min(cores(), MOST_WORKERS)
    return n_runs if n_runs < 2 * most and n_runs <= MOST_WORKERS else most


def _train(
    place: Path,
    recipe: Recipe,
    runs: list[str],
    device: str,
    n_workers: int,
    progress: Progress,
    keep_optimizer: bool = False,
) -> None:
    todo: SimpleQueue[list[str]] = SimpleQueue()
    stacks = _stacks(recipe, runs, n_workers, MOST_TOGETHER[device.partition(":")[0]])
    for stack in stacks:
        todo.put(stack)
    n_workers = min(n_workers, len(stacks))
    steps: SimpleQueue[int] = SimpleQueue()
    workers = [_Worker(place, device, keep_optimizer) for _ in range(n_workers)]

    def serve(worker: _Worker) -> None:
        while True:
            try:
                stack = todo.get_nowait()
            except Empty:
                return
            for step in worker.train(stack):
                steps.put(step)

    with ThreadPoolExecutor(n_workers) as pool:
        try:
            serving = {pool.submit(serve, worker) for worker in workers}
            while serving:
                done, serving = wait(serving, timeout=0.2, return_when=FIRST_EXCEPTION)
                progress.advance(sum(_drain(steps)))
                for future in done:
                    future.result()
        finally:
            for worker in workers:
                worker.close()


def _stacks(recipe: Recipe, runs: list[str], n_workers: int, most: int) -> list[list[str]]:
    """Runs to train together: of one size and recipe, at most `most`, and few enough that every worker has some of each.

    The costliest come first: then no worker starts a long training when the others are about to end.
    """
    alike: dict[Recipe, list[str]] = {}
    planned = planned_runs(recipe)
    for run in runs:
        alike.setdefault(replace(planned[run].recipe, seeds=()), []).append(run)
    stacks = []
    for same in alike.values():
        together = min(most, -(-len(same) // n_workers))
        stacks += [same[start : start + together] for start in range(0, len(same), together)]
    return sorted(stacks, key=lambda stack: -sum(cost(planned[run]) for run in stack))


def _drain(queue: SimpleQueue[int]) -> Iterator[int]:
    while not queue.empty():
        yield queue.get()


class _Worker:
    """A process that trains one stack of runs after another."""

    def __init__(self, place: Path, device: str, keep_optimizer: bool) -> None:
        self._said = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - close() closes it
        self._process = subprocess.Popen(
            [sys.executable, "-m", "headway.nano.worker", str(place), device, str(keep_optimizer)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env=os.environ | _WORKER_SETTINGS,
        )

    def train(self, runs: list[str]) -> Iterator[int]:
        """For each step that is done, the number of runs that have done it.

        Raises:
            HeadwayError: the process ended before the runs were whole.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(*runs, file=self._process.stdin, flush=True)
            for line in self._process.stdout:
                if line == "done\n":
                    return
                if line == "step\n":
                    yield len(runs)
        except (BrokenPipeError, ValueError):  # it died, or was closed
            pass
        raise HeadwayError(
            f"training {listed(runs)} of the nano suite failed: {self._last_words()}. Runs that were finished are kept; "
            "start again to train the others"
        )

    def _last_words(self) -> str:
        code = self._process.wait()
        self._said.seek(0)
        lines = self._said.read().strip().splitlines()
        return lines[-1] if lines else f"its process ended with status {code}"

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._said.close()
