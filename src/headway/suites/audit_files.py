"""What can be known of a suite without reading it: from the names, sizes and hashes of its files.

Revisions with equal weights, missing and odd-sized files, steps that are absent. Nothing is downloaded.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from headway.errors import CheckpointError
from headway.progress import Progress, Silent
from headway.suites import hub
from headway.suites.checkpoint import Checkpoint, FolderSource, HubSource
from headway.suites.files import content_digest, identity, names_in
from headway.suites.selection import CONFIG, WEIGHTS, tokenizer_files
from headway.suites.suite import Suite

# Files of equal tensors differ by their headers: safetensors' by a few words, a .bin's by names for each tensor.
_HEADERS = {"safetensors": 1024, "bin": 65536}


@dataclass(frozen=True)
class Finding:
    """Something about one run that a reader of its numbers should know.

    Attributes:
        kind: `equal_weights`, `missing_revision`, `missing_files`, `odd_size`, `absent_step`; of the weights:
            `not_finite`, `out_of_place`, `not_from_own_start`, `unreadable`.
        steps: the steps that it concerns; those to be warned of when they are measured, unless it is a note.
        note: whether it is as it should be, and only good to know.
    """

    kind: str
    run: str
    steps: tuple[int, ...]
    message: str
    note: bool = False


@dataclass(frozen=True)
class Facts:
    """What is stated of one checkpoint's files. `weights` is empty where they are missing."""

    checkpoint: Checkpoint
    weights: str = ""
    form: str = ""
    n_bytes: int = 0
    problems: tuple[tuple[str, str], ...] = ()


def stated_facts(suite: Suite, where: str = "", *, progress: Progress | None = None) -> list[Facts]:
    """What is stated of the files of each selected checkpoint; one question to the Hub for each.

    Raises:
        SelectionError: the selection names something unknown.
        CheckpointError: the Hub is out of reach.
    """
    checkpoints = suite.checkpoints(where)
    progress = progress or Silent()
    progress.start(f"files of {suite.name}", len(checkpoints))
    facts = []
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(_facts, checkpoints):
            facts.append(found)
            progress.advance(1, found.checkpoint.key)
    return facts


def _facts(checkpoint: Checkpoint) -> Facts:
    try:
        files = _stated(checkpoint)
    except hub.Unreachable:
        raise
    except CheckpointError as error:
        return Facts(checkpoint, problems=(("missing_revision", str(error).removeprefix(f"{checkpoint.source}: ")),))
    names, missing = _weights(files)
    problems = []
    if CONFIG not in files:
        problems.append(("missing_files", f"no {CONFIG}"))
    if missing or not names:
        problems.append(("missing_files", f"no {', '.join(missing)}" if missing else "no weights"))
    if isinstance(checkpoint.source, HubSource) and not tokenizer_files(files):
        problems.append(("no_tokenizer", "no tokenizer of its own"))
    if empty := [name for name in names if files[name].size == 0]:
        problems.append(("odd_size", f"{', '.join(empty)} is empty"))
    whole = bool(names) and not missing
    digests = {name: files[name].digest for name in names}
    return Facts(
        checkpoint,
        weights=identity(digests) if whole else "",
        form=names[0].rpartition(".")[2] if names else "",
        n_bytes=sum(files[name].size for name in names) if whole else 0,
        problems=tuple(problems),
    )


def _stated(checkpoint: Checkpoint) -> Mapping[str, hub.FileFacts]:
    source = checkpoint.source
    if isinstance(source, FolderSource):
        paths = [source.path / name for name in names_in(source.path)]
        large = {path for path in paths if f".{path.suffix[1:]}" in (".safetensors", ".bin")}
        return {
            path.name: hub.FileFacts(path.stat().st_size, content_digest(path) if path in large else "")
            for path in paths
        }
    return hub.ask_for_files(source.repo, source.revision).files


def _weights(names: Collection[str]) -> tuple[list[str], list[str]]:
    """The files of the weights that are there, and those that are missing: a shard's name says how many there are."""
    for whole in WEIGHTS:
        if whole in names:
            return [whole], []
        stem, _, ending = whole.rpartition(".")
        shards = [found for name in names if (found := re.fullmatch(rf"{stem}-(\d+)-of-(\d+)\.{ending}", name))]
        if shards:
            count, width = int(shards[0][2]), len(shards[0][1])
            all_of_them = [f"{stem}-{i:0{width}}-of-{shards[0][2]}.{ending}" for i in range(1, count + 1)]
            missing = [name for name in [*all_of_them, f"{whole}.index.json"] if name not in names]
            return [name for name in all_of_them if name in names], missing
        if f"{whole}.index.json" in names:
            return [], ["any shard of its index"]
    return [], []


# --- from facts to findings -----------------------------------------------------------------------------------------


def find(facts: Sequence[Facts]) -> list[Finding]:
    """What the facts give reason to say, run by run."""
    by_run: dict[str, list[Facts]] = defaultdict(list)
    for fact in facts:
        by_run[fact.checkpoint.run].append(fact)
    findings: list[Finding] = []
    for run, own in by_run.items():
        findings += _problems(run, own)
        findings += _odd_sizes(run, own)
        findings += _equal_in_run(run, own)
    findings += _absent(by_run)
    findings += _equal_across_runs(by_run)
    return findings


