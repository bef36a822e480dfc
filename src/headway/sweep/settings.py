"""Settings that must not differ between the steps of a run: the tokenizer, and those of config.json.

The checkpoints of a run are one model at several times. A step with another tokenizer or other rotary frequencies is a
different model, and a jump there is not development.

Partitions also state settings as they were used, such as lengths that a context has cut. The manifest collects these.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from headway.store.directory import RunDirectory
from headway.store.partitions import SUFFIX
from headway.text import count

_MOST_STEPS = 6  # the most steps that a sentence lists


def differing_settings(directory: RunDirectory, table: str) -> list[str]:
    """A sentence for each run and setting whose value differs between the steps of `table`."""
    runs: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for key, settings in _stated(directory, table, "settings").items():
        run, _, step = key.rpartition("@")
        runs[run][int(step)] = settings
    return [sentence for run, steps in runs.items() for sentence in _sentences(run, steps)]


def settings_used(directory: RunDirectory, table: str) -> dict[str, Any]:
    """The settings that the partitions of `table` state as used, by name.

    A setting that is the same in all partitions that state it has its value, another one the value of each `RUN@STEP`.
    """
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for key, used in _stated(directory, table, "used").items():
        for name, value in used.items():
            found[name][key] = value
    return {name: _in_common(values) for name, values in found.items()}


def _in_common(values: dict[str, Any]) -> Any:
    first = next(iter(values.values()))
    return first if all(value == first for value in values.values()) else values


def _stated(directory: RunDirectory, table: str, name: str) -> dict[str, dict[str, Any]]:
    """What the metadata of partitions state under `name`, by `RUN@STEP`; without those that state nothing."""
    found = {}
    for file, metadata in directory.metadata(table).items():
        with suppress(ValueError):
            if stated := json.loads((metadata or {}).get(name, "{}")):
                found[file.removesuffix(SUFFIX)] = stated
    return found


def _sentences(run: str, steps: Mapping[int, Mapping[str, Any]]) -> list[str]:
    names = sorted({name for settings in steps.values() for name in settings})
    return [_sentence(run, name, values) for name in names if len(values := _by_value(name, steps)) > 1]


def _by_value(name: str, steps: Mapping[int, Mapping[str, Any]]) -> dict[str, list[int]]:
    """The steps that have each value of a setting."""
    found: dict[str, list[int]] = defaultdict(list)
    for step in sorted(steps):
        found[json.dumps(steps[step].get(name), sort_keys=True)].append(step)
    return found


def _sentence(run: str, name: str, values: Mapping[str, list[int]]) -> str:
    told = "; ".join(f"{_short(value)} at {_listed(steps)}" for value, steps in values.items())
    return (
        f"{run}: {name} differs between steps ({told}), so these steps are not comparable. Leave some out with --where"
    )


def _short(value: str) -> str:
    return value if len(value) <= 40 else f"{value[:39]}…"


def _listed(steps: list[int]) -> str:
    more = f" and {len(steps) - _MOST_STEPS} more" if len(steps) > _MOST_STEPS else ""
    return f"{count(len(steps), 'step')} ({', '.join(map(str, steps[:_MOST_STEPS]))}{more})"
