"""What can be known of a suite without reading it: from the names, sizes and hashes of its files.

Revisions with equal weights, missing and odd-sized files, steps that are absent. Nothing is downloaded.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from headway.errors import CheckpointError
from headway.progress import Progress, Silent
from headway.store.files import require_regular
from headway.suites import hub
from headway.suites.checkpoint import Checkpoint, FolderSource, HubSource
from headway.suites.files import content_digest, identity, names_in
from headway.suites.hub_answers import FileFacts
from headway.suites.hub_http import Unreachable
from headway.suites.selection import CONFIG, WEIGHTS, deciding, tokenizer_files
from headway.suites.suite import Suite

S = TypeVar("S")
T = TypeVar("T")

# Files of equal tensors differ by their headers: safetensors' by a few words, a .bin's by names for each tensor.
_HEADERS = {"safetensors": 1024, "bin": 65536}

# What each kind of finding means, and what it does not: for reports.
MEANING = {
    "equal_weights": "The weights are the same, by their files’ hashes or by every entry that was compared. Which of the "
    "steps is right is not known.",
    "equal_shard": "A file of the weights is also a file of another step’s weights, although the others of these steps "
    "differ: a part of the weights is of another step. Which of the two is right is not known.",
    "other_settings": "The step’s config.json or tokenizer differs from that of the run’s other steps in what decides its "
    "numbers, so the steps are not comparable.",
    "missing_revision": "The step belongs to the suite’s grid, but its repository does not hold it.",
    "missing_files": "A file that is needed is not among those listed, or lies there in another form than the others.",
    "odd_size": "The weights’ files are longer or shorter than at the run’s other steps: cut off, of another precision, "
    "or of another model.",
    "absent_step": "Most runs of the suite have this step and this run does not; it cannot be compared there.",
    "odd_shape": "The step’s tensors are not those of the run’s other steps. They may be of another model, or only saved "
    "in another way.",
    "not_finite": "The weights hold NaN or infinities: the run diverged, or the file is damaged.",
    "out_of_place": "The weights lie nearer to the run’s end than their step allows. Distances are between the directions "
    "of samples of each matrix: 0 is the same, 1.41 unrelated. The wider they differ, the stronger the finding; a run that "
    "went astray and came back can look the same.",
    "not_from_own_start": "The weights do not resemble the run’s own initialisation as later steps of a run do: step 0, "
    "or the steps named, may be of another run.",
    "unreadable": "The step is stated to be there, and its files could not be looked at, or its weights not be read.",
    "not_read": "The weights could not be fetched, which says nothing about them.",
}


@dataclass(frozen=True)
class Finding:
    """Something about one run that a reader of its numbers should know.

    Attributes:
        kind: one of `MEANING`.
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
    """What is stated of one checkpoint's files.

    Attributes:
        weights: their identity; empty where they are missing.
        shards: the digests of the files of the weights by name.
        tokenizer: the digests of the tokenizer's files by name; empty where it has none of its own.
        config: the digest of config.json; `settings` is what it says that decides numbers, known where it differs from
            that of the run's other steps.
        reference: whether it was not selected, and is here for the others to be compared with.
        first: whether it is its run's first step.
    """

    checkpoint: Checkpoint
    reference: bool = False
    first: bool = False
    weights: str = ""
    form: str = ""
    n_bytes: int = 0
    problems: tuple[tuple[str, str], ...] = ()
    shards: Mapping[str, str] = field(default_factory=dict)
    tokenizer: Mapping[str, str] = field(default_factory=dict)
    config: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


def stated_facts(suite: Suite, where: str = "", *, progress: Progress | None = None) -> list[Facts]:
    """What is stated of the files of each selected checkpoint, and of each run's last step, which others are compared
    with; one question to the Hub for each.

    Raises:
        SelectionError: the selection names something unknown.
        CheckpointError: the Hub is out of reach.
    """
    selected = suite.checkpoints(where)
    runs = ",".join(dict.fromkeys(checkpoint.run for checkpoint in selected))
    firsts = set(suite.checkpoints(f"run={runs} step=first") if runs else ())
    lasts = suite.checkpoints(f"run={runs} step=last") if runs else ()
    asked = set(selected)
    checkpoints = sorted({*selected, *lasts}, key=_order(selected))
    progress = progress or Silent()
    progress.start(f"files of {suite.name}", len(checkpoints))
    facts = []
    with in_threads(8, _facts, checkpoints) as answers:
        for found in answers:
            c = found.checkpoint
            facts.append(replace(found, reference=c not in asked, first=c in firsts))
            progress.advance(1, c.key)
    return _with_settings(facts)


