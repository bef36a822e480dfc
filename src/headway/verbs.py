"""The verbs: what a user asks of headway, from Python or from the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headway.errors import UsageError
from headway.progress import Progress, Silent
from headway.rundir import RunDirectory

if TYPE_CHECKING:
    from headway.studies import Result
    from headway.suites import Suite
    from headway.sweep import Executor, Status, Summary

DEFAULT_SCORES = ("prev", "self", "first", "prev_self_ratio", "prev_all_ratio", "prev_fraction")


def open_suite(suite: str | PathLike[str]) -> Suite:
    """A family of training runs.

    Args:
        suite: a known suite's name (`headway suites` lists them), or a folder `FOLDER/RUN/REVISION/` with files as
            on the Hub.

    Raises:
        SelectionError: neither; the message lists the known ones.
    """
    from headway import suites

    return suites.open_suite(suite)


def measure(
    suite: str | PathLike[str],
    *,
    out: str | PathLike[str],
    corpus: str | None = None,
    where: str = "",
    scores: Sequence[str] = DEFAULT_SCORES,
    loss: bool = False,
    add_bos: bool = False,
    dtype: str = "float32",
    device: str = "auto",
    keep_files: bool = True,
    executor: Executor | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Scores every head of every selected checkpoint on a corpus, into the table `heads` of the run directory `out`.

    What is there already, whole and made from the same things, is kept; a checkpoint that fails is recorded, and the
    others go on.

    Args:
        corpus: `texts.txt` (a text a line), `table.xlsx:Column`, `table.csv:Column`, or `nano`, the built-in one.
        where: which checkpoints, such as `size=14m,70m seed=1..3 step=0,512,last`; all of them if empty.
        scores: names in `headway.tables.SCORES`.
        loss: record the language-model loss, and accuracy on repeated random tokens, too.
        add_bos: put the tokenizer's BOS before each text.
        dtype: of weights and activations; scores are computed in float32 in any case.
        device: cpu, cuda, or auto.
        keep_files: whether weights from the Hub stay in its cache after use.
        executor: where the work is done; in this process if None.
        force: replace what was made from something else.

    Returns:
        How many checkpoints were done and kept, and which failed.

    Raises:
        SelectionError: an unknown suite, size, seed or step.
        CorpusError: a corpus that cannot be read or holds nothing to measure.
        RunDirectoryError: `out` holds something else and `force` is not given.
        StorageError: `out` cannot be written to.
    """
    from headway import sweep
    from headway.corpora import open_corpus
    from headway.measure.job import HeadScores

    opened = open_suite(suite)
    corpus = corpus or opened.corpus
    if corpus is None:
        raise UsageError(
            f"the suite {opened.name!r} comes without texts: name some with --corpus, such as texts.txt or "
            "stories.xlsx:Sentence; `nano` is a built-in one (prose of the Python documentation)"
        )
    job = HeadScores(
        open_corpus(corpus),
        scores=tuple(scores),
        loss=loss,
        add_bos=add_bos,
        dtype=dtype,
        device=device,
        keep_files=keep_files,
    )
    checkpoints = opened.checkpoints(where)
    asked = {"where": where, "device": device}
    return sweep.run(
        job, checkpoints, RunDirectory(out), asked=asked, executor=executor, force=force, progress=progress
    )


def import_heads(
    files: Sequence[str | PathLike[str]], *, out: str | PathLike[str], suite: str = "published", force: bool = False
) -> int:
    """Reads per-head tables as studies publish them into the table `heads` of the run directory `out`.

    Args:
        files: CSV files, plain or gzipped, with the columns that `headway.published` lists.
        suite: what the table's `suite` shall say.

    Returns:
        How many rows were read.

    Raises:
        UsageError: a file lacks a column or holds something else than it should.
        RunDirectoryError: `out` holds another heads table and `force` is not given.
        StorageError: `out` cannot be written to.
    """
    from headway.published import read_published
    from headway.sweep import store

    paths = [Path(file) for file in ([files] if isinstance(files, str | PathLike) else files)]
    frame = read_published(paths, suite=suite)
    store(frame, "heads", RunDirectory(out), identity=_identity_of_files(suite, paths), force=force)
    return frame.height


def _identity_of_files(suite: str, paths: Sequence[Path]) -> dict[str, Any]:
    import hashlib

    sources = [{"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()} for path in paths]
    return {"suite": suite, "imported": sources}


def analyze(
    directory: str | PathLike[str],
    *,
    studies: Sequence[str] = (),
    score: str = "prev_self_ratio",
    bootstraps: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Mapping[str, Result]:
    """Runs the studies for which `directory` has tables, and writes their results to `DIR/analysis/`.

    Args:
        studies: their names; all that have something to study if empty.
        score: the score that `previous_token` studies.
        bootstraps: resamples for intervals and tests; 0 leaves them out.
        seed: of the random numbers.

    Returns:
        The results by study.

    Raises:
        RunDirectoryError: it is not a run directory, or has no table for a study that was asked for.
        UsageError: an unknown study.
    """
    from headway.studies import STUDIES, TABLES

    rundir = RunDirectory(directory).require()
    unknown = [name for name in studies if name not in STUDIES]
    if unknown:
        raise UsageError(f"there is no study {unknown[0]!r}; there are {', '.join(STUDIES)}")
    there = set(rundir.tables())
    chosen = list(studies) or [name for name in STUDIES if TABLES[name] & there]
    if not chosen:
        rundir.read("heads")  # raises the error that says what to do
    results = {}
    for name in chosen:
        options: dict[str, Any] = {"score": score} if name == "previous_token" else {}
        result = STUDIES[name](rundir, bootstraps=bootstraps, seed=seed, progress=progress or Silent(), **options)
        result.save(rundir)
        results[name] = result
    return results


def report(
    directory: str | PathLike[str], *, format: str = "html", figures: bool = True, progress: Progress | None = None
) -> Path:
    """Writes the report of what was analysed: `DIR/report.html` (one file that opens offline) or `DIR/report.md`.

    Args:
        format: html or md.
        figures: whether each figure is written to `DIR/figures/` as SVG and PNG, too.

    Raises:
        RunDirectoryError: it is not a run directory, or nothing in it was analysed.
    """
    from headway.report import write

    return write(RunDirectory(directory).require(), format=format, progress=progress or Silent())


def status(directory: str | PathLike[str], *, verify: bool = False) -> list[Status]:
    """How far the sweeps into `directory` are, from its files alone.

    Args:
        verify: read every part, and find those that are damaged.

    Raises:
        RunDirectoryError: it is not a run directory.
    """
    from headway import sweep

    return sweep.status(RunDirectory(directory), verify=verify)
