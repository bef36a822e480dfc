"""Find faults of a suite from its weights: NaN, odd shapes, steps out of order, and runs with another initialisation.

Runs are processed one at a time. Memory holds the signatures of one run, and the signature of step 0 of every run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from headway.errors import CheckpointError, StorageError
from headway.integrity.files import (
    Facts,
    Finding,
    equal_across_runs,
    equal_in_run,
    in_threads,
    steps_in_words,
    usual,
)
from headway.integrity.signatures import Signature, Signatures
from headway.progress import Progress, Silent
from headway.suites.hub_http import Unreachable

# A step that only fluctuates around the end is 1 / sqrt(2) = 0.71 times as far from it as from a neighbour that also
# fluctuates. Healthy runs stay above that, so this threshold is lower by more than the error of signatures.
_CLEARLY = 0.6
# The cosine of n entries of two unrelated matrices is about 0 ± 1 / sqrt(n).
_SIGMAS = 5.0
# In this first share of training a run still resembles its initialisation. Later it may not.
_BEGINNING = 0.01


class Read(NamedTuple):
    """A step whose weights have been read."""

    step: int
    weights: str
    signature: Signature


def weight_findings(
    facts: Sequence[Facts], signatures: Signatures, *, progress: Progress | None = None
) -> list[Finding]:
    """Return the findings that follow from the weights, ordered by run. A checkpoint that cannot be read is a finding.

    Raises:
        StorageError: the disk is full. Signatures that were computed before are saved.
    """
    progress = progress or Silent()
    by_run: dict[str, list[Facts]] = defaultdict(list)
    for fact in facts:
        if fact.weights:
            by_run[fact.checkpoint.run].append(fact)
    digests: dict[tuple[str, int], str] = {}
    starts = _starts([own[0] for own in by_run.values() if own[0].checkpoint.step == 0], signatures, progress)
    findings: list[Finding] = []
    progress.start("weights", sum(map(len, by_run.values())))
    for run, own in by_run.items():
        steps: list[Read] = []
        with _reading(own, signatures) as reading:
            for fact, found in reading:
                progress.advance(1, fact.checkpoint.key)
                if isinstance(found, Finding):
                    findings.append(found)
                else:
                    steps.append(Read(fact.checkpoint.step, fact.weights, found))
                    if not found.not_finite:
                        digests[run, fact.checkpoint.step] = found.content
        if steps:
            findings += _of_one_run(run, steps, starts)
    return [*findings, *_equal_in_other_files_of_runs(by_run, digests)]


def _equal_in_other_files_of_runs(
    by_run: Mapping[str, Sequence[Facts]], digests: Mapping[tuple[str, int], str]
) -> Iterator[Finding]:
    """Findings for runs with equal weights in files with other hashes, because headers or signs of zeros differ."""
    files: dict[str, set[str]] = defaultdict(set)
    of: dict[str, list[Facts]] = defaultdict(list)
    for run, facts in by_run.items():
        for fact in facts:
            if digest := digests.get((run, fact.checkpoint.step)):
                files[digest].add(fact.weights)
                of[run].append(replace(fact, weights=digest))
    hidden = {run: [fact for fact in facts if len(files[fact.weights]) > 1] for run, facts in of.items()}
    yield from equal_across_runs(hidden, ", though their files differ")


def _of_one_run(run: str, steps: Sequence[Read], starts: Mapping[str, Signature]) -> Iterator[Finding]:
    yield from _not_finite(run, steps)
    shapes = [frozenset(step.signature.shapes.items()) for step in steps]
    common = usual(shapes)
    yield from _odd_shapes(
        run, steps, dict(common), tied=shapes.count(common) * 2 <= len(shapes) and len(set(shapes)) > 1
    )
    # Two steps that each share more than half of the usual tensors have some tensors in common.
    comparable = [
        step
        for step in steps
        if not step.signature.not_finite and 2 * len(common & step.signature.shapes.items()) > len(common)
    ]
    yield from _equal_in_other_files(run, comparable)
    whole = list(_out_of_place(run, comparable))
    yield from whole
    yield from _layers_out_of_place(run, comparable, {step for finding in whole for step in finding.steps})
    yield from _not_from_own_start(run, comparable, starts)


# --- reading --------------------------------------------------------------------------------------------------------


def _starts(firsts: Sequence[Facts], signatures: Signatures, progress: Progress) -> dict[str, Signature]:
    """Signature of each run's step 0, for comparison with the steps of every run."""
    progress.start("weights of step 0", len(firsts))
    starts = {}
    with _reading(firsts, signatures) as reading:
        for fact, found in reading:
            progress.advance(1, fact.checkpoint.key)
            if isinstance(found, Signature) and not found.not_finite:
                starts[fact.checkpoint.run] = found
    return starts


