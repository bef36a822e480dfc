"""Parse names: the step in a revision's name, the size and seed in a run's name; and sort sizes and seeds."""

from __future__ import annotations

import re
from typing import NamedTuple

UNKNOWN_SEED = "unknown"
PLAIN = "step"  # the stage of revisions that state only a step

_WORDS = r"global[-_]?step|step|checkpoint|ckpt|chck|iteration|iter|epoch"
_NUMBER = r"\d+(?:\.\d+)?[kKM]?"
# step1000, step_20k, checkpoint-1000, global_step1000, iter_0001000, epoch_3, stage1-step10000-tokens21B
_STEP = re.compile(rf"(?:^|[-_.])({_WORDS})[-_]?({_NUMBER})(?![^-_.])")
# 1000, 955k, 1.5M. A lower-case m is left out: 160m is a size.
_BARE_STEP = re.compile(_NUMBER)
# tokens21B, token-2.5T
_TOKENS = re.compile(r"(?:^|[-_.])tokens?[-_]?(\d+(?:\.\d+)?)([KMBT]?)(?![^-_.])", re.IGNORECASE)
# 240b_tokens, 1T-tokens, 2BT
_COUNTED_TOKENS = re.compile(r"(?:^|[-_.])(\d+(?:\.\d+)?)(?:([KMBT])[-_]?tokens?|([MB])T)(?![^-_.])", re.IGNORECASE)
# step-1431k-3T: the number behind a step counts tokens if its unit is too large for steps
_TOKENS_BEHIND = re.compile(r"[-_.](\d+(?:\.\d+)?)([BT])$", re.IGNORECASE)
# step69369-seed-default, step100-seed3, seed_3-step100
_SEED_BEHIND = re.compile(r"[-_.]seed[-_]?([A-Za-z0-9]+(?:[-_][A-Za-z0-9]+)*)$")
_SEED_BEFORE = re.compile(r"(?:^|[-_.])seed[-_]?([A-Za-z0-9]+)(?![^-_.])")
_TOKENS_ONLY = "tokens"  # the stage of revisions that state tokens and no step
TOKENS_A_STEP = 10**6  # such a revision has millions of tokens in place of steps

_NUMBERED_SIZE = re.compile(r"(?:^|[-_])(\d+(?:\.\d+)?[kmb])(?=$|[-_])", re.IGNORECASE)
_NAMED_SIZES = ("micro", "tiny", "mini", "small", "base", "medium", "large", "xl", "xxl")
_NAMED_SIZE = re.compile(rf"(?:^|[-_])({'|'.join(_NAMED_SIZES)})(?=$|[-_])", re.IGNORECASE)
_UNIT = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}

# pythia-160m-data-seed2, my-run_seed_3, alias-gpt2-small-x21 (stanford-crfm)
_SEED = re.compile(r"[-_](?:((?:data|weight)[-_]seed)|seed)[-_]?(\d+)$", re.IGNORECASE)
_CRFM = re.compile(r"^[a-z]+-(gpt2-(?:small|medium))-x(\d+)$")
_PYTHIA = re.compile(r"^pythia-[\d.]+[mb](?:-deduped)?$")
PYTHIA_SEED = "1234"  # seed of the runs without a seed in their name


class RunName(NamedTuple):
    """Model, size and seed, parsed from a run's name."""

    model: str
    size: str
    seed: str


class Stated(NamedTuple):
    """What a revision's name states.

    Attributes:
        step: the step. A name that states only tokens has its millions of tokens here.
        stage: the name without its numbers of steps and tokens, such as `anneal_iter` for anneal_iter_0001000. Revisions
            of one training stage differ only by these numbers. `PLAIN` if the name states only a step.
        tokens: how many tokens were seen; None if the name does not say. Names round this number.
        seed: the seed; empty if the name states none. It is part of the stage, too.
    """

    step: int
    stage: str
    tokens: int | None = None
    seed: str = ""


