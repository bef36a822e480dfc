"""Parse names: the step in a revision's name, the size and seed in a run's name; and sort sizes and seeds."""

from __future__ import annotations

import re
from typing import NamedTuple

UNKNOWN_SEED = "unknown"
PLAIN = "step"  # the stage of revisions that state only a step

# step1000, checkpoint-1000, global_step1000, stage1-step10000-tokens21B, 1000
_STEP = re.compile(r"(?:^|[-_.])(?:global[-_]?step|step|checkpoint|ckpt|iter)[-_]?(\d+)(?![\d.]*[a-zA-Z])")
_BARE_STEP = re.compile(r"\d+")
_TOKENS = re.compile(r"[-_.]tokens[-_]?\d+[KMBT]?", re.IGNORECASE)

_NUMBERED_SIZE = re.compile(r"(?:^|[-_])(\d+(?:\.\d+)?[kmb])(?=$|[-_])", re.IGNORECASE)
_NAMED_SIZES = ("micro", "tiny", "mini", "small", "base", "medium", "large", "xl", "xxl")
_NAMED_SIZE = re.compile(rf"(?:^|[-_])({'|'.join(_NAMED_SIZES)})(?=$|[-_])", re.IGNORECASE)
_UNIT = {"k": 1e3, "m": 1e6, "b": 1e9}

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
    """Step and stage, parsed from a revision's name.

    Attributes:
        stage: the name without its numbers of steps and tokens, such as `anneal_iter` for anneal_iter_0001000. Revisions
            of one training stage differ only by these numbers. `PLAIN` if the name states only a step.
    """

    step: int
    stage: str


def parse_revision(revision: str) -> Stated | None:
    """Step and stage in a revision's name; None if it states no step."""
    if _BARE_STEP.fullmatch(revision):
        return Stated(int(revision), PLAIN)
    found = _STEP.search(revision)
    if not found:
        return None
    before, after = revision[: found.start(1)], _TOKENS.sub("", revision[found.end(1) :])
    if not revision[: found.start()] and not after.strip("-_."):
        return Stated(int(found[1]), PLAIN)
    return Stated(int(found[1]), (before.rstrip("-_.") + after).strip("-_."))


def parse_step(revision: str) -> int | None:
    """Step in a revision's name, or None."""
    stated = parse_revision(revision)
    return stated.step if stated else None


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
