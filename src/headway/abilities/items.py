"""Items of abilities that a user brings: minimal pairs as BLiMP writes them, and prompts with answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from headway.corpora import read_lines
from headway.errors import CorpusError, UsageError
from headway.known_abilities import MEASURED, safe_ability_name
from headway.tables import SCORES


class Pair(NamedTuple):
    """A minimal pair: of two sentences, the model should find `good` more probable."""

    line: int
    name: str  # of the ability that it belongs to
    good: str
    bad: str


class Blank(NamedTuple):
    """A prompt and the answer that the model should give."""

    line: int
    prompt: str
    answer: str


@dataclass(frozen=True)
class Pairs:
    """Minimal pairs of a file. Those with one UID are one ability, UID.acc; without UIDs the file is one.

    Attributes:
        name: of the file.
        sha256: hash of the items.
    """

    name: str
    items: tuple[Pair, ...]
    sha256: str

    @property
    def abilities(self) -> tuple[str, ...]:
        """The names of the abilities, in the order of the file."""
        return tuple(dict.fromkeys(pair.name for pair in self.items))


@dataclass(frozen=True)
class Cloze:
    """Prompts with answers of a file: accuracy and log-probability of the answers."""

    name: str
    items: tuple[Blank, ...]
    sha256: str

    @property
    def abilities(self) -> tuple[str, str]:
        stem = safe_ability_name(Path(self.name).stem)
        return f"{stem}.acc", f"{stem}.log_prob"


Asked = str | Pairs | Cloze


def asked_abilities(words: Sequence[str | PathLike[str]]) -> tuple[Asked, ...]:
    """The abilities that words ask for: names of `known_abilities.MEASURED`, and files with items.

    Raises:
        UsageError: a word is neither, an ability is asked for twice, or has the name of a score.
        CorpusError: a file cannot be read, or a line is no item.
    """
    asked = tuple(_asked(word) for word in words)
    names = [name for one in asked for name in ([one] if isinstance(one, str) else one.abilities)]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"--abilities asks for {twice[0]} twice. Leave one out, or rename a file")
    if taken := [name for name in names if name in SCORES]:
        raise UsageError(f"--abilities: the ability {taken[0]!r} has the name of a score. Name it otherwise")
    return asked


def _asked(word: str | PathLike[str]) -> Asked:
    if str(word) in MEASURED:
        return str(word)
    path = Path(word).expanduser()
    if not path.is_file():
        near = get_close_matches(str(word), MEASURED, n=1)
        meant = f", did you mean {near[0]!r}?" if near else "."
        raise UsageError(
            f"--abilities: {str(word)!r} is neither a file nor a known ability{meant} Known are {', '.join(MEASURED)}"
        )
    try:
        lines = read_lines(path)
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error.strerror or error}") from error
    written = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not written:
        raise CorpusError(f"{path} holds no items: write minimal pairs as JSON lines, or lines PROMPT<tab>ANSWER")
    if written[0][1].lstrip().startswith("{"):
        pairs = tuple(_pair(path, number, line) for number, line in written)
        return Pairs(path.name, pairs, _digest(pairs))
    blanks = tuple(_blank(path, number, line) for number, line in written)
    return Cloze(path.name, blanks, _digest(blanks))


def _pair(path: Path, number: int, line: str) -> Pair:
    place = f"{path}, line {number}"
    found = json_object(place, line)
    for name in ("sentence_good", "sentence_bad"):
        if not isinstance(found.get(name), str) or not found[name].strip():
            raise CorpusError(
                f"{place} has no {name}: a minimal pair needs sentence_good and sentence_bad, each a text"
            )
    if found["sentence_good"] == found["sentence_bad"]:
        raise CorpusError(f"{place}: both sentences of the pair are the same. Mend the pair, or leave it out")
    uid = found.get("UID")
    name = safe_ability_name(str(uid) if uid else path.stem)
    return Pair(number, f"{name}.acc", found["sentence_good"], found["sentence_bad"])


def json_object(place: str, line: str) -> dict[str, Any]:
    """The JSON object of one line of a file.

    Raises:
        CorpusError: it is none.
    """
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{place} is not JSON ({error}): write one JSON object a line") from error
    if not isinstance(found, dict):
        raise CorpusError(f"{place} holds no JSON object: write one a line, in braces")
    return found


def _blank(path: Path, number: int, line: str) -> Blank:
    prompt, tab, answer = line.partition("\t")
    if not tab or not prompt.strip() or not answer.strip():
        lacks = "tab" if not tab else "prompt" if not prompt.strip() else "answer"
        raise CorpusError(f"{path}, line {number} has no {lacks}: write PROMPT<tab>ANSWER")
    apart = "" if prompt[-1].isspace() or answer[0].isspace() else " "
    return Blank(number, prompt.rstrip(), prompt[len(prompt.rstrip()) :] + apart + answer.rstrip())


def _digest(items: Sequence[tuple[Any, ...]]) -> str:
    return hashlib.sha256(json.dumps(items).encode("ascii")).hexdigest()