@contextmanager
def _reading(facts: Sequence[Facts], signatures: Signatures) -> Iterator[Iterator[tuple[Facts, Signature | Finding]]]:
    """Signatures in order, from two threads: one reads weights while the other waits for the next download."""
    with in_threads(2, lambda fact: _signature_or_finding(fact, signatures), facts) as found:
        yield zip(facts, found, strict=True)


def _signature_or_finding(fact: Facts, signatures: Signatures) -> Signature | Finding:
    run, step = fact.checkpoint.run, fact.checkpoint.step
    try:
        return signatures.of(fact.checkpoint, fact.weights)
    except StorageError:
        raise
    except Unreachable as error:
        said = f"step {step} was not read ({error}): run the audit again; it reads only the missing steps"
        return Finding("not_read", run, (step,), said, note=True)
    except CheckpointError as error:
        return Finding("unreadable", run, (step,), f"step {step}: {error}")
    except Exception as error:  # libraries fail in many ways on damaged bytes, which must not end the whole audit
        return Finding("unreadable", run, (step,), f"step {step}: {type(error).__name__}: {error}")


# --- from signatures to findings ------------------------------------------------------------------------------------


def _not_finite(run: str, steps: Sequence[Read]) -> Iterator[Finding]:
    for step, _, signature in steps:
        if signature.not_finite:
            said = f"step {step}: NaN or infinities in {_listed(signature.not_finite)}"
            yield Finding("not_finite", run, (step,), said)


def _odd_shapes(
    run: str, steps: Sequence[Read], common: Mapping[str, tuple[int, ...]], tied: bool
) -> Iterator[Finding]:
    """Findings for steps whose tensors differ from the majority of the run.

    Without a majority every step is named, because it is not known which steps are right.
    """
    for step, _, signature in steps:
        own = signature.shapes
        more = [f"{name} ({_size(own[name])})" for name in own if name not in common]
        lacking = [name for name in common if name not in own]
        other = [
            f"{name} ({_size(own[name])} instead of {_size(common[name])})"
            for name in own
            if name in common and own[name] != common[name]
        ]
        said = [
            f"{words} {_listed(names)}"
            for words, names in (("also has", more), ("lacks", lacking), ("has in another shape", other))
            if names
        ]
        if said and not tied:
            yield Finding(
                "odd_shape", run, (step,), f"step {step}, compared with most steps of its run, {'; '.join(said)}"
            )
        elif said:
            like = [other.step for other in steps if other.signature.shapes == common]
            told = (
                f"step {step}, compared with {steps_in_words(like)}, {'; '.join(said)}; it is not known which are right"
            )
            yield Finding("odd_shape", run, (step, *like), told)