def _with_settings(facts: Sequence[Facts]) -> list[Facts]:
    """Reads config.json of the runs in which it differs between steps, each content once."""
    configs: dict[str, set[str]] = defaultdict(set)
    for fact in facts:
        configs[fact.checkpoint.run].add(fact.config)
    read: dict[str, Mapping[str, Any]] = {}
    found = []
    for fact in facts:
        if fact.config and len(configs[fact.checkpoint.run] - {""}) > 1:
            if fact.config not in read:
                read[fact.config] = _settings(fact.checkpoint)
            fact = replace(fact, settings=read[fact.config])
        found.append(fact)
    return found


def _settings(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """What the checkpoint's config.json says that decides numbers; nothing where it cannot be read."""
    source = checkpoint.source
    try:
        if isinstance(source, FolderSource):
            path = source.path / CONFIG
        else:
            path = hub.fetch(source.repo, source.revision, hub.list_files(source.repo, source.revision), CONFIG)
        told = json.loads(path.read_text(encoding="utf-8"))
        return deciding(told)
    except (CheckpointError, OSError, ValueError, AttributeError, RecursionError):
        return {}  # damage is found where the checkpoint is used


@contextmanager
def in_threads(threads: int, function: Callable[[S], T], items: Iterable[S]) -> Iterator[Iterator[T]]:
    """`map(function, items)`, done by several threads; what was not begun when the block ends never is."""
    pool = ThreadPoolExecutor(threads)
    try:
        yield pool.map(function, items)
    finally:
        pool.shutdown(cancel_futures=True)


def _order(selected: Sequence[Checkpoint]) -> Callable[[Checkpoint], tuple[int, int]]:
    """By run, as selected, then by step."""
    place = {run: i for i, run in enumerate(dict.fromkeys(checkpoint.run for checkpoint in selected))}
    return lambda checkpoint: (place[checkpoint.run], checkpoint.step)


def _facts(checkpoint: Checkpoint) -> Facts:
    try:
        files = _stated(checkpoint)
    except Unreachable:
        raise
    except CheckpointError as error:
        # Only the Hub's own word makes a revision missing: a gated repository or a failing server does not.
        kind = "missing_revision" if _is_missing(error) else "unreadable"
        return Facts(checkpoint, problems=((kind, str(error).removeprefix(f"{checkpoint.source}: ")),))
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
        shards=digests if whole else {},
        tokenizer={name: files[name].digest for name in _TOKENS & set(files)},
        config=files[CONFIG].digest if CONFIG in files else "",
    )


# The files of a tokenizer that decide which tokens a text has.
_TOKENS = frozenset({"tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt"})


def _is_missing(error: CheckpointError) -> bool:
    from huggingface_hub.errors import RevisionNotFoundError

    return isinstance(error.__cause__, RevisionNotFoundError)


def _stated(checkpoint: Checkpoint) -> Mapping[str, FileFacts]:
    source = checkpoint.source
    if isinstance(source, FolderSource):
        paths = [source.path / name for name in names_in(source.path)]
        return {path.name: FileFacts(path.stat().st_size, _digest_of(path)) for path in paths}
    return hub.ask_for_files(source.repo, source.revision).files


