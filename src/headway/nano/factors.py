"""The factors of a laboratory: what runs can differ in, with the levels that each can have.

A factor turns a recipe into that of one of its levels. Levels are texts, because they name runs and are values of an axis.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from headway.errors import UsageError
from headway.nano.recipe import Recipe, Size, Window

NONE = "none"


@dataclass(frozen=True)
class Factor:
    """Something that runs can differ in.

    Attributes:
        about: what it is, in a few words.
        expects: the levels that it can have, with an example, as errors name them.
        read: returns a level in its one spelling, or None if it is no level.
        apply: returns a recipe with the level.
        words: the levels that are words, for near matches.
    """

    about: str
    expects: str
    read: Callable[[str], str | None]
    apply: Callable[[Recipe, str], Recipe]
    words: tuple[str, ...] = ()


def _with(recipe: Recipe, field: str, value: Any) -> Recipe:
    changed: dict[str, Any] = {field: value}
    return replace(recipe, **changed)


def _number(field: str, about: str, expects: str, low: float, high: float) -> Factor:
    def read(level: str) -> str | None:
        try:
            value = float(level)
        except ValueError:
            return None
        return f"{value:.6g}" if low <= value <= high else None

    return Factor(about, expects, read, lambda recipe, level: _with(recipe, field, float(level)))


def _whole(about: str, expects: str, low: int, high: int, apply: Callable[[Recipe, int], Recipe]) -> Factor:
    def read(level: str) -> str | None:
        return str(int(level)) if re.fullmatch(r"\d{1,6}", level) and low <= int(level) <= high else None

    return Factor(about, expects, read, lambda recipe, level: apply(recipe, int(level)))


def _steps(field: str, about: str) -> Factor:
    def read(level: str) -> str | None:
        if level == NONE:
            return level
        ends = _ends(level)
        return f"{ends[0]}-{ends[1]}" if ends and ends[0] < ends[1] else None

    def apply(recipe: Recipe, level: str) -> Recipe:
        return _with(recipe, field, None if level == NONE else _ends(level))

    return Factor(about, "none, or a range of steps such as 100-300", read, apply, (NONE,))


def _ends(level: str) -> Window | None:
    found = re.fullmatch(r"(\d{1,6})-(\d{1,6})", level)
    return (int(found[1]), int(found[2])) if found else None


_PASSAGE = re.compile(r"(random|text)?(?:(?:^|(?<=[mt])-)(\d{1,3})-(\d{1,3}))?")


def _read_passage(level: str) -> str | None:
    found = _PASSAGE.fullmatch(level)
    if not level or not found:
        return None
    if found[2] is None:
        return level
    shortest, longest = int(found[2]), int(found[3])
    kind = f"{found[1]}-" if found[1] else ""
    return f"{kind}{shortest}-{longest}" if 1 <= shortest <= longest else None


def _apply_passage(recipe: Recipe, level: str) -> Recipe:
    found = _PASSAGE.fullmatch(level)
    assert found
    if found[1]:
        recipe = replace(recipe, random=1.0 if found[1] == "random" else 0.0)
    if found[2]:
        recipe = replace(recipe, shortest_passage=int(found[2]), longest_passage=int(found[3]))
    return recipe


def _read_zipf(level: str) -> str | None:
    return level if level == "text" else _EXPONENT.read(level)


def _apply_zipf(recipe: Recipe, level: str) -> Recipe:
    if level == "text":
        return replace(recipe, background="text")
    return replace(recipe, background="zipf", zipf=float(level))


def _of_each_size(change: Callable[[Size, int], Size]) -> Callable[[Recipe, int], Recipe]:
    return lambda recipe, n: replace(recipe, sizes=tuple(change(size, n) for size in recipe.sizes))


def _read_positions(level: str) -> str | None:
    if level == "learned":
        raise UsageError(
            "--vary positions: learned positions cannot be trained, because nano's models are GPT-NeoX, which has none. "
            "Choose rotary or none"
        )
    return level if level in ("rotary", NONE) else None


_EXPONENT = _number("zipf", "", "", 0, 10)
_SHARE = "a share from 0 to 1, such as 0.5"

FACTORS: dict[str, Factor] = {
    "repeated": _number("repeated", "share of sequences that repeat one passage over and over", _SHARE, 0, 1),
    "passage": Factor(
        "kind and length of the repeated passages",
        "random or text, a range of lengths in tokens such as 8-31, or both such as random-8-31",
        _read_passage,
        _apply_passage,
        ("random", "text"),
    ),
    "zipf": Factor(
        "the other sequences: text, or tokens from Zipf's law with this exponent",
        "text, or an exponent from 0 to 10 such as 1.2",
        _read_zipf,
        _apply_zipf,
        ("text",),
    ),
    "burstiness": _number(
        "burstiness", "share of tokens that copy an earlier one of their sequence, outside of passages", _SHARE, 0, 1
    ),
    "window": _steps("window", "the only steps whose data hold repeated passages"),
    "withheld": _steps("withheld", "steps whose data hold no repeated passages"),
    "vocabulary": _whole(
        "tokens of the vocabulary", "a number from 16 to 65536, such as 96", 16, 65536,
        lambda recipe, n: replace(recipe, vocab_size=n),
    ),
    "context": _whole(
        "tokens of a sequence", "a number from 8 to 4096, such as 128", 8, 4096,
        lambda recipe, n: replace(recipe, context_length=n),
    ),
    "learning_rate": _number("learning_rate", "highest learning rate", "a number from 0 to 1, such as 3e-3", 1e-9, 1),
    "warmup": _whole(
        "steps over which the learning rate rises", "a number of steps from 1, such as 50", 1, 999_999,
        lambda recipe, n: replace(recipe, warmup=n),
    ),
    "weight_decay": _number("weight_decay", "weight decay", "a number from 0 to 10, such as 0.01", 0, 10),
    "depth": _whole(
        "layers", "a number from 1 to 48, such as 3", 1, 48, _of_each_size(lambda size, n: replace(size, n_layers=n))
    ),
    "heads": _whole(
        "heads of a layer, at the same width", "a number from 1 to 64, such as 8", 1, 64,
        _of_each_size(lambda size, n: replace(size, n_heads=n)),
    ),
    "mlp": _whole(
        "width of the MLP", "a number from 1 to 65536, such as 128", 1, 65536,
        _of_each_size(lambda size, n: replace(size, mlp_size=n)),
    ),
    "positions": Factor(
        "how models tell positions apart",
        "rotary or none",
        _read_positions,
        lambda recipe, level: replace(recipe, rotary=0.0) if level == NONE else recipe,
        ("rotary", NONE),
    ),
    "initialisation": _number(
        "initializer_range", "standard deviation of the initial weights", "a number from 0 to 1, such as 0.02", 1e-9, 1
    ),
}  # fmt: skip


def parse_vary(texts: Sequence[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The factors and levels of texts such as "repeated=0,0.1,0.5".

    Raises:
        UsageError: a factor or level is unknown, or given twice.
    """
    vary: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, equals, levels = text.partition("=")
        name = name.strip()
        if not equals:
            raise UsageError(f'--vary takes a factor and its levels, such as "repeated=0,0.1,0.5", not {text!r}')
        if name not in FACTORS:
            near = get_close_matches(name, FACTORS, n=1)
            meant = f", did you mean {near[0]!r}?" if near else "."
            raise UsageError(f"--vary: no factor {name!r}{meant} Known are {', '.join(FACTORS)}")
        if name in vary:
            raise UsageError(f"--vary names {name} twice: join its levels with commas")
        vary[name] = tuple(_level(name, level.strip()) for level in levels.split(","))
        if len(set(vary[name])) < len(vary[name]):
            raise UsageError(f"--vary {text!r} names a level twice")
    return tuple(vary.items())


def _level(name: str, text: str) -> str:
    factor = FACTORS[name]
    level = factor.read(text)
    if level is None:
        near = get_close_matches(text, factor.words, n=1)
        meant = f", did you mean {near[0]!r}?" if near else "."
        raise UsageError(f"--vary {name}: {text!r} is no level{meant} Give {factor.expects}")
    return level
