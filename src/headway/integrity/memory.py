"""Findings of audits, saved in the user's cache folder so that other commands can warn of them.

There is one file per run, named by a hash of the run's repository or folder. A flag is removed when the step's weights
change, or when an equally deep audit of the whole suite no longer finds it. A narrower or shallower audit cannot refute it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from headway.store.cache import own_cache
from headway.store.files import to_json, write_whole
from headway.suites.checkpoint import Checkpoint


class Flag(NamedTuple):
    """A finding against a step. `weights` is the identity of its weights at the time; empty if there were none."""

    message: str
    weights: str
    deep: bool


def place_of(checkpoint: Checkpoint) -> str:
    """Repository or folder of a checkpoint's run."""
    return checkpoint.source.location


def flags(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Findings of past audits against `checkpoint`; empty if there are none."""
    return tuple(flag.message for flag in _remembered(place_of(checkpoint)).get(str(checkpoint.step), ()))


def cleared(place: str) -> dict[str, frozenset[int]]:
    """Steps of a run at which audits did not find what public reports say, by the name of the report."""
    try:
        said: dict[str, list[int]] = json.loads(_file(place).read_text(encoding="utf-8")).get("cleared", {})
        return {name: frozenset(map(int, steps)) for name, steps in said.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def remember(
    place: str,
    found: Mapping[int, Iterable[str]],
    weights: Mapping[int, str],
    *,
    deep: bool,
    whole: bool,
    withdrawn: Mapping[str, Collection[int]] | None = None,
) -> None:
    """Save the findings of an audit of one run.

    Args:
        found: messages by step.
        weights: identity of each audited step's weights.
        deep: whether the audit read the weights.
        whole: whether the audit covered the whole suite.
        withdrawn: steps at which the audit did not find what a public report says, by the names of all reports that it
            checked.

    Raises:
        StorageError: the cache folder cannot be written to.
    """
    flags = {step: [Flag(message, weights[step], deep) for message in found.get(step, ())] for step in weights}
    for name, before in _remembered(place).items():
        step = int(name)
        new = flags.setdefault(step, [])
        said = {flag.message for flag in new}
        for flag in before:
            refuted = step in weights and (flag.weights != weights[step] or (whole and deep >= flag.deep))
            if not refuted and flag.message not in said:
                new.append(flag)
    kept = {str(step): [flag._asdict() for flag in flags[step]] for step in sorted(flags) if flags[step]}
    withdrawn = {**cleared(place), **(withdrawn or {})}
    steps = {name: sorted(of) for name, of in sorted(withdrawn.items()) if of}
    write_whole(_file(place), to_json({"place": place, "flags": kept, "cleared": steps}))


def cache_folder() -> Path:
    """Folder of audit results and signatures: in HEADWAY_CACHE, or in the user's cache folder."""
    return own_cache() / "audits"


def _file(place: str) -> Path:
    return cache_folder() / f"{hashlib.sha256(place.encode()).hexdigest()[:24]}.json"


def _remembered(place: str) -> dict[str, list[Flag]]:
    try:
        said: dict[str, list[dict[str, Any]]] = json.loads(_file(place).read_text(encoding="utf-8"))["flags"]
        return {str(int(step)): [Flag(**flag) for flag in flags] for step, flags in said.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # missing or damaged: an audit only advises, and can be repeated
