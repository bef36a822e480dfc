"""The verbs: what a user asks of headway, from Python or from the command line."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headway.attention import DEFAULT_SCORES
from headway.errors import CheckpointError, UsageError
from headway.progress import Progress, Silent
from headway.store.directory import RunDirectory, require_folder
from headway.text import count, unicode_name

if TYPE_CHECKING:
    from headway.corpora import Corpus
    from headway.integrity.audit import Audit
    from headway.interventions.groups import Grouping
    from headway.interventions.selection import Choice
    from headway.studies import Result
    from headway.suites import Checkpoint, Suite
    from headway.sweep import Executor, Status, Summary


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
        corpus: `texts.txt` (a text a line), `table.csv:Column`, `book.xlsx:Column` (every sheet that has the column),
            `book.xlsx[A,B]:Column`, or `nano`, the built-in one.
        where: which checkpoints, such as `size=14m,70m seed=1..3 step=0,512,last`; all of them if empty.
        scores: names in `headway.tables.SCORES`.
        loss: record the language-model loss, and accuracy on repeated random tokens, too.
        add_bos: put the tokenizer's BOS before each text.
        dtype: of weights and activations; scores are computed in float32 in any case.
        device: cpu, cuda, or auto.
        keep_files: whether weights from the Hub stay in its cache after use.
        executor: where the work is done; in this process if None.
        force: overwrite results that were computed with other settings, or other versions of headway, torch or
            transformers.

    Returns:
        How many checkpoints were done and kept, and which failed.

    Raises:
        SelectionError: an unknown suite, size, seed or step.
        CorpusError: a corpus that cannot be read or holds nothing to measure, as the first checkpoint's tokenizer reads
            it.
        UsageError: `out` is empty or a file, or another word is none of those that can be asked for.
        RunDirectoryError: `out` holds something else and `force` is not given.
        StorageError: `out` cannot be written to.
    """
    from headway import sweep
    from headway.attention.job import HeadScores
    from headway.corpora import open_corpus

    require_folder(out)
    _require_runnable(dtype, device, executor)
    opened = open_suite(suite)
    corpus = corpus or opened.corpus
    if corpus is None:
        raise UsageError(
            f"the suite {opened.name!r} comes without texts: name some with --corpus, such as texts.txt or "
            "stories.xlsx:Sentence; `nano` is a built-in one (prose of the Python documentation)"
        )
    progress = progress or Silent()
    texts = open_corpus(corpus)
    progress.say(texts.describe())
    job = HeadScores(
        texts,
        scores=tuple(scores),
        loss=loss,
        add_bos=add_bos,
        dtype=dtype,
        device=device,
        keep_files=keep_files,
    )
    checkpoints = opened.checkpoints(where)
    _warn_of_flagged(checkpoints)
    rundir = RunDirectory(out)
    if checkpoints and not sweep.begun(job, checkpoints, rundir):  # what goes on was looked at when it began
        job.require_measurable(checkpoints[0])
    asked = _asked(suite, where, device=device, executor=executor, corpus=corpus) | _sheets(texts)
    return sweep.run(job, checkpoints, rundir, asked=asked, executor=executor, force=force, progress=progress)


def _asked(
    suite: str | PathLike[str],
    where: str,
    *,
    executor: Executor | None,
    device: str | None = None,
    corpus: str | None = None,
) -> dict[str, Any]:
    """What the manifest shall say of how a table was made that does not decide its numbers. Workers choose devices of
    their own.
    """
    from headway.corpora import BUILT_IN
    from headway.models import choose_device

    asked = {"suite": str(suite), "where": where}
    if corpus is not None:
        asked["corpus"] = corpus if corpus in BUILT_IN else os.path.abspath(os.path.expanduser(corpus))
    if device is not None:
        asked["device"] = choose_device(device) if executor is None else device
    return asked


def _sheets(corpus: Corpus) -> dict[str, dict[str, int]]:
    """How many texts came from which sheet of a workbook."""
    return {"sheets": dict(corpus.sheets)} if corpus.sheets else {}