def _problems(run: str, facts: Iterable[Facts]) -> Iterator[Finding]:
    steps: dict[tuple[str, str], list[int]] = defaultdict(list)
    for fact in facts:
        for kind, message in fact.problems:
            steps[kind, message].append(fact.checkpoint.step)
    for (kind, message), found in steps.items():
        if kind == "no_tokenizer":
            said = f"{steps_in_words(found)} without a tokenizer; another revision's is used"
            yield Finding("missing_files", run, tuple(found), said, note=True)
        else:
            yield Finding(kind, run, tuple(found), f"{steps_in_words(found)}: {message}")


def _odd_sizes(run: str, facts: Iterable[Facts]) -> Iterator[Finding]:
    by_form: dict[str, list[Facts]] = defaultdict(list)
    for fact in facts:
        if fact.weights:
            by_form[fact.form].append(fact)
    for form, alike in by_form.items():
        usual = Counter(fact.n_bytes for fact in alike).most_common(1)[0][0]
        for fact in alike:
            if abs(fact.n_bytes - usual) > _HEADERS[form]:
                step = fact.checkpoint.step
                message = f"step {step}: weights of {fact.n_bytes:,} bytes, where the run's others have {usual:,}"
                yield Finding("odd_size", run, (step,), message)
    if len(by_form) > 1:
        rarer = min(by_form.values(), key=len)
        found = tuple(fact.checkpoint.step for fact in rarer)
        message = (
            f"{steps_in_words(found)} as .{rarer[0].form}, the others not; equal weights are not seen between the two"
        )
        yield Finding("missing_files", run, found, message, note=True)


def _equal_in_run(run: str, facts: Sequence[Facts]) -> Iterator[Finding]:
    last = max(fact.checkpoint.step for fact in facts)
    for steps in _groups(facts, lambda fact: fact.checkpoint.step):
        if steps == [0, 1]:
            said = "steps 0 and 1 have equal weights, as they must where the first step's learning rate is 0"
            yield Finding("equal_weights", run, (0, 1), said, note=True)
        elif steps[-1] == last:
            said = f"{steps_in_words(steps[:-1])} with the weights of the last step, {last}"
            yield Finding("equal_weights", run, tuple(steps[:-1]), said)
        else:
            said = f"{steps_in_words(steps)} have equal weights: at most one of them is right"
            yield Finding("equal_weights", run, tuple(steps), said)


def _equal_across_runs(by_run: Mapping[str, Sequence[Facts]]) -> Iterator[Finding]:
    starts = {(run, min(fact.checkpoint.step for fact in facts)) for run, facts in by_run.items()}
    shared: dict[tuple[str, ...], list[dict[str, list[int]]]] = defaultdict(list)
    for keys in _groups(
        [fact for facts in by_run.values() for fact in facts], lambda fact: (fact.checkpoint.run, fact.checkpoint.step)
    ):
        steps: dict[str, list[int]] = defaultdict(list)
        for run, step in keys:
            steps[run].append(step)
        if len(steps) > 1:
            shared[tuple(sorted(steps))].append(steps)
    for runs, found in shared.items():
        for run in runs:
            own = sorted(step for steps in found for step in steps[run])
            others = ", ".join(other for other in runs if other != run)
            begins = all((name, min(steps[name])) in starts for steps in found for name in runs) and own[-1] <= 1
            said = f"shares its initialisation with {others}" if begins else f"has the weights of {others}"
            yield Finding("equal_weights", run, tuple(own), f"{steps_in_words(own)}: {run} {said}", note=begins)


def _groups(facts: Iterable[Facts], label: Callable[[Facts], Any]) -> list[list[Any]]:
    """The labels of facts with equal weights, where there are two or more."""
    groups: dict[str, list[Any]] = defaultdict(list)
    for fact in facts:
        if fact.weights:
            groups[fact.weights].append(label(fact))
    return [sorted(group) for group in groups.values() if len(group) > 1]


def _absent(by_run: Mapping[str, Sequence[Facts]]) -> Iterator[Finding]:
    """Steps that most runs have. (A grid that is known by name shows as revisions that are missing.)"""
    count = Counter(fact.checkpoint.step for facts in by_run.values() for fact in facts)
    usual = {step for step, runs in count.items() if 2 * runs > len(by_run)}
    for run, facts in by_run.items():
        absent = sorted(usual - {fact.checkpoint.step for fact in facts})
        if absent:
            said = f"{steps_in_words(absent)} absent, which most runs of the suite have"
            yield Finding("absent_step", run, tuple(absent), said)


def steps_in_words(steps: Sequence[int]) -> str:
    """`step 5`, `steps 1, 2 and 4`, or `76 steps, from 0 to 140000`."""
    if len(steps) == 1:
        return f"step {steps[0]}"
    if len(steps) <= 6:
        return f"steps {', '.join(map(str, steps[:-1]))} and {steps[-1]}"
    return f"{len(steps)} steps, from {min(steps)} to {max(steps)}"