def parse_number(text: str) -> int | None:
    """The whole number that `text` writes, such as 1000, 955k, 1.5M, 240b or 3T; None if it writes none."""
    found = re.fullmatch(r"(\d+)(?:\.(\d+))?([kmbt]?)", text, re.IGNORECASE | re.ASCII)
    if not found:
        return None
    # Fractions are not multiplied as floats: 1.001 * 1000 is 1000.9999999999999.
    digits = found[2] or ""
    number, rest = divmod(int(found[1] + digits) * _UNIT[found[3].lower()], 10 ** len(digits))
    return None if rest else number


def parse_revision(revision: str) -> Stated | None:
    """Step, stage, tokens and seed in a revision's name; None if it states neither a step nor tokens."""
    if _BARE_STEP.fullmatch(revision):
        step = parse_number(revision)
        return None if step is None else Stated(step, PLAIN)
    left, tokens = _without_tokens(revision)
    found = _STEP.search(left)
    step = parse_number(found[2]) if found else None
    if found and step is not None:
        before, after = left[: found.start(2)], left[found.end(2) :]
        if tokens is None and (behind := _TOKENS_BEHIND.fullmatch(after)):
            after, tokens = "", parse_number(behind[1] + behind[2])
        alone = not left[: found.start()] and not after.strip("-_.") and found[1] != "epoch"
        stage = PLAIN if alone else (before.rstrip("-_.") + after).strip("-_.")
        return Stated(step, stage, tokens, _seed(before, after))
    if tokens is None or tokens % TOKENS_A_STEP:
        return None
    stage = left.strip("-_.")
    return Stated(tokens // TOKENS_A_STEP, stage or _TOKENS_ONLY, tokens, _seed("", left))


def _seed(before: str, after: str) -> str:
    """The seed in what stands before and behind a revision's step; empty if there is none."""
    seed = _SEED_BEHIND.search(after) or _SEED_BEFORE.search(before)
    return seed[1] if seed else ""


def _without_tokens(revision: str) -> tuple[str, int | None]:
    """The name without its number of tokens, and this number; None if the name states none."""
    found = _TOKENS.search(revision) or _COUNTED_TOKENS.search(revision)
    if not found:
        return revision, None
    number, *units = found.groups(default="")
    return revision[: found.start()] + revision[found.end() :], parse_number(number + "".join(units))


def parse_step(revision: str) -> int | None:
    """Step in a revision's name, or None."""
    stated = parse_revision(revision)
    return stated.step if stated else None


def tokens_in(revision: str) -> int | None:
    """The number of tokens in a revision's name, or None."""
    stated = parse_revision(revision)
    return stated.tokens if stated else None


def parse_run(run: str) -> RunName:
    """Model, size and seed in a run's name.

    A name without a size is used as the size. A name without a seed has the seed `unknown`.
    """
    if crfm := _CRFM.match(run):
        return RunName(crfm[1], crfm[1].removeprefix("gpt2-"), crfm[2])
    found = _SEED.search(run)
    if found:
        model, seed = run[: found.start()], f"{(found[1] or '').lower().replace('_', '-')}{found[2]}"
    else:
        model, seed = run, PYTHIA_SEED if _PYTHIA.match(run) else UNKNOWN_SEED
    size = _NUMBERED_SIZE.search(model) or _NAMED_SIZE.search(model)
    return RunName(model, size[1].lower() if size else model, seed)


def size_order(size: str) -> tuple[int, float, str]:
    """Sort key for sizes: 14m before 1b, small before medium, other words last."""
    if re.fullmatch(r"\d+(?:\.\d+)?[kmb]", size):
        return (0, float(size[:-1]) * _UNIT[size[-1]], size)
    if size in _NAMED_SIZES:
        return (1, _NAMED_SIZES.index(size), size)
    return (2, 0.0, size)


def natural_order(label: str) -> tuple[str, float]:
    """Sort key for labels: 9 before 10, data-seed2 before data-seed10."""
    found = re.fullmatch(r"(.*?)(\d+)", label)
    return (found[1], float(found[2])) if found else (label, float("inf"))


def level_order(level: str) -> tuple[int, float, str]:
    """Sort key for values of an axis: `none` first, then numbers (0.1 before 0.5, 8-31 before 16-31), words last."""
    if level == "none":
        return (0, 0.0, "")
    number = re.match(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?", level)
    return (1, float(number[0]), level) if number else (2, 0.0, level)