def _require_runnable(dtype: str, device: str, executor: Executor | None) -> None:
    """A mistyped word ends the command before anything is fetched or replaced. Workers have devices of their own."""
    from headway.models import choose_device, torch_dtype

    torch_dtype(dtype)
    if executor is None:
        choose_device(device)


def cluster(
    suite: str | PathLike[str],
    *,
    out: str | PathLike[str],
    where: str = "",
    layout: str = "true",
    features: Sequence[str] = ("raw", "circuit"),
    methods: Sequence[str] = ("kmeans", "ward"),
    ks: Sequence[int] = (2, 3, 4, 5),
    layers: Sequence[int] | None = None,
    labels: Sequence[str] = (),
    nulls: int = 99,
    most_draws: int = 1999,
    keep_files: bool = True,
    executor: Executor | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Clusters the heads of every layer by their weights, with controls, into the table `clusters` of `out`.

    Args:
        layout: `published` reads GPT-NeoX's fused weight as the published study did, which mixes heads and kinds.
        features: `raw` (a head's flattened matrix), `circuit` (what does not depend on the basis inside a head).
        methods: `kmeans`, `ward`.
        ks: numbers of clusters.
        layers: counted from 0; all if None.
        labels: clusters of the user's own: `even_odd`, or files with columns `head` and `label`.
        nulls: draws of each null; 0 leaves nulls out.
        most_draws: draws up to which the p of groups is refined, where few draws reach what was observed.

    The others, and what is raised, are as in `measure`.
    """
    from headway import sweep
    from headway.clusters import WeightClusters, open_labels, predecessors

    require_folder(out)
    checkpoints = open_suite(suite).checkpoints(where)
    _warn_of_flagged(checkpoints)
    job = WeightClusters(
        layout=layout,
        features=tuple(features),
        methods=tuple(methods),
        ks=tuple(ks),
        nulls=nulls,
        most_draws=most_draws,
        layers=None if layers is None else tuple(layers),
        labels=tuple(map(open_labels, labels)),
        previous=predecessors(checkpoints),
        keep_files=keep_files,
    )
    asked = _asked(suite, where, executor=executor)
    return sweep.run(
        job, checkpoints, RunDirectory(out), asked=asked, executor=executor, force=force, progress=progress
    )


def intervene(
    suite: str | PathLike[str],
    *,
    out: str | PathLike[str],
    where: str = "step=last",
    corpus: str | None = None,
    prompts: str | None = None,
    kinds: Sequence[str] = ("q", "k", "v"),
    clustering: str = "kmeans",
    k: int = 2,
    layers: Sequence[int] | None = None,
    together: bool = False,
    n_texts: int = 16,
    controls: int = 200,
    dtype: str = "float32",
    device: str = "auto",
    keep_files: bool = True,
    executor: Executor | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> list[Summary]:
    """Takes away and swaps the clusters that `cluster` found in `out`, and asks each cluster alone to answer prompts;
    beside each effect stands that of random groups of heads. Tables `interventions` and `prompts`.

    The clusters of the selected step are tried on each run's first step, too: an effect that is there at
    initialisation was not learned. A run without such clusters is recorded as failed, and the others go on; once it has
    some, or others, its effects alone are computed anew.

    Args:
        corpus: whose first `n_texts` texts the model reads; as in `measure`.
        prompts: a file of prompts, one a line, `TASK<tab>PROMPT`; built-in ones if None.
        kinds: the weights whose clusters are used.
        clustering: `kmeans`, `ward`, or the name of labels given to `cluster`.
        k: how many clusters k-means or Ward's method made; labels that were given are as many as they are.
        layers: counted from 0; all if None.
        together: change all the layers at once, instead of one after another. Clusters that were found are joined
            across layers by size: the smallest of each layer, the next, and so on; labels that were given, by label.
        controls: random groups beside each effect; all where there are fewer.

    Returns:
        What the two sweeps came to. The others, and what is raised, are as in `measure`.
    """
    from headway import sweep
    from headway.clusters.partitions import METHODS
    from headway.corpora import open_corpus
    from headway.interventions.job import ClusterEffects
    from headway.interventions.prompts import PROMPTS, PromptAnswers, prompts_of, read_prompts
    from headway.interventions.selection import Choice

    require_folder(out)
    _require_runnable(dtype, device, executor)
    opened, rundir = open_suite(suite), RunDirectory(out)
    selected = opened.checkpoints(where)
    if len({checkpoint.run for checkpoint in selected}) < len(selected):
        raise UsageError("interventions take one step of each run, whose clusters they use: select it, as step=last")
    choice = Choice(kinds, clustering, k if clustering in METHODS else None, layers, together)
    groupings, lacking = _groupings(rundir, selected, choice)
    first = [checkpoint for checkpoint in opened.checkpoints(_at_first_step(where)) if checkpoint.run in groupings]
    checkpoints = list(dict.fromkeys([*first, *selected]))
    corpus = corpus or opened.corpus or "nano"
    texts = open_corpus(corpus)
    own = opened.corpus is not None and prompts is None
    asked_prompts = read_prompts(prompts) if prompts else prompts_of(texts) if own else PROMPTS
    options: dict[str, Any] = {
        "lacking": lacking,
        "choice": choice.identity() | _clusters_in_common(rundir, where, choice),
        "controls": controls,
        "dtype": dtype,
        "device": device,
        "keep_files": keep_files,
    }
    jobs: list[sweep.Job] = [
        ClusterEffects(texts, groupings, n_texts=n_texts, **options),
        PromptAnswers(asked_prompts, groupings, **options),
    ]
    asked = _asked(suite, where, device=device, executor=executor, corpus=corpus) | _sheets(texts)
    summaries = [
        sweep.run(job, checkpoints, rundir, asked=asked, executor=executor, force=force, progress=progress)
        for job in jobs
    ]
    _warn_of_left_out(rundir)
    return summaries


def _warn_of_left_out(rundir: RunDirectory) -> None:
    """Says which prompts a model could not read."""
    import warnings

    if "prompts" in rundir.tables():
        left_out = rundir.read("prompts")["left_out"].explode().drop_nulls().unique(maintain_order=True)
        for why in left_out:
            warnings.warn(f"left out: {why}", stacklevel=3)


def _at_first_step(where: str) -> str:
    """`where` with the first step in place of its own."""
    from headway.suites.where import parse_where

    kept = (f"{axis}={','.join(items)}" for axis, items in parse_where(where).items.items() if axis != "step")
    return " ".join([*kept, "step=first"])


def _clusters_in_common(rundir: RunDirectory, where: str, choice: Choice) -> dict[str, Any]:
    """What decides the labels of every run: of which step they are, and how the heads were clustered."""
    from headway.suites.where import parse_where

    made = rundir.manifest().get("tables", {}).get("clusters", {}).get("identity", {})
    labels = [given for given in made.get("labels", ()) if given["name"] == choice.clustering]
    how = {name: made.get(name) for name in ("seed", "definitions")}
    return {"steps": list(parse_where(where).items.get("step", ())), "clusters": how | {"labels": labels}}


def _groupings(
    rundir: RunDirectory, selected: Sequence[Checkpoint], choice: Choice
) -> tuple[dict[str, list[Grouping]], dict[str, str]]:
    """For each run, the clusters that were found at its step; and why other runs have none.

    Raises:
        UsageError: no run has any.
    """
    import warnings

    if "clusters" not in rundir.tables():
        raise UsageError(
            f"{rundir.path} holds no clusters of heads: run `headway cluster` into the same directory first"
        )
    table, failures = rundir.read("clusters"), rundir.failures("clusters")
    found: dict[str, list[Grouping]] = {}
    lacking: dict[str, str] = {}
    for checkpoint in selected:
        try:
            found[checkpoint.run], left_out = choice.of(table, checkpoint.run, checkpoint.step)
        except UsageError as error:
            failed = failures.get(checkpoint.key)
            lacking[checkpoint.run] = f"{error} ({failed['error']})" if failed else str(error)
            continue
        if left_out:
            more = f", and {len(left_out) - 1} more" if len(left_out) > 1 else ""
            warnings.warn(f"{checkpoint.key} is intervened on without {left_out[0]}{more}", stacklevel=3)
    if not found:
        raise UsageError(f"{rundir.path}: {next(iter(lacking.values()))}")
    return found, lacking


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
        UsageError: a file lacks a column or holds something else than it should; or `out` is empty or a file.
        RunDirectoryError: `out` holds another heads table and `force` is not given.
        StorageError: `out` cannot be written to.
    """
    from headway.published import read_published, require_files
    from headway.sweep import store, stored_rows

    require_folder(out)
    paths = require_files([files] if isinstance(files, str | PathLike) else files)
    rundir, identity = RunDirectory(out), _identity_of_files(suite, paths)
    if (rows := stored_rows("heads", rundir, identity)) is not None:
        return rows
    frame = read_published(paths, suite=suite)
    store(frame, "heads", rundir, identity=identity, force=force)
    return frame.height


def _identity_of_files(suite: str, paths: Sequence[Path]) -> dict[str, Any]:
    import hashlib

    sources = [{"name": unicode_name(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()} for path in paths]
    return {"suite": suite, "imported": sources}


def analyze(
    directory: str | PathLike[str],
    *,
    studies: Sequence[str] = (),
    scores: Sequence[str] = ("prev_self_ratio",),
    bootstraps: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Mapping[str, Result]:
    """Runs the studies for which `directory` has tables, and writes their results to `DIR/analysis/STUDY/`.

    Args:
        studies: their names; all that have something to study if empty.
        scores: the scores that `development` studies, each by itself; their results stand side by side.
        bootstraps: resamples for intervals and tests; 0 leaves them out.
        seed: of the random numbers.

    Returns:
        The results of this call by STUDY/SUBJECT, such as `development/prev_self_ratio`.

    Raises:
        RunDirectoryError: it is not a run directory, or has no table for a study that was asked for.
        StatisticsError: the heads table lacks a score, or holds no finite number of it.
        UsageError: an unknown study or score, or no score.
    """
    from dataclasses import replace

    from headway.studies import STUDIES, TABLES

    rundir = RunDirectory(directory).require()
    unknown = [name for name in studies if name not in STUDIES]
    if unknown:
        raise UsageError(f"there is no study {unknown[0]!r}; there are {', '.join(STUDIES)}")
    _require_scores(scores)
    there = set(rundir.tables())
    chosen = list(studies) or [name for name in STUDIES if TABLES[name] & there]
    if not chosen:
        rundir.read(next(iter(rundir.manifest().get("tables", {})), "heads"))  # raises the error that says what to do
    results = {}
    for name in chosen:
        sources = {
            table: rundir.contents(table) for table in sorted(TABLES[name] & there)
        }  # as it is before it is read
        each: list[dict[str, Any]] = [{"score": score} for score in dict.fromkeys(scores)]
        for options in each if name == "development" else [{}]:
            found = STUDIES[name](rundir, bootstraps=bootstraps, seed=seed, progress=progress or Silent(), **options)
            found = replace(found, sources=sources)
            found.save(rundir)
            results[found.key] = found
    return results


def _require_scores(scores: Sequence[str]) -> None:
    from headway.tables import SCORES

    if isinstance(scores, str) or not scores:
        raise UsageError(f"scores are given as a list of names, such as ['prev_self_ratio'], not as {scores!r}")
    unknown = [score for score in scores if score not in SCORES]
    if unknown:
        raise UsageError(f"{unknown[0]!r} is not a score; the scores are {', '.join(SCORES)}")


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
    from headway.reporting import write

    if format not in ("html", "md"):
        raise UsageError(f"a report is written as html or md, not as {format!r}")
    rundir = RunDirectory(directory).require()
    return write(rundir, format="md" if format == "md" else "html", figures=figures, progress=progress)


def audit(
    suite: str | PathLike[str],
    *,
    where: str = "",
    deep: bool = False,
    out: str | PathLike[str] | None = None,
    keep_files: bool = True,
    progress: Progress | None = None,
) -> Audit:
    """Is a suite what it says it is? Equal, missing, odd and misplaced weights, from what the Hub states alone.

    Each run's last step is compared with, whether it is selected or not. What is found is remembered in the user's
    cache: `measure` and `cluster` warn of flagged checkpoints.

    Args:
        where: which checkpoints, as in `measure`.
        deep: read the weights, too: NaN, odd shapes, steps out of place, runs that do not descend from their own step 0.
            What was read of a checkpoint is not read again.
        out: a folder for `audit.json` and `audit.parquet`.
        keep_files: whether weights that are downloaded for it stay in the Hub's cache.

    Raises:
        SelectionError: an unknown suite, size, seed or step.
        UsageError: `out` is empty or a file.
        CheckpointError: the Hub is out of reach.
        StorageError: `out` or the cache cannot be written to.
    """
    from headway.integrity.audit import audit as audit_suite
    from headway.models.tensors import TensorFiles

    if out is not None:
        require_folder(out)
    found = audit_suite(
        open_suite(suite), where, tensors=TensorFiles if deep else None, keep=keep_files, progress=progress or Silent()
    )
    if out is not None:
        found.save(RunDirectory(out).path)
    found.remember()
    return found


def _warn_of_flagged(checkpoints: Sequence[Checkpoint]) -> None:
    import warnings

    from headway.integrity.memory import flags

    flagged = {checkpoint.key: flags(checkpoint) for checkpoint in checkpoints}
    flagged = {key: messages for key, messages in flagged.items() if messages}
    if flagged:
        key, messages = next(iter(flagged.items()))
        warnings.warn(
            f"an audit flagged {len(flagged)} of {count(len(checkpoints), 'checkpoint')}, such as {key}: {messages[0]}. "
            "What is flagged is done all the same; to leave it out, select others with --where",
            stacklevel=3,
        )


def status(directory: str | PathLike[str], *, verify: bool = False) -> list[Status]:
    """How far the sweeps into `directory` are, from its files alone.

    Args:
        verify: read every part wholly, and find those that are damaged.

    Raises:
        RunDirectoryError: it is not a run directory.
    """
    from headway import sweep

    return sweep.status(RunDirectory(directory), verify=verify)


def demo(
    out: str | PathLike[str] = "headway-demo", *, progress: Progress | None = None
) -> tuple[Mapping[str, Result], Path]:
    """Both studies on the embedded nano suite, which is trained first if it is not there: results and report.

    Raises:
        UsageError: `out` is empty or a file.
        CheckpointError: a checkpoint could not be measured.
        StorageError: `out` or the cache cannot be written to.
    """
    from headway import nano

    require_folder(out)
    progress = progress or Silent()
    nano.folder("quick", progress=progress)
    scores = (*DEFAULT_SCORES, "entropy", "distance", "induction", "duplicate")
    _require_whole(measure("nano", out=out, scores=scores, loss=True, progress=progress))
    clustered = "seed=1,2 step=0,8,32,64,128,256,512,last"  # two seeds, so that one sees whether they agree
    _require_whole(cluster("nano", out=out, where=clustered, progress=progress))
    for summary in intervene("nano", out=out, where="seed=1 step=last", n_texts=8, controls=20, progress=progress):
        _require_whole(summary)
    results = analyze(out, progress=progress)
    return results, report(out, progress=progress)


def _require_whole(summary: Summary) -> None:
    for outcome in summary.failed:
        raise CheckpointError(f"{count(len(summary.failed), 'checkpoint')} failed; the first: {outcome.error}")