def _digest_of(path: Path) -> str:
    """The digest of a file that decides something, empty for others.

    Raises:
        CheckpointError: it is a pipe or device, or cannot be read.
    """
    if path.suffix not in (".safetensors", ".bin") and path.name not in {CONFIG, *_TOKENS}:
        return ""
    try:
        require_regular(path)
        return content_digest(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error


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
        last = max(fact.checkpoint.step for fact in own)
        findings += equal_in_run(run, _groups(own, lambda fact: fact.checkpoint.step), last)
        findings += _equal_shards(run, own, last)
        findings += _other_settings(run, own)
    findings += _absent(by_run)
    findings += equal_across_runs(by_run)
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


def usual(values: Sequence[T]) -> T:
    """The most common of a run's values; of those that are as common, the one that comes last."""
    return Counter(reversed(values)).most_common(1)[0][0]


def _odd_sizes(run: str, facts: Iterable[Facts]) -> Iterator[Finding]:
    by_form: dict[str, list[Facts]] = defaultdict(list)
    for fact in facts:
        if fact.weights:
            by_form[fact.form].append(fact)
    for form, alike in by_form.items():
        expected = usual([fact.n_bytes for fact in alike])
        odd: dict[int, list[int]] = defaultdict(list)
        for fact in alike:
            if abs(fact.n_bytes - expected) > _HEADERS[form]:
                odd[fact.n_bytes].append(fact.checkpoint.step)
        for n_bytes, steps in odd.items():
            said = f"{steps_in_words(steps)}: weights of {n_bytes:,} bytes, where the run's others have {expected:,}"
            if min(abs(2 * n_bytes - expected), abs(n_bytes - 2 * expected)) <= 2 * _HEADERS[form]:
                said += "; as if saved in another precision"
            yield Finding("odd_size", run, tuple(steps), said)
    if len(by_form) > 1:
        rarer = min(by_form.values(), key=len)
        found = tuple(fact.checkpoint.step for fact in rarer)
        message = (
            f"{steps_in_words(found)} as .{rarer[0].form}, the others not; whether weights are equal between the two "
            "is seen only by a deep audit"
        )
        yield Finding("missing_files", run, found, message, note=True)


def equal_in_run(run: str, groups: Iterable[list[int]], last: int, although: str = "") -> Iterator[Finding]:
    """What is to be said of each group of steps whose weights are equal.

    Args:
        last: the run's last step.
        although: what makes that remarkable.
    """
    for steps in groups:
        note, found = False, steps
        if steps == [0, 1]:
            note = True
            said = f"steps 0 and 1 have equal weights{although}, as they must where the first step's learning rate is 0"
        elif steps[-1] == last:
            found = steps[:-1]
            said = f"{steps_in_words(found)} with the weights of the last step, {last}{although}"
        else:
            right = "only steps 0 and 1 can both be right" if steps[:2] == [0, 1] else "at most one of them is right"
            said = f"{steps_in_words(steps)} have equal weights{although}: {right}"
        yield Finding("equal_weights", run, tuple(found), said, note=note)


def _equal_shards(run: str, facts: Sequence[Facts], last: int) -> Iterator[Finding]:
    """Files that two steps share although others of theirs differ: a part of the weights is of another step."""
    holders: dict[str, dict[int, str]] = defaultdict(dict)
    weights = {fact.checkpoint.step: fact.weights for fact in facts}
    for fact in facts:
        for name, digest in fact.shards.items() if len(fact.shards) > 1 else ():
            holders[digest].setdefault(fact.checkpoint.step, name)
    for held in holders.values():
        steps = sorted(held)
        if len({weights[step] for step in steps}) < 2 or steps == [0, 1]:
            continue
        names = dict.fromkeys(held[step] for step in steps)
        same = f"{' and '.join(names)} of {steps_in_words(steps)} {'is' if len(names) == 1 else 'are'} one and the same file"
        if steps[-1] == last:
            said = f"{same}, although other files of their weights differ: a part of the last step stands at the others"
            yield Finding("equal_shard", run, tuple(steps[:-1]), said)
        else:
            said = f"{same}, although other files of their weights differ: at most one of these steps is right"
            yield Finding("equal_shard", run, tuple(steps), said)


def _other_settings(run: str, facts: Sequence[Facts]) -> Iterator[Finding]:
    """Settings of config.json, and tokenizers, that differ between the steps of a run. Most steps are taken to be right."""
    told = [(fact.checkpoint.step, fact.settings) for fact in facts if fact.settings]
    for name in sorted({name for _, settings in told for name in settings}):
        yield from _differing(run, name, {step: json.dumps(own.get(name), sort_keys=True) for step, own in told})
    for name in sorted({name for fact in facts for name in fact.tokenizer}):
        digests = {fact.checkpoint.step: fact.tokenizer[name] for fact in facts if name in fact.tokenizer}
        yield from _differing(run, name, digests, shown=False)


def _differing(run: str, name: str, values: Mapping[int, str], shown: bool = True) -> Iterator[Finding]:
    if len(set(values.values())) < 2:
        return
    common = usual([values[step] for step in sorted(values)])
    odd: dict[str, list[int]] = defaultdict(list)
    for step in sorted(values):
        if values[step] != common:
            odd[values[step]].append(step)
    for value, steps in odd.items():
        said = (
            f"{name} is {_cut(value)}, where the run's others have {_cut(common)}"
            if shown
            else f"another {name} than the run's others"
        )
        yield Finding("other_settings", run, tuple(steps), f"{steps_in_words(steps)}: {said}")


def _cut(value: str) -> str:
    return value if len(value) <= 60 else f"{value[:59]}…"


def equal_across_runs(by_run: Mapping[str, Sequence[Facts]], although: str = "") -> Iterator[Finding]:
    """What is to be said of runs that share weights. `although` says what makes that remarkable."""
    firsts = {(run, fact.checkpoint.step) for run, facts in by_run.items() for fact in facts if fact.first}
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
        # Where the first step's learning rate is 0, step 1 is the start as well.
        begins = all(step == 1 or (run, step) in firsts for steps in found for run in steps for step in steps[run])
        for run in runs:
            own = sorted(step for steps in found for step in steps[run])
            others = ", ".join(other for other in runs if other != run)
            said = f"{'begins with' if begins else 'has'} the weights of {others}{although}"
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
    selected = {run: {fact.checkpoint.step for fact in facts if not fact.reference} for run, facts in by_run.items()}
    count = Counter(step for steps in selected.values() for step in steps)
    common = {step for step, runs in count.items() if 2 * runs > len(by_run)}
    for run, facts in by_run.items():
        absent = sorted(common - {fact.checkpoint.step for fact in facts})
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
