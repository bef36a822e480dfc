"""Find faults of a suite from the names, sizes and hashes of its files, without downloading them.

These are revisions with equal weights, missing files, odd sizes and missing steps.
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
from headway.suites.selection import CONFIG, TOKEN_FILES, WEIGHTS, deciding, tokenizer_files
from headway.suites.suite import Suite

S = TypeVar("S")
T = TypeVar("T")

# Files with equal tensors may differ in their headers: safetensors by a few words, .bin by names for each tensor.
_HEADERS = {"safetensors": 1024, "bin": 65536}

# Explanations of each kind of finding, for reports.
MEANING = {
    "equal_weights": "The weights of several steps are equal, by their files’ hashes or by every compared entry. It is "
    "not known which step is right.",
    "equal_shard": "Two steps share a file of their weights although their other files differ, so some layers belong to "
    "another step. It is not known which step is right.",
    "other_settings": "The step’s config.json or tokenizer differs from the run’s other steps in a way that affects its "
    "numbers, so the steps are not comparable.",
    "missing_revision": "The step belongs to the suite’s grid, but its repository does not hold it.",
    "missing_files": "A needed file is not listed, or has another format than at the other steps.",
    "odd_size": "The weights’ files are longer or shorter than at the run’s other steps: truncated, of another precision, "
    "or of another model.",
    "absent_step": "Most runs of the suite have this step, but this run does not. It cannot be compared there.",
    "odd_shape": "The step’s tensors differ in name or shape from the run’s other steps. They may belong to another model, "
    "or may only have been saved in another way.",
    "not_finite": "The weights hold NaN or infinities: the run diverged, or the file is damaged.",
    "out_of_place": "The weights are closer to the run’s end than their step allows. Distances compare the directions of "
    "samples of each matrix: 0 means equal, 1.41 unrelated. Larger gaps are stronger evidence. A run that drifted away and "
    "came back can look the same.",
    "not_from_own_start": "The weights do not resemble the run’s own initialisation as later steps normally do. Step 0, "
    "or the named steps, may belong to another run.",
    "odd_loss": "The loss on the measured text is larger or smaller than both before and after the step, by more than the "
    "noise of the run explains. The weights may belong to another step, or training was unstable there.",
    "unreadable": "The step is listed, but its files could not be inspected or its weights could not be read.",
    "not_read": "The weights could not be downloaded. This says nothing about them.",
}


@dataclass(frozen=True)
class Finding:
    """A fact about one run that readers of its numbers should know.

    Attributes:
        kind: one of `MEANING`.
        steps: the affected steps. Measuring them gives a warning, unless the finding is a note.
        note: whether the finding is expected and only for information.
    """

    kind: str
    run: str
    steps: tuple[int, ...]
    message: str
    note: bool = False


@dataclass(frozen=True)
class Facts:
    """Stated facts about one checkpoint's files.

    Attributes:
        weights: identity of the weights; empty if they are missing.
        shards: digests of the weight files by name.
        tokenizer: digests of the tokenizer's files by name; empty if the checkpoint has no tokenizer.
        config: digest of config.json.
        settings: settings in config.json that affect numbers. They are read only for runs whose steps have different
            config.json files.
        reference: whether the checkpoint was not selected and only serves for comparison.
        first: whether it is the first step of its run.
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
    """Return the stated facts of each selected checkpoint, and of each run's last step for comparison.

    It sends one request per checkpoint to the Hub.

    Raises:
        SelectionError: the selection names something unknown.
        CheckpointError: the Hub cannot be reached.
    """
    selected = suite.checkpoints(where, progress)
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
    """Read config.json in the runs whose steps have different ones, each distinct file once."""
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
    """Settings in the checkpoint's config.json that affect numbers; empty if the file cannot be read."""
    source = checkpoint.source
    try:
        if isinstance(source, FolderSource):
            path = source.path / CONFIG
        else:
            path = hub.fetch(source.repo, source.revision, hub.list_files(source.repo, source.revision), CONFIG)
        told = json.loads(path.read_text(encoding="utf-8"))
        return deciding(told)
    except (CheckpointError, OSError, ValueError, AttributeError, RecursionError):
        return {}  # a damaged file gives an error when the checkpoint is used


@contextmanager
def in_threads(threads: int, function: Callable[[S], T], items: Iterable[S]) -> Iterator[Iterator[T]]:
    """`map(function, items)` in several threads. Items that have not started when the block ends are cancelled."""
    pool = ThreadPoolExecutor(threads)
    try:
        yield pool.map(function, items)
    finally:
        pool.shutdown(cancel_futures=True)


def _order(selected: Sequence[Checkpoint]) -> Callable[[Checkpoint], tuple[int, int]]:
    """Sort key: runs as selected, then steps."""
    place = {run: i for i, run in enumerate(dict.fromkeys(checkpoint.run for checkpoint in selected))}
    return lambda checkpoint: (place[checkpoint.run], checkpoint.step)


