"""Suites that are described in a TOML file: where their repositories are, and what the names of revisions mean.

    name = "mine"
    licence = "Apache-2.0"
    tokens_per_step = 2097152

    [[runs]]
    repository = "someone/mine-{data}-{size}"
    size = ["30M", "60M"]
    seed = ["default", "2"]
    axes = { data = ["c4", "pile"] }
    revision = 'step(?P<step>\\d+)-seed-(?P<seed>.+)'

Each combination of sizes, seeds and values of axes is one run. `docs/suites.md` explains every key. The suites that
headway knows by name are described in this way, too: the files in `known/`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import product
from pathlib import Path
from typing import Any

from headway.errors import RunDirectoryError, SelectionError
from headway.store.directory import safe_name
from headway.suites import hub
from headway.suites.checkpoint import Axes
from headway.suites.names import RunName, parse_number, parse_run
from headway.suites.steps import HubRevisions, Listed, Pattern
from headway.suites.suite import Fact, Revisions, Run, Suite
from headway.suites.where import AXES

ENDING = ".toml"
_TEXTS = ("name", "about", "origin", "licence", "tokens", "tokenizer", "corpus", "unlisted")
_LISTS = ("notes", "sources", "unverified")
_NUMBERS = ("tokens_per_step",)
_OF_A_SUITE = (*_TEXTS, *_LISTS, *_NUMBERS, "runs")
_OF_RUNS = (
    "repository", "run", "model", "size", "seed", "axes", "revision", "groups", "steps", "checkpoints", "tokenizer",
    "tokens_per_step",
)  # fmt: skip
_OF_A_CHECKPOINT = ("step", "repository", "revision", "tokens")
# What may be unverified: facts, and what the runs say.
_FACTS = ("licence", "tokens", "tokens_per_step", "runs", "sizes", "seeds", "steps")
_MEANINGS = ("step", "tokens", "stage", "seed")
_KINDS = {str: "a text", list: "a list", int: "a whole number", dict: "a table"}


@dataclass(frozen=True)
class _Table:
    """A table of the file, and the words for it in messages."""

    values: Mapping[str, Any]
    where: str

    def require_known(self, known: Sequence[str]) -> None:
        for key in self.values:
            if key not in known:
                near = get_close_matches(key, known, n=1)
                meant = f", did you mean {near[0]!r}?" if near else "."
                raise self.wrong(key, f"is no key of a suite file{meant} Known are {', '.join(known)}")

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        """The value of `key`, or `default` if it is absent."""
        value = self.values.get(key, default)
        if key in self.values and (not isinstance(value, kind) or isinstance(value, bool)):
            raise self.wrong(key, f"must be {_KINDS[kind]}, not {value!r}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """The value of `key` as a tuple of texts: a single text is one of them."""
        value = self.values.get(key, [])
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
            raise self.wrong(key, f"must be a text or a list of texts, not {value!r}")
        return tuple(texts)

    def number(self, key: str) -> int | None:
        value = self.get(key, int)
        if value is not None and value < 1:
            raise self.wrong(key, f"must be at least 1, not {value}")
        return value  # type: ignore[no-any-return]

    def wrong(self, key: str, said: str) -> SelectionError:
        return SelectionError(f"{self.where}: {key!r} {said}")


def read_suite(path: Path) -> Suite:
    """Open the suite that the file at `path` describes. Nothing is fetched.

    Raises:
        SelectionError: the file is no TOML, lacks something, or says something that makes no suite. The message names the key.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SelectionError(f"{path} cannot be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SelectionError(f"{path} is no TOML file: {error}") from error
    table = _Table(values, str(path))
    table.require_known(_OF_A_SUITE)
    texts: dict[str, str] = {key: table.get(key, str, "") for key in _TEXTS}
    if not table.get("runs", list):
        raise table.wrong("runs", "is missing: write at least one table [[runs]] with a repository")
    runs = [run for i, one in enumerate(values["runs"], 1) for run in _runs(table, one, f"{path}, [[runs]] {i}")]
    _require_distinct(table, runs)
    unverified = table.texts("unverified")
    for name in unverified:
        if name not in _FACTS:
            raise table.wrong("unverified", f"names {name!r}. Known are {', '.join(_FACTS)}")
    return Suite(
        texts["name"] or path.stem,
        runs,
        about=texts["about"] or "repositories of the Hub",
        origin=texts["origin"] or ", ".join(dict.fromkeys(str(run.location) for run in runs)),
        notes=table.texts("notes"),
        corpus=texts["corpus"] or None,
        facts=_facts(table, runs, unverified),
        unlisted=texts["unlisted"],
        sources=table.texts("sources"),
    )


def _facts(table: _Table, runs: Sequence[Run], unverified: Sequence[str]) -> list[Fact]:
    """The facts of the file. Those that `SuiteInfo` has without them are named only if they are unverified."""
    said = {key: table.get(key, str, "") for key in ("licence", "tokens")}
    per_step = dict.fromkeys((run.tokens_per_step, run.size) for run in runs if run.tokens_per_step)
    alike = {run.tokens_per_step for run in runs} == {number for number, _ in per_step}
    several = len({number for number, _ in per_step}) > 1 or not alike
    words = dict.fromkeys(f"{number:,}{f' for {size}' if several else ''}" for number, size in per_step)
    said["tokens a step"] = ", ".join(words)
    unverified = [name.replace("_per_", " a ") for name in unverified]
    said |= {name: "" for name in unverified if name not in said}
    return [Fact(name, text, name not in unverified) for name, text in said.items() if text or name in unverified]


def _require_distinct(table: _Table, runs: Sequence[Run]) -> None:
    names = [run.name for run in runs]
    for name in names:
        if names.count(name) > 1:
            raise table.wrong("runs", f"gives the name {name!r} to two runs: set `run`, such as run = 'NAME-{{size}}'")
        try:
            safe_name(name, "run name")
        except RunDirectoryError as error:
            raise table.wrong("runs", f"gives a run a name that no file can have: {error}") from error


# --- runs -----------------------------------------------------------------------------------------------------------


def _runs(suite: _Table, values: Any, where: str) -> Iterator[Run]:
    """The runs of one [[runs]]: one for each combination of sizes, seeds and values of axes."""
    if not isinstance(values, dict):
        raise suite.wrong("runs", "must be tables: write [[runs]] above each")
    table = _Table(values, where)
    table.require_known(_OF_RUNS)
    axes = _axes(table)
    levels = {"size": table.texts("size"), "seed": table.texts("seed"), **axes}
    named = [name for name, texts in levels.items() if texts]
    for chosen in product(*(levels[name] for name in named)):
        several = [name for name in named if len(levels[name]) > 1]
        yield _run(suite, table, dict(zip(named, chosen, strict=True)), tuple(axes), several)


def _axes(table: _Table) -> dict[str, tuple[str, ...]]:
    given = table.get("axes", dict, {})
    axes = {}
    for name in given:
        if name in AXES or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise table.wrong(
                "axes", f"cannot have {name!r}: use lower-case letters, digits and '_', and none of {', '.join(AXES)}"
            )
        values = _Table(given, f"{table.where}, axes").texts(name)
        for value in values:
            if not re.fullmatch(r"[^\s,=]+", value) or ".." in value:
                raise table.wrong("axes", f"cannot have the value {value!r}: leave out spaces, ',', '=' and '..'")
        axes[name] = values
    return axes


def _run(suite: _Table, table: _Table, texts: Mapping[str, str], axes: Sequence[str], several: Sequence[str]) -> Run:
    """One run.

    Args:
        texts: its size, seed and values of axes, as the file writes them.
        several: those of them in which runs of this [[runs]] differ.
    """
    repository = _filled(table, "repository", texts)
    revisions = _revisions(table, repository, texts)
    listed = isinstance(revisions, Listed)
    location = repository.replace("{step}", "*")
    stated = location.split("/")[-1]
    # What the repository's name does not tell apart is added to the run's name.
    absent = [name for name in several if f"{{{name}}}" not in table.values["repository"]]
    inside = "".join(f"-{name}-{texts[name]}" if name == "seed" else f"-{texts[name]}" for name in absent)
    name = _filled(table, "run", texts) if "run" in table.values else stated + inside
    parsed = parse_run(name if "seed" not in texts else name.removesuffix(f"-seed-{texts['seed']}"))
    model = _filled(table, "model", texts) if "model" in table.values else parsed.model
    size, seed = texts.get("size", parsed.size).lower(), texts.get("seed", parsed.seed)
    own: Axes = tuple((axis, texts[axis]) for axis in axes)
    per_step = table.number("tokens_per_step") or suite.number("tokens_per_step")
    tokenizer = table.get("tokenizer", str, "") or suite.get("tokenizer", str, "")
    if tokenizer and not hub.is_repo(tokenizer):
        raise table.wrong("tokenizer", f"must be OWNER/NAME, not {tokenizer!r}")
    return Run(
        name, *RunName(model, size, seed), location=location, revisions=revisions, tokenizer_repo=tokenizer, axes=own,
        tokens_per_step=per_step, listed=listed,
    )  # fmt: skip


def _filled(table: _Table, key: str, texts: Mapping[str, str]) -> str:
    """A text of the file with its placeholders filled. `{step}` in a repository stays."""
    template = table.get(key, str)
    if not template:
        raise table.wrong(key, "is missing: write it like 'OWNER/NAME-{size}'")
    kept = {"step": "{step}"} if key == "repository" else {}
    try:
        filled = str(template).format_map({**texts, **kept})
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        known = ", ".join(f"{{{name}}}" for name in (*texts, *kept)) or "none here"
        raise table.wrong(key, f"has a placeholder that is not filled: {error}. Known are {known}") from error
    if key == "repository" and not hub.is_repo(filled.replace("{step}", "0")):
        raise table.wrong(key, f"must be OWNER/NAME, not {filled!r}")
    return filled


# --- revisions ------------------------------------------------------------------------------------------------------


def _revisions(table: _Table, repository: str, texts: Mapping[str, str]) -> Revisions:
    ways = [key for key in ("revision", "steps", "checkpoints") if key in table.values]
    if len(ways) > 1:
        raise table.wrong(ways[1], f"cannot stand beside {ways[0]!r}: give one of them")
    if "{step}" in repository and ways != ["steps"]:
        raise table.wrong("steps", f"is missing: list the steps that {repository} has, as its name writes them")
    if ways == ["steps"]:
        return _one_repository_a_step(table, repository)
    if ways == ["checkpoints"]:
        return Listed(tuple(_listed(table, repository)))
    if ways == ["revision"]:
        pattern = _pattern(table, texts)
        return HubRevisions(repository, pattern, pattern.understands, pattern.tokens)
    return HubRevisions(repository)


def _one_repository_a_step(table: _Table, repository: str) -> Listed:
    if "{step}" not in repository:
        raise table.wrong("steps", "needs {step} in the repository's name, such as 'OWNER/NAME-step_{step}'")
    steps = {text: parse_number(text) for text in table.texts("steps")}
    for text, step in steps.items():
        if step is None:
            raise table.wrong("steps", f"has {text!r}, which is no number: write 1000, 20k or 1.5M")
    return Listed(
        tuple((step, f"{repository.format(step=text)}@main", None) for text, step in steps.items() if step is not None)
    )


def _listed(table: _Table, repository: str) -> Iterator[tuple[int, str, int | None]]:
    seen: set[int] = set()
    for i, values in enumerate(table.get("checkpoints", list), 1):
        one = _Table(values if isinstance(values, dict) else {}, f"{table.where}, checkpoint {i}")
        one.require_known(_OF_A_CHECKPOINT)
        numbers = {key: parse_number(str(one.values[key])) for key in ("step", "tokens") if key in one.values}
        step = numbers.get("step")
        if step is None:
            raise one.wrong("step", "must be a number such as 1000, '20k' or '1.5M'")
        if step in seen:
            raise one.wrong("step", f"is {step} for the second time")
        seen.add(step)
        if "tokens" in numbers and numbers["tokens"] is None:
            raise one.wrong("tokens", "must be a number such as '503b' or '1.5T'")
        repo = one.get("repository", str, repository)
        if not hub.is_repo(repo):
            raise one.wrong("repository", f"must be OWNER/NAME, not {repo!r}")
        yield step, f"{repo}@{one.get('revision', str, 'main')}", numbers.get("tokens")


def _pattern(table: _Table, texts: Mapping[str, str]) -> Pattern:
    """The pattern of revisions, with what its groups mean: what they are called, or what `groups` says of them."""
    pattern = table.get("revision", str)
    try:
        groups = tuple(re.compile(pattern).groupindex)
    except re.error as error:
        raise table.wrong("revision", f"is no regular expression: {error}") from error
    said = table.get("groups", dict, {})
    for name in said:
        if name not in groups:
            raise table.wrong("groups", f"names {name!r}, which is no group of the revision {pattern!r}")
    known = (*_MEANINGS, *(name for name in texts if name != "size"))
    meanings = tuple((group, str(said.get(group, group))) for group in groups)
    for group, means in meanings:
        if means not in known:
            raise table.wrong("revision", f"has the group {group!r}: say in `groups` which of {', '.join(known)} it is")
    named = [means for _, means in meanings]
    if not {"step", "tokens"} & set(named):
        raise table.wrong("revision", "states no step: name a group, such as (?P<step>\\d+)")
    if "seed" in named and "seed" not in texts:
        raise table.wrong("seed", "is missing: list the seeds that revisions name")
    wanted = tuple((means, texts[means]) for means in named if means in texts)
    return Pattern(pattern, meanings, wanted)
