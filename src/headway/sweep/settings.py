"""Settings that must not differ between the steps of a run: the tokenizer, and those of config.json.

The checkpoints of a run are one model at several times. A step with another tokenizer or other rotary frequencies is a
different model, and a jump there is not development.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from headway.errors import StorageError
from headway.store.directory import RunDirectory
from headway.store.partitions import SUFFIX, read_partition_metadata
from headway.text import count

_AT_ONCE = 8  # partitions that are read at the same time
_MOST_STEPS = 6  # the most steps that a sentence lists


def differing_settings(directory: RunDirectory, table: str) -> list[str]:
    """A sentence for each run and setting whose value differs between the steps of `table`."""
    paths = directory.partitions(table)
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        found = list(zip(paths, threads.map(_settings, paths), strict=True))
    runs: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for path, settings in found:
        run, _, step = path.name.removesuffix(SUFFIX).rpartition("@")
        if settings:
            runs[run][int(step)] = settings
    return [sentence for run, steps in runs.items() for sentence in _sentences(run, steps)]


def _settings(part: Path) -> dict[str, Any]:
    try:
        settings: dict[str, Any] = json.loads(read_partition_metadata(part).get("settings", "{}"))
    except (StorageError, ValueError):
        return {}
    return settings


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