def _facts(checkpoint: Checkpoint) -> Facts:
    try:
        files = _stated(checkpoint)
    except Unreachable:
        raise
    except CheckpointError as error:
        # A revision counts as missing only if the Hub says so, not if a repository is gated or a server fails.
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
        tokenizer={name: files[name].digest for name in TOKEN_FILES & set(files)},
        config=files[CONFIG].digest if CONFIG in files else "",
    )


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
    """Digest of a file that affects numbers; empty for other files.

    Raises:
        CheckpointError: the file is a pipe or a device, or cannot be read.
    """
    if path.suffix not in (".safetensors", ".bin") and path.name not in {CONFIG, *TOKEN_FILES}:
        return ""
    try:
        require_regular(path)
        return content_digest(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error


def _weights(names: Collection[str]) -> tuple[list[str], list[str]]:
    """Names of present and of missing weight files. The name of a shard states the number of shards."""
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


# --- findings -------------------------------------------------------------------------------------------------------


def find(facts: Sequence[Facts]) -> list[Finding]:
    """Return the findings that follow from the facts, ordered by run."""
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
            said = f"{steps_in_words(found)} without a tokenizer; the tokenizer of another revision is used"
            yield Finding("missing_files", run, tuple(found), said, note=True)
        else:
            yield Finding(kind, run, tuple(found), f"{steps_in_words(found)}: {message}")


def usual(values: Sequence[T]) -> T:
    """The most common value of a run. Ties go to the latest."""
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
            said = f"{steps_in_words(steps)}: weights of {n_bytes:,} bytes, but the run's other steps have {expected:,}"
            if min(abs(2 * n_bytes - expected), abs(n_bytes - 2 * expected)) <= 2 * _HEADERS[form]:
                said += ", which suggests another precision"
            yield Finding("odd_size", run, tuple(steps), said)
    if len(by_form) > 1:
        rarer = min(by_form.values(), key=len)
        found = tuple(fact.checkpoint.step for fact in rarer)
        message = (
            f"{steps_in_words(found)} as .{rarer[0].form}, unlike the others; only a deep audit can compare weights "
            "between the two formats"
        )
        yield Finding("missing_files", run, found, message, note=True)


def equal_in_run(run: str, groups: Iterable[list[int]], last: int, although: str = "") -> Iterator[Finding]:
    """Findings for groups of steps with equal weights.

    Args:
        last: the run's last step.
        although: a clause that is added to the message.
    """
    for steps in groups:
        note, found = False, steps
        if steps == [0, 1]:
            note = True
            said = f"steps 0 and 1 have equal weights{although}, as expected if the first step's learning rate is 0"
        elif steps[-1] == last:
            found = steps[:-1]
            has = "has" if len(found) == 1 else "have"
            said = f"{steps_in_words(found)} {has} the weights of the last step, {last}{although}"
        else:
            right = "only steps 0 and 1 can both be right" if steps[:2] == [0, 1] else "at most one of them is right"
            said = f"{steps_in_words(steps)} have equal weights{although}: {right}"
        yield Finding("equal_weights", run, tuple(found), said, note=note)


def _equal_shards(run: str, facts: Sequence[Facts], last: int) -> Iterator[Finding]:
    """Findings for files that steps share although their other weight files differ."""
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
        same = f"{' and '.join(names)} of {steps_in_words(steps)} {'is' if len(names) == 1 else 'are'} the same file"
        if steps[-1] == last:
            said = f"{same}, although other files of their weights differ: the others hold a part of the last step"
            yield Finding("equal_shard", run, tuple(steps[:-1]), said)
        else:
            said = f"{same}, although other files of their weights differ: at most one of these steps is right"
            yield Finding("equal_shard", run, tuple(steps), said)


def _other_settings(run: str, facts: Sequence[Facts]) -> Iterator[Finding]:
    """Findings for config.json settings and tokenizers that differ between steps. The majority is taken to be right."""
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
            f"{name} is {_cut(value)}, but {_cut(common)} at the run's other steps"
            if shown
            else f"{name} differs from the run's other steps"
        )
        yield Finding("other_settings", run, tuple(steps), f"{steps_in_words(steps)}: {said}")


def _cut(value: str) -> str:
    return value if len(value) <= 60 else f"{value[:59]}…"


def equal_across_runs(by_run: Mapping[str, Sequence[Facts]], although: str = "") -> Iterator[Finding]:
    """Findings for runs that share weights. `although` is a clause that is added to the message."""
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
        # Step 1 also counts as the start, because its weights are those of step 0 if the first learning rate is 0.
        begins = all(step == 1 or (run, step) in firsts for steps in found for run in steps for step in steps[run])
        for run in runs:
            own = sorted(step for steps in found for step in steps[run])
            others = ", ".join(other for other in runs if other != run)
            said = f"{'begins with' if begins else 'has'} the weights of {others}{although}"
            yield Finding("equal_weights", run, tuple(own), f"{steps_in_words(own)}: {run} {said}", note=begins)


def _groups(facts: Iterable[Facts], label: Callable[[Facts], Any]) -> list[list[Any]]:
    """Labels of facts with equal weights, as groups of two or more."""
    groups: dict[str, list[Any]] = defaultdict(list)
    for fact in facts:
        if fact.weights:
            groups[fact.weights].append(label(fact))
    return [sorted(group) for group in groups.values() if len(group) > 1]


def _absent(by_run: Mapping[str, Sequence[Facts]]) -> Iterator[Finding]:
    """Findings for steps that most other runs have. Steps of a known grid are reported as missing revisions instead."""
    selected = {run: {fact.checkpoint.step for fact in facts if not fact.reference} for run, facts in by_run.items()}
    count = Counter(step for steps in selected.values() for step in steps)
    common = {step for step, runs in count.items() if 2 * runs > len(by_run)}
    for run, facts in by_run.items():
        absent = sorted(common - {fact.checkpoint.step for fact in facts})
        if absent:
            said = f"{steps_in_words(absent)} missing, present in most runs of the suite"
            yield Finding("absent_step", run, tuple(absent), said)


def steps_in_words(steps: Sequence[int]) -> str:
    """Format steps: `step 5`, `steps 1, 2 and 4`, or `76 steps, from 0 to 140000`."""
    if len(steps) == 1:
        return f"step {steps[0]}"
    if len(steps) <= 6:
        return f"steps {', '.join(map(str, steps[:-1]))} and {steps[-1]}"
    return f"{len(steps)} steps, from {min(steps)} to {max(steps)}"
