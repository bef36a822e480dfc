"""Power before the study: how many seeds show a difference, simulated from a pilot with the test that the report leads with.

A pilot of S sizes gives an outcome y of each run. "Outcome by size" is tested as in `robust`: a line through the sizes'
means, a size being one observation. Simulated sizes scatter about the pilot's line as its sizes do beyond their seeds, and
runs about their size as its runs do. More seeds lessen the second scatter only, so that power has a limit: the number of sizes
sets it. "Outcome SIZE SIZE" is Welch's t test of two sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from headway.errors import UsageError
from headway.stats.distributions import normal_quantile, t_p
from headway.studies.development.robust import line_tests
from headway.studies.development.seeds import outcomes
from headway.studies.prose import LEVEL, percent
from headway.studies.result import Result
from headway.text import count

Floats = np.ndarray
OUTCOMES = ("onset", "peak", "slope")
_ENOUGH = 0.8  # the power that studies plan for


@dataclass(frozen=True)
class Power:
    """Power of a question by number of seeds.

    Attributes:
        question: such as `onset by size`.
        table: seeds, power, std_error (of the simulation); the last row, with seeds null, is the limit of many seeds.
        effect, p: the pilot's estimate and its p: the slope on log10(parameters), or the difference of two sizes.
        size_sd, run_sd: standard deviations of sizes about the line, and of runs about their size.
    """

    question: str
    table: pl.DataFrame
    effect: float
    p: float | None
    size_sd: float | None
    run_sd: float

    @property
    def sentences(self) -> list[str]:
        """The answer, then what it rests on."""
        runs = self.table.drop_nulls("seeds")
        enough = runs.filter(pl.col("power") >= _ENOUGH)
        limit = self.table.filter(pl.col("seeds").is_null())["power"][0]
        if enough.height:
            first = f"{count(enough['seeds'][0], 'seed')} of each size give {self.question} a power of {percent(enough['power'][0])}."
        else:
            most = runs.row(-1, named=True)
            first = f"Even {count(most['seeds'], 'seed')} of each size give {self.question} a power of only {percent(most['power'])}."
        said = [first]
        if limit < _ENOUGH:
            said.append(f"No number of seeds gives more than {percent(limit)}: only more sizes can.")
        tested = f" (p = {self.p:.2g})" if self.p is not None else ""
        said.append(f"This takes the pilot's effect, {self.effect:.3g}{tested}, as the true one.")
        said.append("An effect that a pilot found by chance looks larger than it is, so the power is too high then.")
        return said

    def _repr_html_(self) -> str:
        import html

        return f"<p>{html.escape(' '.join(self.sentences))}</p>{self.table._repr_html_()}"


def power(pilot: Result, question: str, seeds: Sequence[int], simulations: int, seed: int) -> Power:
    """Simulate the power of `question`, at the 5% level, with each number of `seeds`.

    Args:
        pilot: a result of the study `development`.
        question: `OUTCOME by size`, or `OUTCOME SIZE SIZE`; outcomes are onset (its log10), peak and slope.
        simulations: simulated studies for each number of seeds.
        seed: seed of the simulation.

    Raises:
        UsageError: the question cannot be read, or the pilot is too small for it.
    """
    outcome, sizes = _asked(question, pilot)
    frame = outcomes(pilot.tables)[outcome].filter(pl.col("n_params") > 0)
    rng = np.random.default_rng(seed)
    if sizes is None:
        return _by_size(question, frame, seeds, simulations, rng)
    return _of_two(question, frame, sizes, seeds, simulations, rng)


def _asked(question: str, pilot: Result) -> tuple[str, tuple[str, str] | None]:
    words = question.split()
    known = list(dict.fromkeys(pilot.tables["peaks"]["size"]))
    if not words or words[0] not in OUTCOMES:
        raise UsageError(
            f"--question: {question!r} must begin with one of {', '.join(OUTCOMES)}, such as 'onset by size'"
        )
    if words[1:] == ["by", "size"]:
        return words[0], None
    if len(words) == 3 and set(words[1:]) <= set(known) and words[1] != words[2]:
        return words[0], (words[1], words[2])
    raise UsageError(
        f"--question: {question!r} must read '{words[0]} by size', or name two of the pilot's sizes ({', '.join(known)}), "
        f"such as '{words[0]} {' '.join((known * 2)[:2])}'"
    )


def _by_size(question: str, frame: pl.DataFrame, seeds: Sequence[int], n: int, rng: np.random.Generator) -> Power:
    means = frame.group_by("model", maintain_order=True).agg(
        pl.first("n_params"), pl.col("y").mean(), pl.col("y").var().alias("variance"), runs=pl.len()
    )
    x = np.log10(means["n_params"].to_numpy().astype(float))
    if len(x) < 3 or np.ptp(x) == 0:
        raise UsageError(
            f"the pilot has {count(len(x), 'size')}: a line over sizes needs at least three; compare two sizes instead"
        )
    free = means["runs"].to_numpy() - 1
    if not free.sum():
        raise UsageError("the pilot has one run of each size: the scatter of runs needs at least two of one size")
    run_variance = float(np.sum(means["variance"].fill_null(0).to_numpy() * free) / free.sum())
    y = means["y"].to_numpy()
    of_means = run_variance * float(np.mean(1 / means["runs"].to_numpy()))
    slope, _, p = line_tests(x, y[None], np.array([of_means]))
    residual = y - y.mean() - slope[0] * (x - x.mean())
    size_variance = max(float(residual @ residual) / (len(x) - 2) - of_means, 0.0)
    rows = []
    for number in [*seeds, None]:
        own = 0.0 if number is None else run_variance / number
        drawn = slope[0] * x + np.sqrt(size_variance + own) * rng.normal(size=(n, len(x)))
        df = len(x) * ((number or 1) - 1)
        within = own * rng.chisquare(df, n) / df if number is not None and df else np.zeros(n)
        rows.append((number, float(np.mean(line_tests(x, drawn, within)[2] <= LEVEL))))
    return Power(
        question,
        _table(rows, n),
        float(slope[0]),
        float(p[0]),
        float(np.sqrt(size_variance)),
        float(np.sqrt(run_variance)),
    )


def _of_two(
    question: str, frame: pl.DataFrame, sizes: tuple[str, str], seeds: Sequence[int], n: int, rng: np.random.Generator
) -> Power:
    one, two = (frame.filter(pl.col("size") == size)["y"].to_numpy() for size in sizes)
    if min(len(one), len(two)) < 2:
        raise UsageError(
            f"the pilot has too few runs of {sizes[0]} or {sizes[1]}: their scatter needs at least two of each"
        )
    means, sd = np.array([one.mean(), two.mean()]), np.array([one.std(ddof=1), two.std(ddof=1)])
    _, p = _welch(means[:, None], sd[:, None] ** 2, np.array([len(one), len(two)])[:, None])
    rows: list[tuple[int | None, float]] = []
    for number in seeds:
        drawn = means[:, None, None] + sd[:, None, None] * rng.normal(size=(2, n, number))
        tested = _welch(drawn.mean(axis=2), drawn.var(axis=2, ddof=1), np.full((2, 1), number))[1]
        rows.append((number, float(np.mean(tested <= LEVEL))))
    rows.append((None, float(means[0] != means[1])))
    pooled = float(np.sqrt(np.mean(sd**2)))
    return Power(question, _table(rows, n), float(means[1] - means[0]), float(p[0]), None, pooled)


def _welch(means: Floats, variances: Floats, runs: Floats) -> tuple[Floats, Floats]:
    """Welch's t and its p for (2, sets) means and variances of `runs` (2, 1) runs."""
    own = variances / runs
    total = own.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (means[1] - means[0]) / np.sqrt(total)
        df = total**2 / (own**2 / (runs - 1)).sum(axis=0)
        return t, np.where(total > 0, t_p(t, df), np.where(means[0] == means[1], 1.0, 0.0))


def _table(rows: Sequence[tuple[int | None, float]], n: int) -> pl.DataFrame:
    table = pl.DataFrame(rows, schema={"seeds": pl.Int64, "power": pl.Float64}, orient="row")
    error = (pl.col("power") * (1 - pl.col("power")) / n).sqrt()
    half = normal_quantile(0.975) * error
    return table.with_columns(std_error=error).with_columns(
        lower=(pl.col("power") - half).clip(0, 1), upper=(pl.col("power") + half).clip(0, 1)
    )
