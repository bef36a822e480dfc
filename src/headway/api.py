"""The functions of headway, as they are called from Python. The command line calls the same ones.

`headway.options` declares every option: the defaults and the `Args:` sections here are taken from there.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from headway import options
from headway.errors import CheckpointError, HeadwayError, RunDirectoryError, StatisticsError, UsageError
from headway.options import documented
from headway.progress import Progress, Silent
from headway.store.directory import RunDirectory, require_folder
from headway.store.suite_folders import UNNAMED, of_suite, suites_of
from headway.text import count, listed

if TYPE_CHECKING:
    from headway.attention.patterns import Pattern
    from headway.corpora import Corpus
    from headway.integrity.audit import Audit
    from headway.interventions.ablations import HeadAblations
    from headway.interventions.groups import Grouping, Heads
    from headway.interventions.head_choice import HeadChoice
    from headway.interventions.prompts import Prompt
    from headway.interventions.selection import Choice
    from headway.store.suite_folders import SeveralSuites
    from headway.studies import Result
    from headway.studies.development.power import Power
    from headway.studies.tasks import Task
    from headway.suites import Checkpoint, Suite
    from headway.sweep import Executor, Processes, Status, Summary

_SHARED = 2**26  # bytes: the studies of larger tables are not shared, because each process holds them


def open_suite(suite: str | PathLike[str]) -> Suite:
    """Open a suite: its runs, and which checkpoints each has.

    Args:
        suite: A suite's name (`headway suites` lists them), a folder RUN/REVISION/ or FOLDER/RUN/REVISION/ with files
            as on the Hub, or hf:OWNER/NAME for repositories of the Hub.

    Raises:
        SelectionError: It is none of these. The message lists the known names.
    """
    from headway import suites

    return suites.open_suite(suite)


@documented(options.MEASURE)
def measure(
    suite: str | PathLike[str],
    *,
    out: str | PathLike[str],
    corpus: str | None = options.CORPUS.default,
    where: str = options.WHERE.default,
    scores: Sequence[str] = options.SCORES.default,
    abilities: Sequence[str | PathLike[str]] = options.ABILITIES.default,
    keep: Sequence[str] = options.KEEP.default,
    spans: str | PathLike[str] | None = options.SPANS.default,
    loss: bool = options.LOSS.default,
    add_bos: bool = options.ADD_BOS.default,
    repeated_length: int = options.REPEATED_LENGTH.default,
    repeated_texts: int = options.REPEATED_TEXTS.default,
    seed: int = options.REPEATED_SEED.default,
    dtype: str = options.DTYPE.default,
    device: str = options.DEVICE.default,
    keep_files: bool = options.KEEP_FILES.default,
    executor: Executor | None = options.EXECUTOR.default,
    force: bool = options.FORCE.default,
    progress: Progress | None = options.PROGRESS.default,
) -> Summary:
    """Score every head of every checkpoint on a corpus.

    The scores become the table `heads` of the run directory, and abilities the table `abilities`. `keep` and `spans` add the
    tables `texts` and `spans`. A checkpoint is read once for all of them. Results that are there, whole and computed from the same inputs, are kept. A checkpoint that fails is
    recorded, and the others go on.

    Args:
        {options}

    Returns:
        How many checkpoints were computed and reused, and which ones failed.

    Raises:
        SelectionError: The suite, a size, a seed or a step is unknown.
        CorpusError: The corpus cannot be read, or the first checkpoint's tokenizer finds nothing to measure in it.
        UsageError: `out` is empty or a file, or another value is not one that can be asked for.
        RunDirectoryError: `out` holds results of other settings, and `force` is not given.
        StorageError: `out` cannot be written to.
    """
    from headway import sweep
    from headway.abilities import CheckpointAbilities, asked_abilities
    from headway.attention.job import HeadScores
    from headway.attention.spans import SpanScores, read_spans
    from headway.attention.texts import TextScores
    from headway.corpora import open_corpus

    require_folder(out)
    _require_runnable(dtype, device, executor)
    options.MEASURE.require(repeated_length=repeated_length, repeated_texts=repeated_texts, keep=_each(keep))
    opened = open_suite(suite)
    corpus = corpus or opened.corpus
    if corpus is None:
        raise UsageError(
            f"the suite {opened.name!r} has no texts of its own. Name some with --corpus, such as texts.txt or "
            "stories.xlsx:Sentence, or take the built-in corpus `nano` (prose of the Python documentation)"
        )
    progress = progress or Silent()
    texts = open_corpus(corpus)
    progress.say(texts.describe())
    common: dict[str, Any] = {
        "add_bos": add_bos,
        "repeated_length": repeated_length,
        "repeated_texts": repeated_texts,
        "seed": seed,
        "dtype": dtype,
        "device": device,
        "keep_files": keep_files,
    }
    scored = HeadScores(texts, scores=_score_names(scores), **common)
    jobs: list[HeadScores | TextScores | SpanScores | CheckpointAbilities] = [scored]
    if _each(keep):
        jobs.append(TextScores(scored))
    if spans is not None:
        own = {name: common[name] for name in ("add_bos", "dtype", "device", "keep_files")}
        jobs.append(SpanScores(read_spans(spans), **own))
    words = dict.fromkeys([*_each(abilities), *(("loss", "repeat") if loss else ())])
    if words:  # last, because it reads the language-model head, too
        jobs.append(CheckpointAbilities(texts, abilities=asked_abilities(tuple(words)), **common))
    checkpoints = opened.checkpoints(where, progress)
    _warn_of_flagged(checkpoints)
    rundir = of_suite(RunDirectory(out), opened.name, [job.table for job in jobs])
    for job in jobs:
        if isinstance(job, CheckpointAbilities):
            job.require_own_names(rundir)
        if not checkpoints or sweep.begun(job, checkpoints, rundir):  # a sweep that goes on was checked when it began
            continue
        for sentence in sweep.ask(executor, partial(job.look_before, checkpoints)):
            progress.say(sentence)
    asked = _asked(suite, where, device=device, executor=executor, corpus=corpus) | _sheets(texts)
    return sweep.run(jobs, checkpoints, rundir, asked=asked, executor=executor, force=force, progress=progress)


def _score_names(scores: Sequence[str]) -> tuple[str, ...]:
    """The names of scores; `all` stands for every score that takes no forward pass for each head."""
    from headway.tables import SCORES

    names = _each(scores)
    return tuple(name for name, score in SCORES.items() if score.kind != "causal") if names == ("all",) else names


def _each(values: Sequence[str | PathLike[str]] | str | PathLike[str]) -> tuple[str, ...]:
    """A tuple of words. A single word counts as one, because a string is a sequence of letters, too."""
    return (str(values),) if isinstance(values, str | PathLike) else tuple(map(str, values))


def _asked(
    suite: str | PathLike[str],
    where: str,
    *,
    executor: Executor | None,
    device: str | None = None,
    corpus: str | None = None,
) -> dict[str, Any]:
    """Provenance for the manifest: settings that do not affect results. Workers choose their devices themselves."""
    from headway.corpora import BUILT_IN
    from headway.models import choose_device

    asked = {"suite": str(suite), "where": where}
    if corpus is not None:
        asked["corpus"] = corpus if corpus in BUILT_IN else os.path.abspath(os.path.expanduser(corpus))
    if device is not None:
        asked["device"] = choose_device(device) if executor is None else device
    return asked


def _sheets(corpus: Corpus) -> dict[str, dict[str, int]]:
    """How many texts each sheet of a workbook gave."""
    return {"sheets": dict(corpus.sheets)} if corpus.sheets else {}


def _require_runnable(dtype: str, device: str, executor: Executor | None) -> None:
    """Refuse a mistyped dtype or device before anything is fetched or replaced. Workers choose their own devices."""
    from headway.models import choose_device, require_dtype

    require_dtype(dtype)
    if executor is None:
        choose_device(device)


@documented(options.CLUSTER)
def cluster(
    suite: str | PathLike[str],
    *,
    out: str | PathLike[str],
    where: str = options.WHERE.default,
    layout: str = options.LAYOUT.default,
    features: Sequence[str] = options.FEATURES.default,
    methods: Sequence[str] = options.METHODS.default,
    ks: Sequence[int] = options.KS.default,
    layers: Sequence[int] | None = options.LAYERS.default,
    labels: Sequence[str] = options.LABELS.default,
    nulls: int = options.NULLS.default,
    most_draws: int = options.MOST_DRAWS.default,
    seed: int = options.CLUSTER_SEED.default,
    keep_files: bool = options.KEEP_FILES.default,
    executor: Executor | None = options.EXECUTOR.default,
    force: bool = options.FORCE.default,
    progress: Progress | None = options.PROGRESS.default,
) -> Summary:
    """Cluster the heads of every layer by their weights, with controls.

    The clusters become the table `clusters` of the run directory. `seed` decides the nulls; k-means has its own seed.

    Args:
        {options}

    Returns:
        How many checkpoints were computed and reused, and which ones failed.

    Raises:
        HeadwayError: As in `measure`.
    """
    from headway import sweep
    from headway.clusters import WeightClusters, open_labels, predecessors

    require_folder(out)
    options.CLUSTER.require(layout=layout, most_draws=most_draws)
    checkpoints = open_suite(suite).checkpoints(where, progress)
    _warn_of_flagged(checkpoints)
    job = WeightClusters(
        layout=layout,
        features=_each(features),
        methods=_each(methods),
        ks=tuple(ks),
        nulls=nulls,
        most_draws=most_draws,
        seed=seed,
        layers=None if layers is None else tuple(layers),
        labels=tuple(map(open_labels, _each(labels))),
        previous=predecessors(checkpoints),
        keep_files=keep_files,
    )
    asked = _asked(suite, where, executor=executor)
    return sweep.run(
        job, checkpoints, RunDirectory(out), asked=asked, executor=executor, force=force, progress=progress
    )


@documented(options.INTERVENE)
def intervene(
    suite: str | PathLike[str],
    *,
    out: str | PathLike[str],
    where: str = options.WHERE_LAST.default,
    heads: str = options.ABLATED_HEADS.default,
    effects: Sequence[str] = options.EFFECTS.default,
    corpus: str | None = options.FIRST_TEXTS.default,
    prompts: str | None = options.PROMPTS.default,
    kinds: Sequence[str] = options.KINDS.default,
    clustering: str = options.CLUSTERING.default,
    k: int = options.K.default,
    layers: Sequence[int] | None = options.LAYERS.default,
    together: bool = options.TOGETHER.default,
    operations: Sequence[str] = options.OPERATIONS.default,
    convention: str = options.CONVENTION.default,
    n_texts: int = options.N_TEXTS.default,
    controls: int = options.CONTROLS.default,
    seed: int = options.CONTROLS_SEED.default,
    dtype: str = options.DTYPE.default,
    device: str = options.DEVICE.default,
    keep_files: bool = options.KEEP_FILES.default,
    executor: Executor | None = options.EXECUTOR.default,
    force: bool = options.FORCE.default,
    progress: Progress | None = options.PROGRESS.default,
) -> list[Summary]:
    """Ablate and swap the clusters of heads, beside random groups of heads.

    With `heads`, the heads of a score or a role are ablated instead, at every selected step: the first one, the first two and
    so on. `measure` must have scored them in the same run directory. The table `ablations` holds what each ability loses,
    beside random heads of the same layers and of the same output norm. Of the options of clusters, `operations`, `n_texts`,
    `controls` and `seed` concern this, too.

    `cluster` must have found the clusters in the same run directory. Two tables are written: `interventions`, the
    effects on the corpus, and `prompts`, the answers of each cluster alone.

    The clusters of the selected step are also tried on each run's first step: training did not cause an effect that an
    untrained model has. A run without clusters is recorded as failed, and the others go on. When its clusters change,
    only its own effects are computed again.

    With `convention="published"` the interventions are those of "Pythia clustering dynamics", which are not of heads
    (`headway.interventions.published`). They go into a table of their own, `interventions_published`, to be read beside the right
    ones; prompts are not asked.

    `k` does not concern labels of your own. With `together`, clusters that were found are joined across layers by
    size: the smallest of each layer, then the next. Labels of your own are joined by name.

    Args:
        {options}

    Returns:
        For each table, how many checkpoints were computed and reused, and which ones failed.

    Raises:
        HeadwayError: As in `measure`.
    """
    from headway import sweep
    from headway.clusters.partitions import METHODS
    from headway.corpora import open_corpus
    from headway.interventions.job import ClusterEffects
    from headway.interventions.prompts import PromptAnswers
    from headway.interventions.selection import Choice

    require_folder(out)
    _require_runnable(dtype, device, executor)
    options.INTERVENE.require(operations=operations, convention=convention, k=k, n_texts=n_texts, controls=controls)
    opened = open_suite(suite)
    rundir = of_suite(RunDirectory(out), opened.name, ())
    selected = opened.checkpoints(where, progress)
    corpus = corpus or opened.corpus or "nano"
    if heads != options.ABLATED_HEADS.default:
        job = _ablations(
            rundir,
            selected,
            heads,
            corpus=open_corpus(corpus),
            effects=_each(effects),
            operations=_each(operations),
            n_texts=n_texts,
            controls=controls,
            seed=seed,
            dtype=dtype,
            device=device,
            keep_files=keep_files,
        )
        asked = _asked(suite, where, device=device, executor=executor, corpus=corpus) | _sheets(job.corpus)
        return [sweep.run(job, selected, rundir, asked=asked, executor=executor, force=force, progress=progress)]
    _require_one_step(selected, where)
    choice = Choice(_each(kinds), clustering, k if clustering in METHODS else None, layers, together)
    groupings, lacking = _groupings(rundir, selected, choice)
    first = [
        checkpoint
        for checkpoint in opened.listed(_at_first_step(where, tuple(opened.axes)))
        if checkpoint.run in groupings
    ]
    checkpoints = list(dict.fromkeys([*first, *selected]))
    texts = open_corpus(corpus)
    common: dict[str, Any] = {
        "lacking": lacking,
        "choice": choice.identity() | _clusters_in_common(rundir, where, choice, tuple(opened.axes)),
        "controls": controls,
        "seed": seed,
        "dtype": dtype,
        "device": device,
        "keep_files": keep_files,
    }
    of_texts: dict[str, Any] = {"operations": _each(operations), "n_texts": n_texts, **common}
    jobs: list[sweep.Job] = [
        ClusterEffects(texts, groupings, **of_texts),
        PromptAnswers(_prompts(prompts, opened, texts), groupings, **common),
    ]
    if convention == "published":
        from headway.interventions.published import PublishedEffects

        jobs = [PublishedEffects(texts, groupings, **of_texts)]
    asked = _asked(suite, where, device=device, executor=executor, corpus=corpus) | _sheets(texts)
    summaries = [
        sweep.run(job, checkpoints, rundir, asked=asked, executor=executor, force=force, progress=progress)
        for job in jobs
    ]
    _warn_of_left_out(rundir)
    return summaries


def _ablations(rundir: RunDirectory, selected: Sequence[Checkpoint], heads: str, **given: Any) -> HeadAblations:
    """The job that ablates the heads that `heads` names.

    Raises:
        UsageError: They cannot be chosen, an effect is unknown, or there is nothing to choose from.
    """
    from headway.interventions.ablations import HeadAblations, require_effects
    from headway.interventions.head_choice import names_file, read_heads

    require_effects(given["effects"])
    groups: dict[str, dict[str, Heads]] = {}
    if names_file(heads):
        file = read_heads(heads)
        places = {(checkpoint.run, checkpoint.step): checkpoint.key for checkpoint in selected}
        groups, heads = {places[place]: of for place, of in file.of(places).items()}, file.name
    else:
        for words in heads.split(";"):
            for key, of in _chosen(rundir, selected, words.strip(), "--heads")[1].items():
                groups.setdefault(key, {})[words.strip()] = of
    return HeadAblations(groups=groups, heads=heads, **given)


def _chosen(
    rundir: RunDirectory, selected: Sequence[Checkpoint], heads: str, option: str
) -> tuple[HeadChoice, dict[str, Heads]]:
    """Which heads `heads` names, and those of each checkpoint by its key.

    Raises:
        UsageError: They cannot be chosen, or there is nothing to choose from.
    """
    from headway.interventions.head_choice import parse_heads
    from headway.known_scores import ROLES
    from headway.studies.roles.criteria import levels
    from headway.tables import of_stack, score_columns

    if "heads" not in rundir.tables():
        raise UsageError(f"{rundir.path} has no table of heads to choose from. Run `headway measure` into it first")
    table = of_stack(rundir.read("heads"))
    choice = parse_heads(heads, {name: role.score for name, role in ROLES.items()}, score_columns(table), option)
    level = levels(table, [ROLES[choice.role]])["level"][0] if choice.role else None
    if choice.role and level is None:
        raise UsageError(
            f"{option} {heads!r}: the role has no level, because no head was measured at step 0. Measure step 0 first"
        )
    keys = {(checkpoint.run, checkpoint.step): checkpoint.key for checkpoint in selected}
    return choice, {keys[place]: group for place, group in choice.of(table, level).items() if place in keys}


def _require_one_step(selected: Sequence[Checkpoint], where: str) -> None:
    if len({checkpoint.run for checkpoint in selected}) < len(selected):
        raise UsageError(f"--where {where!r} selects several steps of a run. Select one, such as step=last")


def _prompts(path: str | None, suite: Suite, texts: Corpus) -> tuple[Prompt, ...]:
    """The prompts of a file; without one, the texts of a suite that has its own, or else the common prompts."""
    from headway.interventions.prompts import PROMPTS, prompts_of, read_prompts

    if path:
        return read_prompts(path)
    return prompts_of(texts) if suite.corpus is not None and path is None else PROMPTS


def _warn_of_left_out(rundir: RunDirectory) -> None:
    """Warn of prompts that a model could not read."""
    import warnings

    if "prompts" in rundir.tables():
        left_out = rundir.read("prompts")["left_out"].explode().drop_nulls().unique(maintain_order=True)
        for why in left_out:
            warnings.warn(f"left out: {why}", stacklevel=3)


def _at_first_step(where: str, axes: Sequence[str]) -> str:
    """The same selection, at the first step of each run."""
    from headway.suites.where import parse_where

    kept = (
        f"{axis}={','.join(items)}"
        for axis, items in parse_where(where, axes).items.items()
        if axis not in ("step", "tokens")
    )
    return " ".join([*kept, "step=first"])


def _clusters_in_common(rundir: RunDirectory, where: str, choice: Choice, axes: Sequence[str]) -> dict[str, Any]:
    """What all runs' labels have in common: their step, and how the heads were clustered."""
    from headway.suites.where import parse_where

    record = rundir.manifest().tables.get("clusters")
    made = record.identity if record else {}
    labels = [given for given in made.get("labels", ()) if given["name"] == choice.clustering]
    how = {name: made.get(name) for name in ("seed", "definitions")}
    return {"steps": list(parse_where(where, axes).items.get("step", ())), "clusters": how | {"labels": labels}}


