"""Read result files of EleutherAI's lm-evaluation-harness, in its old and its new format.

Old: `results` holds `{"arc_easy": {"acc": 0.5, "acc_stderr": 0.01}}`, and `config` the model, its revision and the number of
examples in a prompt. New (from version 0.4): the keys are `acc,none` and `acc_stderr,none`, where `none` names a filter of
answers, and `n-shot`, `n-samples` and `higher_is_better` say more of each task.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headway.errors import UsageError
from headway.known_abilities import METRICS, safe_ability_name
from headway.published.rows import Row
from headway.suites.names import parse_run, parse_step

_STDERR = "_stderr"
_NO_FILTER = "none"
_NOT_METRICS = frozenset({"alias", "name", "sample_len", "sample_count"})
# Repositories that were renamed on the Hub: the public evaluations call Pythia's present models v1.1.
_RENAMED = re.compile(r"^pythia-v1\.1-")
_NUMBERED = re.compile(r"\d+(?:\.\d+)?[kmb]")
_MOST_STEPS = 2**63 - 1
_NO_SIZES = (None, None, None)  # a result file says nothing of parameters, layers and heads


@dataclass(frozen=True)
class Evaluation:
    """One file.

    Attributes:
        stated: the model as the file names it.
        run: the name of its run, as suites name it.
        limited: whether only some questions of each task were asked.
        left_out: how many values are no finite number.
        doubts: what the file's name says otherwise.
    """

    rows: list[Row]
    stated: str
    run: str
    limited: bool
    left_out: int
    doubts: list[str]


def read_evaluation(path: Path, source: str) -> Evaluation:
    """Read one result file.

    Args:
        source: what the file is called in the table.

    Raises:
        UsageError: it is damaged, is no result of lm-evaluation-harness, or states no model or no step.
    """
    content = _content(path)
    config = _mapping(content.get("config"))
    arguments = _arguments(config.get("model_args"))
    stated, step = _checkpoint(path, content, config, arguments)
    run = _RENAMED.sub("pythia-", stated.rstrip("/").split("/")[-1])
    model, size, seed = parse_run(run)
    rows, left_out = [], 0
    for ability, metric, value, error, better, n_samples in _values(content, config):
        if not math.isfinite(value):
            left_out += 1
            continue
        unit, known = METRICS.get(metric, (None, None))
        better = known if better is None else better
        rows.append(
            Row(run, model, size, seed, step, *_NO_SIZES, ability, value, error, unit, better, n_samples, source)
        )
    if not rows:
        raise UsageError(f"{path} holds no finite value of a task: its results are empty. Leave it out")
    return Evaluation(rows, stated, run, config.get("limit") is not None, left_out, _doubts(path, source, size, step))


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is damaged or no JSON: {error}. Restore it, or leave it out") from error
    results = content.get("results") if isinstance(content, dict) else None
    if not isinstance(results, dict) or not all(isinstance(one, dict) for one in results.values()):
        raise UsageError(
            f"{path} is no result file of lm-evaluation-harness: it has no `results` by task. Name such a file, or a CSV table"
        )
    return dict(content)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _arguments(given: Any) -> Mapping[str, str]:
    """`pretrained=EleutherAI/pythia-70m,revision=step512` by name; newer files hold an object."""
    if isinstance(given, dict):
        return {str(name): str(value) for name, value in given.items()}
    parts = (part.partition("=") for part in str(given or "").split(","))
    return {name.strip(): value.strip() for name, equals, value in parts if equals}


def _checkpoint(
    path: Path, content: Mapping[str, Any], config: Mapping[str, Any], arguments: Mapping[str, str]
) -> tuple[str, int]:
    """The model as the file names it, and the step: from the content, or else from the names of the file and its folder."""
    model = arguments.get("pretrained") or str(content.get("model_name") or "")
    revision = arguments.get("revision") or str(config.get("model_revision") or "")
    step = parse_step(revision) if revision else None
    folder, _, last = model.rstrip("/").rpartition("/")
    if step is None and folder and (step := parse_step(last)) is not None:  # RUN/REVISION on a disk
        model = folder
    if step is None:
        step = _step_of_name(path)
    model = model or re.split(r"[-_.]step\d", path.stem)[0]
    if step is None or step > _MOST_STEPS:
        raise UsageError(
            f"{path} states no step: its revision is {revision or 'not given'!r}. Put the step into the file's name, such as "
            f"{path.stem[:40]}_step1000.json"
        )
    return model, step


def _step_of_name(path: Path) -> int | None:
    return next((step for name in (path.stem, path.parent.name) if (step := parse_step(name)) is not None), None)


def _doubts(path: Path, source: str, size: str, step: int) -> list[str]:
    named_step, named_size = parse_step(path.stem), parse_run(path.stem).size
    doubts = []
    if named_step is not None and named_step != step:
        doubts.append(f"{source} is of step {step} by its content, whatever its name says")
    if _NUMBERED.fullmatch(named_size) and _NUMBERED.fullmatch(size) and named_size != size:
        doubts.append(f"{source} is of a model of size {size} by its content, whatever its name says")
    return doubts


def _values(
    content: Mapping[str, Any], config: Mapping[str, Any]
) -> Iterator[tuple[str, str, float, float | None, bool | None, int | None]]:
    """Of each task and metric: ability, metric, value, standard error, whether higher is better, number of questions."""
    for task, metrics in content["results"].items():
        shots = _mapping(content.get("n-shot")).get(task, config.get("num_fewshot"))
        n_samples = _whole(_mapping(_mapping(content.get("n-samples")).get(task)).get("effective"))
        better = _mapping(_mapping(content.get("higher_is_better")).get(task))
        for key, value in metrics.items():
            metric, _, chosen = str(key).partition(",")
            if metric in _NOT_METRICS or metric.endswith(_STDERR) or not _is_number(value):
                continue
            error = metrics.get(f"{metric}{_STDERR}" + (f",{chosen}" if chosen else ""))
            parts = [task, metric, *([chosen] if chosen and chosen != _NO_FILTER else [])]
            parts += [f"{shots}shot"] if _whole(shots) else []
            direction = better.get(metric)
            yield (
                safe_ability_name(".".join(map(str, parts))),
                metric,
                _float(value),
                _float(error) if _is_number(error) and 0 <= _float(error) < math.inf else None,
                direction if isinstance(direction, bool) else None,
                n_samples,
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _whole(value: Any) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**53
    return value if whole else None