def _listed(names: Sequence[str]) -> str:
    """The first three names, and the number of others."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _size(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape)) or "a single number"


def _equal_in_other_files(run: str, steps: Sequence[Read]) -> Iterator[Finding]:
    """Findings for equal matrices in files with other hashes: saved again, in another format or with another header."""
    groups: dict[str, list[Read]] = defaultdict(list)
    for step in steps:
        groups[step.signature.digest()].append(step)
    found = [[step.step for step in group] for group in groups.values() if len({step.weights for step in group}) > 1]
    yield from equal_in_run(run, found, steps[-1].step if steps else 0, " in every matrix, though their files differ")


def _out_of_place(run: str, steps: Sequence[Read]) -> Iterator[Finding]:
    """Findings for steps that are closer to the end than to their neighbours, or than most later steps.

    The last step but one is a neighbour of the end, so nothing follows for it.
    """
    points = [step.signature for step in steps]
    to_end = np.array([point.distance(points[-1]) for point in points])
    gaps = np.array([a.distance(b) for a, b in pairwise(points)])
    for i in range(len(points) - 2):
        neighbour = gaps[max(i - 1, 0) : i + 1].min()
        later = to_end[i + 1 : -1]
        # The 75% quantile: neither a block of late weights nor a single stray step decides.
        most = np.quantile(later, 0.75, method="lower") if len(later) > 1 else 0.0
        if to_end[i] < _CLEARLY * max(neighbour, most):
            said = (
                f"step {steps[i].step} is {to_end[i]:.2g} from step {steps[-1].step}, the last, but {neighbour:.2g} "
                f"from its nearest neighbour, and later steps are up to {later.max():.2g} from the last"
            )
            yield Finding("out_of_place", run, (steps[i].step,), said)


def _layers_out_of_place(run: str, steps: Sequence[Read], known: Collection[int]) -> Iterator[Finding]:
    """Findings for steps with layers of another step, such as a shard of another step.

    There are many layers, and the signature of a layer is small. So the threshold for the distance to the end is half of
    that for whole checkpoints. A layer is also reported if it equals that of a later step but changed in between.
    """
    layers, whole = [step.signature.layers() for step in steps], [step.signature.digest() for step in steps]
    found: dict[tuple[int, int], list[str]] = defaultdict(list)
    for layer in layers[-1] if layers else ():
        own = [(i, there[layer]) for i, there in enumerate(layers) if layer in there]
        points = [point for _, point in own]
        at = [i for i, _ in own]
        for i, j in _returns([point.digest() for point in points]):
            if whole[at[i]] != whole[at[j]] and not {steps[at[i]].step, steps[at[j]].step} & set(known):
                found[at[i], at[j]].append(layer)
        to_end = np.array([point.distance(points[-1]) for point in points])
        gaps = np.array([a.distance(b) for a, b in pairwise(points)])
        for i in range(len(points) - 2):
            later = to_end[i + 1 : -1]
            most = np.quantile(later, 0.75, method="lower") if len(later) > 1 else 0.0
            if (
                0 < to_end[i] < _CLEARLY / 2 * max(gaps[max(i - 1, 0) : i + 1].min(), most)
                and steps[at[i]].step not in known
            ):
                found[at[i], at[-1]].append(layer)
    for (i, j), names in found.items():
        last = j == len(steps) - 1
        said = (
            f"{_listed(names)} of step {steps[i].step} {'matches' if len(names) == 1 else 'match'} step {steps[j].step}"
            f"{', the last' if last else ''}, unlike the step's other layers"
        )
        yield Finding("out_of_place", run, (steps[i].step,) if last else (steps[i].step, steps[j].step), said)


def _returns(digests: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Index pairs of equal digests with another digest between them: the first with each later one."""
    first: dict[str, int] = {}
    for j, digest in enumerate(digests):
        i = first.setdefault(digest, j)
        if any(other != digest for other in digests[i + 1 : j]):
            yield i, j


def _not_from_own_start(run: str, steps: Sequence[Read], starts: Mapping[str, Signature]) -> Iterator[Finding]:
    """Findings for steps that resemble another run's step 0 more than their own, or early steps that resemble neither."""
    own = starts.get(run)
    if own is None or not own.directions:
        return
    others = {name: start for name, start in starts.items() if name != run and start.shapes == own.shapes}
    chance = _SIGMAS * _spread_of_likeness(own)
    beginning = max(1.0, _BEGINNING * steps[-1].step) if steps else 0.0
    foreign: dict[str, list[int]] = defaultdict(list)
    unlike: list[int] = []
    for step, _, signature in steps:
        to_own = signature.likeness(own)
        to_others = {name: signature.likeness(start) for name, start in others.items()}
        nearest = max(to_others, key=to_others.__getitem__, default="")
        if nearest and to_others[nearest] > to_own + chance:
            foreign[nearest].append(step)
        elif 0 < step <= beginning and to_own < chance:
            unlike.append(step)
    for other, found in foreign.items():
        said = f"{steps_in_words(found)}: more similar to step 0 of {other} than to step 0 of {run}"
        yield Finding("not_from_own_start", run, tuple(found), said)
    if unlike:
        said = (
            f"{steps_in_words(unlike)}: early in training, but no more similar to the run's own step 0 than by chance"
        )
        yield Finding("not_from_own_start", run, tuple(unlike), said)


def _spread_of_likeness(signature: Signature) -> float:
    """Standard deviation of the likeness of unrelated weights: a mean of cosines, each about 0 ± 1 / sqrt(n)."""
    variances = [1 / direction.size for direction in signature.directions.values()]
    return float(np.sqrt(np.sum(variances)) / len(variances))