def _groupings(
    rundir: RunDirectory, selected: Sequence[Checkpoint], choice: Choice
) -> tuple[dict[str, list[Grouping]], dict[str, str]]:
    """The clusters of each run at its selected step, and the reason for each run that has none.

    Raises:
        UsageError: No run has clusters.
    """
    import warnings

    if "clusters" not in rundir.tables():
        raise UsageError(
            f"{rundir.path} has no table of clusters. Run `headway cluster` into the same run directory first"
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
            warnings.warn(f"interventions on {checkpoint.key} leave out {left_out[0]}{more}", stacklevel=3)
    if not found:
        raise UsageError(f"{rundir.path}: {next(iter(lacking.values()))}")
    return found, lacking


@documented(options.RELATE)
def relate(
    suite: str | PathLike[str],
    *,
    out: str | PathLike[str],
    where: str = options.WHERE.default,
    relations: Sequence[str] = options.RELATIONS.default,
    senders: str = options.SENDERS.default,
    receivers: str = options.RECEIVERS.default,
    corpus: str | None = options.FIRST_TEXTS.default,
    replacements: Sequence[str] = options.REPLACEMENTS.default,
    n_texts: int = options.N_TEXTS.default,
    repeated_length: int = options.REPEATED_LENGTH.default,
    controls: int = options.PATH_CONTROLS.default,
    seed: int = options.PATH_SEED.default,
    dtype: str = options.DTYPE.default,
    device: str = options.DEVICE.default,
    keep_files: bool = options.KEEP_FILES.default,
    executor: Executor | None = options.EXECUTOR.default,
    force: bool = options.FORCE.default,
    progress: Progress | None = options.PROGRESS.default,
) -> list[Summary]:
    """Say which head feeds which: composition of weights, and paths from heads to heads.

    Composition becomes the table `compositions` of the run directory: every pair of heads in layers that are in order, beside random
    heads of the same spectra. Paths become the table `paths`: what the receivers' score and their effect on the next token lose
    when a sender's part of their queries, keys or values is replaced, beside other heads of the sender's layer.

    `measure` must have scored the heads that paths start from and lead to, in the same run directory. Receivers chosen by a
    score of repeated tokens, such as `induction`, read such tokens; others read the corpus. Composition is computed in float32,
    whatever `dtype` is.

    Args:
        {options}

    Returns:
        For each table, how many checkpoints were computed and reused, and which ones failed.

    Raises:
        HeadwayError: As in `measure`.
    """
    from headway import sweep
    from headway.circuits.job import HeadCompositions
    from headway.circuits.path_job import HeadPaths
    from headway.corpora import open_corpus

    require_folder(out)
    _require_runnable(dtype, device, executor)
    asked_for = _each(relations)
    options.RELATE.require(
        relations=asked_for, replacements=_each(replacements), n_texts=n_texts, repeated_length=repeated_length, controls=controls
    )  # fmt: skip
    opened = open_suite(suite)
    rundir = of_suite(RunDirectory(out), opened.name, ())
    selected = opened.checkpoints(where, progress)
    asked = _asked(suite, where, device=device, executor=executor)
    jobs: list[tuple[sweep.Job, dict[str, Any]]] = []
    if "composition" in asked_for:
        jobs.append((HeadCompositions(device=device, keep_files=keep_files), asked))
    if "paths" in asked_for:
        _, sending = _chosen(rundir, selected, senders, options.SENDERS.spelling)
        to, receiving = _chosen(rundir, selected, receivers, options.RECEIVERS.spelling)
        corpus = corpus or opened.corpus or "nano"
        job = HeadPaths(
            open_corpus(corpus),
            sending,
            receiving,
            to.score,
            senders=senders,
            receivers=receivers,
            replacements=_each(replacements),
            n_texts=n_texts,
            repeated_length=repeated_length,
            controls=controls,
            seed=seed,
            dtype=dtype,
            device=device,
            keep_files=keep_files,
        )
        asked_of_paths = _asked(suite, where, device=device, executor=executor, corpus=corpus) | _sheets(job.corpus)
        jobs.append((job, asked_of_paths))
    return [
        sweep.run(job, selected, rundir, asked=of_job, executor=executor, force=force, progress=progress)
        for job, of_job in jobs
    ]


@documented(options.DESCRIBE)
def describe(
    suite: str | PathLike[str],
    *,
    out: str | PathLike[str],
    where: str = options.WHERE.default,
    corpus: str | None = options.FIRST_TEXTS.default,
    n_texts: int = options.DESCRIBED_TEXTS.default,
    repeated_length: int = options.DESCRIBED_LENGTH.default,
    seed: int = options.DESCRIBED_SEED.default,
    dtype: str = options.DTYPE.default,
    device: str = options.DEVICE.default,
    keep_files: bool = options.KEEP_FILES.default,
    executor: Executor | None = options.EXECUTOR.default,
    force: bool = options.FORCE.default,
    progress: Progress | None = options.PROGRESS.default,
) -> Summary:
    """Describe each head so that heads of different runs can be compared: weight features, attention and outputs.

    This becomes the table `descriptions` of the run directory. A head has weight features that no basis decides, its attention on the same texts, and how alike its outputs at pairs of tokens
    are. The study `configuration` compares heads by them.

    Args:
        {options}

    Returns:
        How many checkpoints were computed and reused, and which ones failed.

    Raises:
        HeadwayError: As in `measure`.
    """
    from headway import sweep
    from headway.circuits.description_job import HeadDescriptions
    from headway.corpora import open_corpus

    require_folder(out)
    _require_runnable(dtype, device, executor)
    options.DESCRIBE.require(n_texts=n_texts, repeated_length=repeated_length)
    opened = open_suite(suite)
    selected = opened.checkpoints(where, progress)
    corpus = corpus or opened.corpus or "nano"
    job = HeadDescriptions(
        open_corpus(corpus),
        n_texts=n_texts,
        repeated_length=repeated_length,
        seed=seed,
        dtype=dtype,
        device=device,
        keep_files=keep_files,
    )
    asked = _asked(suite, where, device=device, executor=executor, corpus=corpus) | _sheets(job.corpus)
    return sweep.run(job, selected, RunDirectory(out), asked=asked, executor=executor, force=force, progress=progress)


@documented(options.IMPORT_HEADS)
def import_heads(
    files: Sequence[str | PathLike[str]],
    *,
    out: str | PathLike[str],
    suite: str = options.SUITE_COLUMN.default,
    columns: str = options.COLUMNS.default,
    first_layer: int | None = options.FIRST_LAYER.default,
    force: bool = options.REPLACE_TABLE.default,
    progress: Progress | None = options.PROGRESS.default,
) -> int:
    """Read per-head tables as studies publish them, and join them.

    Rows of several files are joined by run, step, layer and head, and become the table `heads` of the run directory. A
    head that a file lacks has null there. Rows of samples are averaged. Numbers that all heads of a checkpoint share
    become rows of the table `imported_abilities`. `progress` is told how each file was read. Values that disagree or are missing
    are warned of.

    Args:
        {options}

    Returns:
        How many rows the table `heads` has.

    Raises:
        UsageError: A file lacks a column or holds a wrong value; or `out` is empty or a file.
        RunDirectoryError: `out` holds another heads table, and `force` is not given.
        StorageError: `out` cannot be written to.
    """
    from headway.published import open_sources, read_heads
    from headway.published.storing import have_sources, store_abilities
    from headway.sweep import require_free, store, stored_rows

    require_folder(out)
    if first_layer not in (None, 0, 1):
        raise UsageError(f"--first-layer is 0 or 1, not {first_layer}")
    rundir, sources = of_suite(RunDirectory(out), suite, ["heads"]), open_sources(files)
    reading: dict[str, Any] = {"suite": suite} | ({"columns": columns} if columns else {})
    reading |= {} if first_layer is None else {"first_layer": first_layer}
    identity = {**reading, "imported": [source.identity() for source in sources]}
    rows = stored_rows("heads", rundir, identity)
    with_abilities = rundir.manifest().tables["heads"].asked.get("abilities", []) if rows is not None else []
    if rows is not None and have_sources(rundir, with_abilities):
        return rows
    paths, names = [source.path for source in sources], [source.name for source in sources]
    found = read_heads(
        paths, names=names, suite=suite, columns=columns, first_layer=first_layer, say=(progress or Silent()).say
    )
    _warn_of(found.doubts)
    if not force:
        require_free("heads", rundir, identity)  # before the abilities are stored
    stating = [source for source in sources if source.name in set(found.abilities["source"])]
    store_abilities(found.abilities, stating, reading, rundir, geometry=found.heads, force=force)
    asked = {"recognised": found.recognised, "doubts": found.doubts, "abilities": [source.name for source in stating]}
    store(found.heads, "heads", rundir, identity=identity, asked=asked, force=force)
    return found.heads.height


@documented(options.IMPORT_ABILITIES)
def import_abilities(
    files: Sequence[str | PathLike[str]],
    *,
    out: str | PathLike[str],
    suite: str = options.SUITE_COLUMN.default,
    columns: str = options.ABILITY_COLUMNS.default,
    force: bool = options.REPLACE_TABLE.default,
    progress: Progress | None = options.PROGRESS.default,
) -> int:
    """Read what others measured of checkpoints: evaluations, losses, accuracies.

    They become rows of the table `imported_abilities`, one per checkpoint and ability. Rows of earlier imports stay. `progress` is
    told how the files were read. Runs and steps that the table `heads` does not have are kept, and warned of.

    Args:
        {options}

    Returns:
        How many rows the table `imported_abilities` has.

    Raises:
        UsageError: A file is damaged, lacks a column or holds a wrong value; an ability has the name of a score; two files
            disagree; `out` holds a measured ability of such a name; or `out` is empty or a file.
        RunDirectoryError: `out` holds another file of such a name, and `force` is not given.
        StorageError: `out` cannot be written to.
    """
    from headway.published import open_sources, read_abilities
    from headway.published.abilities import compared
    from headway.published.storing import heads_of, store_abilities, stored_rows_of

    require_folder(out)
    rundir, sources = _of_abilities(RunDirectory(out), suite), open_sources(files)
    reading = {"suite": suite} | ({"columns": columns} if columns else {})
    if (rows := stored_rows_of(rundir, sources, reading)) is not None:
        return rows
    paths, names = [source.path for source in sources], [source.name for source in sources]
    found = read_abilities(paths, names=names, columns=columns, say=(progress or Silent()).say)
    heads = heads_of(rundir)
    _warn_of([*found.doubts, *compared(found.rows, heads)])
    return store_abilities(found.rows, sources, reading, rundir, geometry=heads, force=force)


def _of_abilities(rundir: RunDirectory, suite: str) -> RunDirectory:
    """Where imported abilities of `suite` belong: beside the heads of the same runs.

    Raises:
        UsageError: the directory holds several suites, and none was named.
    """
    from headway.tables import IMPORTED_ABILITIES

    there = suites_of(rundir)
    if suite != UNNAMED or suite in there:
        return of_suite(rundir, suite, [IMPORTED_ABILITIES])
    if len(there) > 1:
        raise UsageError(
            f"{rundir.path} holds the suites {listed(list(there))}. Say with --suite which one the abilities are of"
        )
    return rundir


def _warn_of(doubts: Sequence[str]) -> None:
    import warnings

    from headway.terminal import printable

    for doubt in doubts:
        warnings.warn(printable(doubt), stacklevel=3)


@documented(options.ANALYZE)
def analyze(
    directory: str | PathLike[str],
    *,
    studies: Sequence[str] = options.STUDIES.default,
    scores: Sequence[str] = options.STUDIED_SCORES.default,
    roles: Sequence[str] = options.ROLES.default,
    bootstraps: int = options.BOOTSTRAPS.default,
    seed: int = options.RESAMPLING_SEED.default,
    force: bool = options.FORCE_STUDIES.default,
    executor: Processes | None = options.EXECUTOR.default,
    progress: Progress | None = options.PROGRESS.default,
) -> Mapping[str, Result]:
    """Run the studies, and save what they find.

    The results lie in `DIR/analysis/STUDY/`, one for each score that is studied, and for each stack of heads that has it. A
    saved result of the same tables with the same options, from the same version of headway, is reused.

    Of several suites in the directory, each is studied by itself, and its results lie in its own folder. The study `suites`
    compares them.

    Args:
        {options}

    Returns:
        The results of this call by STUDY/SUBJECT, such as `development/prev_self_ratio`. Of several suites, the subject ends with
        the suite's name, such as `development/prev_self_ratio-nano`.

    Raises:
        RunDirectoryError: `directory` is not a run directory, or has no table for a study that was asked for.
        StatisticsError: The heads table lacks a score, or holds no finite number of it.
        UsageError: A study or a score is unknown, a role is not of the form NAME=SCORE or NAME=SCORE>LEVEL, or `executor` is
            not one of processes.
    """
    from headway.studies import several
    from headway.sweep import Processes

    if not isinstance(executor, Processes | None):
        raise UsageError("studies are shared by processes of this machine: give headway.sweep.Processes(n) as executor")
    rundir = RunDirectory(directory).require()
    options.ANALYZE.require(studies=studies, bootstraps=bootstraps)
    _require_scores(_each(scores))
    given: dict[str, Any] = {
        "scores": _each(scores), "roles": _each(roles), "bootstraps": bootstraps, "seed": seed, "force": force,
        "executor": executor, "progress": progress or Silent(),
    }  # fmt: skip
    every = several.together(rundir)
    if every is None:
        return _analyze(rundir, _each(studies), **given)
    return _analyze_suites(every, _each(studies), **given)


def _analyze_suites(every: SeveralSuites, studies: Sequence[str], **given: Any) -> dict[str, Result]:
    """Study each suite by itself, and all of them together. A suite that a study cannot look at is warned of.

    Raises:
        HeadwayError: No suite can be studied.
    """
    import warnings

    from headway.studies import suites

    results: dict[str, Result] = {}
    errors: list[HeadwayError] = []
    alone = [name for name in studies if name != suites.NAME]
    if not studies or alone:
        results |= _of_each_suite(every.suites, every.suites, lambda one: _analyze(one, alone, **given), errors)
    if suites.NAME in studies or (not studies and suites.applies(every)):
        try:
            results |= _analyze(every, [suites.NAME], **given)
        except (RunDirectoryError, StatisticsError) as error:
            errors.append(error)
            warnings.warn(f"the suites are not compared: {error}", stacklevel=3)
    if not results and errors:
        raise errors[0]
    return results


def _of_each_suite(
    every: Mapping[str, RunDirectory],
    chosen: Collection[str],
    look: Callable[[RunDirectory], Mapping[str, Result]],
    errors: list[HeadwayError],
) -> dict[str, Result]:
    """What `look` finds in each of the chosen suites of a directory, named after it. Failures are warned of, and go to `errors`."""
    import warnings

    from headway.studies import several

    results: dict[str, Result] = {}
    for place, (suite, one) in enumerate(every.items(), 1):
        if suite not in chosen:
            continue
        try:
            found = look(one)
        except (RunDirectoryError, StatisticsError) as error:
            errors.append(error)
            warnings.warn(f"the suite {suite}: {error}", stacklevel=4)
            continue
        named = [several.of_suite_alone(result, suite, place) for result in found.values()]
        results |= {result.key: result for result in named}
    return results


def _analyze(
    rundir: RunDirectory,
    studies: Sequence[str],
    *,
    scores: Sequence[str],
    roles: Sequence[str],
    bootstraps: int,
    seed: int,
    force: bool,
    executor: Processes | None,
    progress: Progress,
) -> dict[str, Result]:
    """Run the studies on the tables of one suite, or on those of several together."""
    from headway.studies import READS, TABLES, applying
    from headway.studies.tasks import tasks

    scores = scores or _studied(rundir)
    there = set(rundir.tables())
    chosen = list(studies) or applying(rundir)
    if roles and not studies and "roles" not in chosen:
        chosen.append("roles")
    if not chosen:
        rundir.read(next(iter(rundir.manifest().tables), "heads"))  # raises the error that says what to do
    contents = {
        table: rundir.contents(table) for table in sorted(there & frozenset().union(*[TABLES[name] for name in chosen]))
    }
    given: dict[str, Any] = {"scores": scores, "roles": roles, "bootstraps": bootstraps, "seed": seed}
    results: dict[str, Result] = {}
    # What reads the results of another begins when these are saved.
    later = {name for name, (other, _) in READS.items() if other in chosen}
    for names in ([name for name in chosen if name not in later], [name for name in chosen if name in later]):
        asked = [task for name in names for task in tasks(name, rundir, contents, **given)]
        sharing = executor if rundir.held() < _SHARED else None
        results |= {result.key: result for result in _results(asked, force, sharing, progress)}
    return results


def _results(tasks: Sequence[Task], force: bool, executor: Processes | None, progress: Progress) -> list[Result]:
    """The results of the tasks in their order: saved ones unless `force`, and several processes share the others.

    A result is saved once its last part is there, so that an error of another study loses nothing.
    """
    results = [None if force else task.saved() for task in tasks]
    for result in results:
        if result is not None:
            progress.say(f"{result.key} is reused: its tables and options are the same. --force computes it again")
    left = [place for place, result in enumerate(results) if result is None]
    calls = [(place, part) for place in left for part in tasks[place].parts()]
    if executor is None or len(calls) < 2:
        for place in left:
            results[place] = tasks[place](progress)
        return [result for result in results if result is not None]
    parts: dict[int, dict[int, Result]] = {place: {} for place in left}
    awaited = Counter(place for place, _ in calls)
    turn = Lock()

    def take(number: int, part: Result) -> None:
        place = calls[number][0]
        with turn:  # of two parts, one is the last
            parts[place][number] = part
            if len(parts[place]) == awaited[place]:
                results[place] = tasks[place].whole([part for _, part in sorted(parts[place].items())])
                progress.advance(note=tasks[place].study)

    progress.start("studies", len(left))
    executor.share([call for _, call in calls], take)
    return [result for result in results if result is not None]


def _studied(rundir: RunDirectory) -> tuple[str, ...]:
    """The score that is studied if none is asked for: the usual one if the table has it, or else the table's first."""
    from headway.tables import SCORES

    there = rundir.columns("heads")
    return next(
        ((score,) for score in (options.STUDIED_SCORE_FIRST, *SCORES) if score in there), (options.STUDIED_SCORE_FIRST,)
    )


def _require_scores(scores: Sequence[str]) -> None:
    """Check that headway knows the scores.

    Raises:
        UsageError: it does not.
    """
    from headway.tables import SCORES

    unknown = [score for score in scores if score not in SCORES]
    if unknown:
        raise UsageError(f"{unknown[0]!r} is not a score; the scores are {', '.join(SCORES)}")


@documented(options.SCORECARD)
def scorecard(
    directory: str | PathLike[str],
    *,
    scores: Sequence[str] = options.CARD_SCORES.default,
    roles: Sequence[str] = options.CARD_ROLES.default,
    against: str | PathLike[str] | None = options.AGAINST.default,
    suite: str | None = options.CARD_SUITE.default,
    bootstraps: int = options.CARD_DRAWS.default,
    seed: int = options.RESAMPLING_SEED.default,
    progress: Progress | None = options.PROGRESS.default,
) -> Mapping[str, Result]:
    """Say on which axes claims about heads generalize, from chance (0) to perfect (1).

    The results are saved in `DIR/analysis/scorecard/`, one for each stack of heads. Each suite of a directory has its own, in its own
    folder. Nothing is written to the directory that it stands beside.

    Args:
        {options}

    Returns:
        The scorecards by STUDY/SUBJECT, such as `scorecard/heads`. Of several suites, the subject ends with the suite's name. The table
        `axes` has a row for each claim and measure, and `values["card"]` the same as dicts.

    Raises:
        RunDirectoryError: A directory is not a run directory, or has no heads table.
        StatisticsError: A heads table has none of the scores, or the two directories have no stack of heads in common.
        UsageError: A role or a score is unknown, a role is not of the form NAME=SCORE or NAME=SCORE>LEVEL, the directory has no
            such suite, or one of two directories holds several.
    """
    from headway.studies import several

    options.SCORECARD.require(bootstraps=bootstraps)
    given: dict[str, Any] = {"roles": _each(roles), "scores": _each(scores), "bootstraps": bootstraps, "seed": seed}
    rundir = RunDirectory(directory).require()
    every, chosen = suites_of(rundir), several.chosen(rundir, suite)
    beside = None
    if against is not None:
        several.require_one(rundir, chosen, "--against compares one suite with another")
        beside = several.like(RunDirectory(against).require(), next(iter(chosen)))

    def look(one: RunDirectory) -> dict[str, Result]:
        return _scorecards(one, beside, (str(directory), str(against or "")), given, progress)

    if len(every) == 1:
        return look(rundir)
    errors: list[HeadwayError] = []
    results = _of_each_suite(every, chosen, look, errors)
    if not results:
        raise errors[0]
    return results


def _scorecards(
    rundir: RunDirectory,
    beside: RunDirectory | None,
    directories: tuple[str, str],
    given: Mapping[str, Any],
    progress: Progress | None,
) -> dict[str, Result]:
    """Save the scorecard of each stack of one suite, beside the same stack of another directory if there is one."""
    from dataclasses import replace

    from headway.studies import READS, TABLES, reuse, stacks
    from headway.studies.scorecard import NAME, compare, study

    sources = {table: rundir.contents(table) for table in sorted(TABLES[NAME] & set(rundir.tables()))}
    read = READS[NAME][1](rundir)
    own = {stacks.stack_of(part): part for part in stacks.each_stack(rundir, NAME)}
    others = {} if beside is None else stacks.alike(own, stacks.each_stack(beside, NAME))
    results: dict[str, Result] = {}
    for stack in own if beside is None else others:
        card = stacks.of_stack_alone(study(own[stack], progress=progress, **given), stack)
        if beside is not None:
            card = compare(card, study(others[stack], progress=progress, **given), *directories)
        made = {**given, "read": read, "against": directories[1]} | ({"stack": stack} if stack else {})
        card = replace(card, sources=sources, made=reuse.making(made))
        card.save(rundir)
        results[card.key] = card
    return results


@documented(options.POWER)
def power(
    directory: str | PathLike[str],
    *,
    question: str = options.QUESTION.default,
    score: str = options.STUDIED_SCORE.default,
    suite: str | None = options.PILOT_SUITE.default,
    seeds: Sequence[int] = options.SEED_COUNTS.default,
    simulations: int = options.SIMULATIONS.default,
    seed: int = options.SIMULATION_SEED.default,
) -> Power:
    """Say how many seeds a study needs, from a pilot.

    Studies are simulated from the pilot's runs, and tested as the report does. A pilot is one suite.

    Args:
        {options}

    Returns:
        The power by number of seeds, with the error of the simulation and sentences on what it means.

    Raises:
        RunDirectoryError: The score has not been analysed there.
        UsageError: The question cannot be read, or the pilot is too small for it; or the directory holds several suites and
            none is chosen, or no such suite.
    """
    from headway.studies import several
    from headway.studies.development.power import power as simulated
    from headway.studies.result import Result
    from headway.studies.stacks import saved_subject

    options.POWER.require(simulations=simulations)
    if not seeds or min(seeds) < 2:
        raise UsageError("--seeds must be two or more of each size: one seed has no scatter")
    whole = RunDirectory(directory).require()
    chosen = several.chosen(whole, suite)
    several.require_one(whole, chosen, "a pilot is one suite")
    rundir = next(iter(chosen.values()))
    pilot = Result.load(rundir, "development", saved_subject(rundir, "development", score))
    return simulated(pilot, question, tuple(dict.fromkeys(sorted(seeds))), simulations, seed)


@documented(options.REPORT)
def report(
    directory: str | PathLike[str],
    *,
    format: str = options.FORMAT.default,
    figures: bool = options.FIGURES.default,
    progress: Progress | None = options.PROGRESS.default,
) -> Path:
    """Write the report, and each figure as SVG and PNG.

    Without figures, a report of the same results is not written again. The report is `DIR/report.html` or `DIR/report.md`; figures lie in `DIR/figures/`.

    Args:
        {options}

    Returns:
        The path of the report.

    Raises:
        RunDirectoryError: `directory` is not a run directory, or nothing in it was analysed.
        UsageError: `format` is neither html nor md.
    """
    from headway.reporting import write

    return write(directory, format=format, figures=figures, again=False, progress=progress)


@documented(options.AUDIT)
def audit(
    suite: str | PathLike[str],
    *,
    where: str = options.WHERE.default,
    deep: bool = options.DEEP.default,
    out: str | PathLike[str] | None = options.AUDIT_OUT.default,
    keep_files: bool = options.KEEP_FILES.default,
    progress: Progress | None = options.PROGRESS.default,
) -> Audit:
    """Check that a suite is what it says: equal, missing, odd and misplaced weights.

    An audit reads only what the Hub states of its files. With `deep` it reads the weights, too: NaN, odd shapes, steps
    out of place, and runs that do not descend from their own step 0. Weights that were read once are not read again.

    If `out` is a run directory whose table of heads or of abilities has losses, steps whose loss is out of line with those
    before and after them are found, too.

    Each checkpoint is compared with the last step of its run, whether `where` selects that or not. The findings are
    kept in the user's cache, and `measure` and `cluster` warn of flagged checkpoints.

    Args:
        {options}

    Raises:
        SelectionError: The suite, a size, a seed or a step is unknown.
        UsageError: `out` is empty or a file.
        CheckpointError: The Hub cannot be reached.
        StorageError: `out` or the cache cannot be written to.
    """
    from headway.integrity.audit import audit as audit_suite
    from headway.models.tensors import TensorFiles

    if out is not None:
        require_folder(out)
    opened = open_suite(suite)
    rundir = of_suite(RunDirectory(out), opened.name, ["heads", "abilities"]) if out is not None else None
    losses = _measured_losses(rundir, opened.name) if rundir is not None else {}
    found = audit_suite(
        opened,
        where,
        tensors=TensorFiles if deep else None,
        keep=keep_files,
        losses=losses,
        progress=progress or Silent(),
    )
    if rundir is not None:
        found.save(rundir.path)
    found.remember()
    return found


def _measured_losses(rundir: RunDirectory, suite: str) -> dict[str, list[tuple[int, float]]]:
    """Steps with their losses, by run of `suite`, from the table of heads or else of abilities; none if there are none."""
    import polars as pl

    rows = None
    if rundir.partitions("heads"):
        heads = rundir.read("heads")
        rows = heads.select("suite", "run", "step", value="loss") if "loss" in heads.columns else None
    if rows is None and rundir.partitions("abilities"):
        rows = rundir.read("abilities").filter(pl.col("ability") == "loss").select("suite", "run", "step", "value")
    if rows is None:
        return {}
    rows = (
        rows.filter(pl.col("suite") == suite, pl.col("value").is_finite()).unique(["run", "step"]).sort("run", "step")
    )
    return {str(run): own.select("step", "value").rows() for (run,), own in rows.group_by("run", maintain_order=True)}


def _warn_of_flagged(checkpoints: Sequence[Checkpoint]) -> None:
    """Warn of checkpoints that an audit has flagged, or else that public reports say are wrong."""
    import warnings

    from headway.integrity.known import standing
    from headway.integrity.memory import flags

    flagged = {checkpoint.key: flags(checkpoint) for checkpoint in checkpoints}
    flagged = {key: messages for key, messages in flagged.items() if messages}
    if flagged:
        key, messages = next(iter(flagged.items()))
        warnings.warn(
            f"an audit flagged {len(flagged)} of {count(len(checkpoints), 'checkpoint')}, such as {key}: {messages[0]}. "
            "They are computed all the same. To leave them out, select other checkpoints with --where",
            stacklevel=3,
        )
    reported = {one.key: standing(one) for one in checkpoints if one.key not in flagged}
    reported = {key: reports for key, reports in reported.items() if reports}
    if reported:
        key, reports = next(iter(reported.items()))
        warnings.warn(
            f"public reports say that {len(reported)} of {count(len(checkpoints), 'checkpoint')} may be wrong, such as {key}: "
            f"{reports[0].what} ({reports[0].reported}). They are computed all the same. Run `headway audit` to confirm or "
            "withdraw the reports",
            stacklevel=3,
        )


@documented(options.SUITES)
def describe_suites(
    name: str | PathLike[str] | None = options.SUITE_NAME.default,
    *,
    tree: bool = options.TREE.default,
    where: str = options.WHERE.default,
) -> list[str]:
    """List the known suites, or show one: sizes, seeds, steps, tokens, licence and origin.

    What public reports say of a suite is shown with it.

    Args:
        {options}

    Returns:
        One text for each suite. Nothing is fetched for it, except for a tree.

    Raises:
        SelectionError: The suite or the selection is unknown.
        CheckpointError: The Hub does not answer when it is asked for steps.
        UsageError: A tree of all suites is asked for.
    """
    from headway.integrity.known import of_suite
    from headway.suites import known_suites
    from headway.suites.tree import tree as drawn

    if name is None:
        if tree:
            raise UsageError("--tree needs the name of one suite, such as `headway suites pythia --tree`")
        return [str(info) for info in known_suites()]
    suite = open_suite(name)
    reports = of_suite(suite.name) if suite.name == name else ()
    said = "\n".join([str(suite.describe()), *(f"  reported      {report}" for report in reports)])
    return [said, drawn(suite, where)] if tree else [said]


@documented(options.STATUS)
def status(directory: str | PathLike[str], *, verify: bool = options.VERIFY.default) -> list[Status]:
    """Say how far a sweep is, from its files alone.

    Args:
        {options}

    Returns:
        One `Status` for each table.

    Raises:
        RunDirectoryError: `directory` is not a run directory.
    """
    from headway import sweep

    return sweep.status(RunDirectory(directory), verify=verify)


@documented(options.PATTERN)
def pattern(
    suite: str | PathLike[str],
    *,
    run: str,
    step: str | int = options.PATTERN_STEP.default,
    layer: int,
    head: int,
    text: str,
    add_bos: bool = options.ADD_BOS.default,
    dtype: str = options.DTYPE.default,
    device: str = options.DEVICE.default,
    out: str | PathLike[str] | None = options.PATTERN_OUT.default,
) -> Pattern:
    """Show where one head looks in a text: its attention pattern.

    Args:
        {options}

    Returns:
        The tokens and the matrix (T, T), in float64.

    Raises:
        SelectionError: The suite, the run or the step is unknown.
        UsageError: There is no such layer or head, the text has no token or more than the model reads, or `out` is neither
            CSV nor Parquet.
        CheckpointError: The checkpoint cannot be read.
        UnsupportedModel: The model's attention cannot be read.
    """
    from headway import models, suites
    from headway.attention.patterns import Pattern, pattern_of
    from headway.store.files import require_table_name, write_table

    options.PATTERN.require(layer=layer, head=head)
    require_table_name(out)
    _require_runnable(dtype, device, None)
    checkpoints = open_suite(suite).checkpoints(f"run={run} step={step}")
    if len(checkpoints) != 1:
        raise UsageError(
            f"--run {run} and --step {step} name {len(checkpoints)} checkpoints: name one run and one step"
        )
    checkpoint = checkpoints[0]
    with suites.files(checkpoint, frozenset({"config", "weights", "tokenizer"})) as files:
        geometry = models.read_geometry(files.folder)
        geometry.require_causal("a pattern")
        tokenizer = models.load_tokenizer(files.tokenizer_folder)
        ids = tokenizer.encode(text)
        if add_bos:
            if tokenizer.bos_id is None:
                raise UsageError(f"the tokenizer of {checkpoint.key} has no BOS token: leave --add-bos out")
            ids = [tokenizer.bos_id, *ids]
        if not 0 < len(ids) <= geometry.context_length:
            raise UsageError(f"the text has {count(len(ids), 'token')}; the model reads 1 to {geometry.context_length}")
        model = models.load(files.folder, dtype=dtype, device=models.choose_device(device))
        matrix = pattern_of(model, ids, layer, head)
    found = Pattern(checkpoint.key, layer, head, tuple(tokenizer.decode([one]) for one in ids), matrix)
    if out is not None:
        write_table(found.frame, Path(out))
    return found


@documented(options.NANO_STATISTICS)
def nano_statistics(
    suite: str | PathLike[str],
    *,
    out: str | PathLike[str],
    force: bool = options.FORCE.default,
    progress: Progress | None = options.PROGRESS.default,
) -> int:
    """Describe what every run of a nano suite read, for the study of causes.

    The batches are drawn again from each run's recipe and seed. Their statistics, as means over the steps between two
    checkpoints, become the table `data` of the run directory.

    Args:
        {options}

    Returns:
        The number of rows.

    Raises:
        UsageError: `suite` is no folder of nano, or was made with another text; `out` is empty or a file.
        RunDirectoryError: `out` holds data of another suite, and `force` is not given.
        StorageError: `out` cannot be written to.
    """
    import polars as pl

    from headway import sweep, tables
    from headway.nano.replay import between_checkpoints

    require_folder(out)
    opened = open_suite(suite)
    first = {checkpoint.run: checkpoint for checkpoint in reversed(opened.checkpoints(""))}
    progress = progress or Silent()
    progress.start(f"data of {opened.name}", len(first))
    frames = []
    for run, checkpoint in first.items():
        seen = between_checkpoints(Path(suite).expanduser() / run)
        columns = {name: pl.lit(value) for name, value in checkpoint.columns.items() if name != "step"}
        frames.append(seen.with_columns(**columns))
        progress.advance(note=run)
    types = tables.schema(tables.DATA_COLUMNS, opened.axes)
    frame = pl.concat(frames).select(pl.col(name).cast(dtype) for name, dtype in types.items())
    identity = {"suite": opened.name, "rows": str(frame.hash_rows().sum())}
    rundir = of_suite(RunDirectory(out), opened.name, ["data"])
    sweep.store(frame, "data", rundir, identity=identity, asked={"suite": str(suite)}, force=force)
    return frame.height


@documented(options.PATTERNS)
def patterns(
    suite: str | PathLike[str],
    *,
    out: str | PathLike[str],
    where: str = options.WHERE_LAST.default,
    corpus: str | None = options.FIRST_TEXTS.default,
    n_texts: int = options.PATTERN_TEXTS.default,
    repeated_length: int = options.PATTERN_REPEATED.default,
    heads: Sequence[str] = options.PATTERN_HEADS.default,
    add_bos: bool = options.ADD_BOS.default,
    dtype: str = options.DTYPE.default,
    device: str = options.DEVICE.default,
    keep_files: bool = options.KEEP_FILES.default,
    executor: Executor | None = options.EXECUTOR.default,
    force: bool = options.FORCE.default,
    progress: Progress | None = options.PROGRESS.default,
) -> Summary:
    """Keep attention patterns on a few texts, for the viewer in the report.

    They become the table `patterns` of the run directory. A text is read up to its token 128.

    Args:
        {options}

    Returns:
        How many checkpoints were computed and reused, and which ones failed.

    Raises:
        SelectionError: The suite, a size, a seed or a step is unknown.
        CorpusError: The corpus cannot be read.
        UsageError: `out` is empty or a file, or another value is not one that can be asked for.
        RunDirectoryError: `out` holds patterns of other settings, and `force` is not given.
        StorageError: `out` cannot be written to.
    """
    from headway import sweep
    from headway.attention.pattern_job import KeptPatterns, named_heads
    from headway.corpora import open_corpus

    require_folder(out)
    _require_runnable(dtype, device, executor)
    options.PATTERNS.require(n_texts=n_texts, repeated_length=repeated_length)
    names = _each(heads)
    named_heads(names)  # before anything is fetched
    opened = open_suite(suite)
    corpus = corpus or opened.corpus or "nano"
    job = KeptPatterns(
        open_corpus(corpus),
        n_texts=n_texts,
        repeated_length=repeated_length,
        heads=names,
        add_bos=add_bos,
        dtype=dtype,
        device=device,
        keep_files=keep_files,
    )
    asked = _asked(suite, where, device=device, executor=executor, corpus=corpus) | _sheets(job.corpus)
    checkpoints = opened.checkpoints(where, progress)
    return sweep.run(
        job, checkpoints, RunDirectory(out), asked=asked, executor=executor, force=force, progress=progress
    )


@documented(options.DEMO)
def demo(
    out: str | PathLike[str] = options.DEMO_OUT.default, *, progress: Progress | None = options.PROGRESS.default
) -> tuple[Mapping[str, Result], Path]:
    """Train the nano suite, measure and cluster it, intervene, relate heads, analyse, and write the report.

    A first report, of the smallest models alone, is written before the others are trained.

    `report` on the same directory writes each figure as SVG and PNG, too.

    Args:
        {options}

    Returns:
        The results by study, and the path of the report.

    Raises:
        UsageError: `out` is empty or a file.
        CheckpointError: A checkpoint could not be measured.
        StorageError: `out` or the cache cannot be written to.
    """
    from headway.devices import cores
    from headway.sweep import Processes

    require_folder(out)
    progress = progress or Silent()
    sizes = open_suite("nano").describe().sizes
    to_measure: dict[str, Any] = {
        "scores": (*options.SCORES.default, "induction"),
        "abilities": ("loss", "repeat"),
    }
    studied = ("prev_self_ratio", "induction")
    with Processes(min(cores(), _DEMO_WORKERS)) as workers:
        spread: dict[str, Any] = {"executor": workers, "progress": progress}
        work = {"out": out, **spread}
        if "heads" not in RunDirectory(out).tables():
            _require_whole(measure("nano", where=f"size={sizes[0]}", **to_measure, **work))
            analyze(out, scores=studied, **spread)
            first = report(out, figures=False, progress=progress)
            progress.say(f"a first report, of the smallest of {count(len(sizes), 'size')}, can be opened now: {first}")
        _require_whole(measure("nano", **to_measure, **work))
        # Two seeds, to see whether they agree.
        _require_whole(cluster("nano", where="seed=1,2 step=0,160,last", **work))
        of_clusters: dict[str, Any] = {"where": "seed=1 step=last", "n_texts": 8, "controls": 20}
        of_heads: dict[str, Any] = {
            "where": "step=last",
            "heads": "top 1 by induction",
            "n_texts": 4,
            "controls": 20,
        }
        for summary in (*intervene("nano", **of_clusters, **work), *intervene("nano", **of_heads, **work)):
            _require_whole(summary)
        _require_whole(relate("nano", relations=("composition",), where=_DEMO_STEPS, **work)[0])
        to_induction: dict[str, Any] = {"senders": "role=previous-token at last", "receivers": "role=induction at last"}
        _require_whole(relate("nano", relations=("paths",), where="step=last", n_texts=8, **to_induction, **work)[0])
        _require_whole(describe("nano", where="step=0,last", **work))
        _require_whole(patterns("nano", where=f"seed=1 {_DEMO_STEPS}", **work))
        results = analyze(out, scores=studied, **spread)
    # Drawing each figure as SVG and PNG, too, takes twice as long as the report itself.
    return results, report(out, figures=False, progress=progress)


_DEMO_STEPS = "step=0,160,208,256,last"
_DEMO_WORKERS = 4  # each takes half a gigabyte for torch; the demo has work for no more


def _require_whole(summary: Summary) -> None:
    for outcome in summary.failed:
        raise CheckpointError(f"{count(len(summary.failed), 'checkpoint')} failed; the first: {outcome.error}")
