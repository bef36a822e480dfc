"""The random effects of a mixed model. Z is stored term by term, never as one n × q matrix.

Legend: n rows; term i has p_i effects over l_i levels, and q_i = p_i · l_i columns of Z, level by level. The first term has
the most levels; r stands for all other terms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count, pairwise

import numpy as np
import polars as pl

from headway.errors import StatisticsError
from headway.stats.columns import Factor
from headway.stats.formula import Bar
from headway.stats.model_frame import ModelFrame


@dataclass(frozen=True)
class RandomTerm:
    """Effects that vary over the levels of one group.

    Attributes:
        bar: the term in the formula.
        name: name of the group. A second term of the same group gets `.1`, as in lme4.
        effects: R's names of the p effects.
        group: level of each row.
        columns: (n, p) multipliers of the effects, divided by `scale`.
        scale: (p,) root mean square of each column. Scaling gives the optimiser effects of similar size.
    """

    bar: Bar
    name: str
    effects: tuple[str, ...]
    group: Factor
    columns: np.ndarray
    scale: np.ndarray

    @property
    def text(self) -> str:
        """The term as written in a formula."""
        effects = ["1" if self.bar.intercept else "0", *(":".join(effect) for effect in self.bar.terms)]
        return f"({' + '.join(effects)} | {self.bar.group_name})"

    @property
    def n_effects(self) -> int:
        return len(self.effects)

    @property
    def n_levels(self) -> int:
        return len(self.group.levels)

    @property
    def size(self) -> int:
        """q_i, the number of the term's columns in Z."""
        return self.n_effects * self.n_levels

    def cross(self, other: np.ndarray) -> np.ndarray:
        """Z_i' B for B (n, m), as (l, p, m)."""
        out = np.empty((self.n_levels, self.n_effects, other.shape[1]))
        for effect in range(self.n_effects):
            for column in range(other.shape[1]):
                weights = self.columns[:, effect] * other[:, column]
                out[:, effect, column] = np.bincount(self.group.codes, weights, self.n_levels)
        return out

    def own_cross(self) -> np.ndarray:
        """Z_i' Z_i, block diagonal, as (l, p, p)."""
        return self.cross(self.columns)

    def cross_term(self, other: RandomTerm) -> np.ndarray:
        """Z_i' Z_j, as (l_i, p_i, l_j, p_j)."""
        out = np.empty((self.n_levels, self.n_effects, other.n_levels, other.n_effects))
        cell = self.group.codes * other.n_levels + other.group.codes
        n_cells = self.n_levels * other.n_levels
        for a in range(self.n_effects):
            for b in range(other.n_effects):
                sums = np.bincount(cell, self.columns[:, a] * other.columns[:, b], n_cells)
                out[:, a, :, b] = sums.reshape(self.n_levels, other.n_levels)
        return out

    def times(self, effects: np.ndarray) -> np.ndarray:
        """Z_i b for b (l, p): (n,)."""
        return np.einsum("np,np->n", self.columns, effects[self.group.codes])


def random_terms(frame: ModelFrame) -> list[RandomTerm]:
    """Random terms of the frame's formula, in lme4's order: most levels first.

    Raises:
        StatisticsError: a group has a single level, or there are as many effects as rows.
    """
    terms = [_random_term(frame, bar) for bar in frame.formula.bars]
    n_levels = [term.n_levels for term in terms]
    if any(later > earlier for earlier, later in pairwise(n_levels)):
        terms = sorted(terms, key=lambda term: term.n_levels)[::-1]  # ties are reversed, as in lme4
    named: dict[str, RandomTerm] = {}
    for term in terms:
        names = chain([term.name], (f"{term.name}.{number}" for number in count(1)))
        name = next(name for name in names if name not in named)
        named[name] = replace(term, name=name)
    return list(named.values())


def _random_term(frame: ModelFrame, bar: Bar) -> RandomTerm:
    design = frame.design(bar.intercept, bar.terms)
    group = frame.group(bar.group)
    name, n_levels = bar.group_name, len(group.levels)
    if n_levels < 2:
        raise StatisticsError(
            f"the group {name} has one level only ({group.levels[0]}): a variance between levels needs two or more. "
            "Leave the term out, or use ols"
        )
    if n_levels >= frame.n_obs:
        raise StatisticsError(
            f"the group {name} has a level for every one of the {frame.n_obs} rows: "
            "its variance cannot be told from the residual's. Leave the term out, or group by something that repeats"
        )
    if n_levels * design.matrix.shape[1] >= frame.n_obs:
        raise StatisticsError(
            f"the term ({', '.join(design.names)} | {name}) has {n_levels * design.matrix.shape[1]} random effects for "
            f"{frame.n_obs} rows: they cannot be told from the residual. Take fewer effects"
        )
    scale = np.sqrt(np.mean(design.matrix**2, axis=0))
    if not scale.all():
        empty = design.names[int(np.argmin(scale))]
        raise StatisticsError(f"the random effect {empty} of {name} is 0 in every row: leave it out")
    return RandomTerm(bar, name, design.names, group, design.matrix / scale, scale)


SINGULAR = 1e-4  # lme4 calls a fit singular if a relative standard deviation is below this


def levels_of(terms: Sequence[RandomTerm]) -> dict[str, int]:
    """Number of levels of each group."""
    return {term.bar.group_name: term.n_levels for term in terms}


def covariances_of(terms: Sequence[RandomTerm], factors: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """The covariance matrix of each term's effects, by the term's name. `factors` are for columns of mean square 1."""
    scaled = [factor / term.scale[:, None] for factor, term in zip(factors, terms, strict=True)]
    return {term.name: factor @ factor.T for term, factor in zip(terms, scaled, strict=True)}


def variances_of(terms: Sequence[RandomTerm], covariances: Mapping[str, np.ndarray]) -> pl.DataFrame:
    """group, term, variance of the effects of each term."""
    rows = [
        (term.name, effect, float(variance))
        for term in terms
        for effect, variance in zip(term.effects, np.diag(covariances[term.name]), strict=True)
    ]
    return pl.DataFrame(rows, schema={"group": pl.String, "term": pl.String, "variance": pl.Float64}, orient="row")


def any_singular(terms: Sequence[RandomTerm], factors: Sequence[np.ndarray]) -> bool:
    """Whether a variance of a random effect is 0, or a correlation is ±1."""
    own = np.concatenate([np.abs(np.diag(f)) / t.scale for f, t in zip(factors, terms, strict=True)])
    return bool(np.any(own < SINGULAR))


def correlations_of(terms: Sequence[RandomTerm], covariances: Mapping[str, np.ndarray]) -> pl.DataFrame:
    """group, term_1, term_2, correlation of the effects of each term; NaN where a variance is 0."""
    rows = []
    for term in terms:
        covariance = covariances[term.name]
        sd = np.sqrt(np.diag(covariance))
        with np.errstate(invalid="ignore", divide="ignore"):
            correlation = np.clip(covariance / np.outer(sd, sd), -1, 1)
        rows += [
            (term.name, term.effects[a], term.effects[b], float(correlation[a, b]))
            for b in range(1, term.n_effects)
            for a in range(b)
        ]
    schema = {"group": pl.String, "term_1": pl.String, "term_2": pl.String, "correlation": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


@dataclass(frozen=True)
class Products:
    """Cross products for the deviance. They are computed once, so that the rows are not needed again.

    The augmented design is B = [Q e] (n, m). Q is an orthonormal basis of X's columns, and e the residual of y as a unit
    vector. This avoids cancellation at any scale of y and X.
    """

    a_11: np.ndarray  # Z_1'Z_1  (l_1, p_1, p_1)
    a_1r: np.ndarray  # Z_1'Z_r  (l_1, p_1, q_r)
    a_rr: np.ndarray  # Z_r'Z_r  (q_r, q_r)
    b_1: np.ndarray  # Z_1'B    (l_1, p_1, m)
    b_r: np.ndarray  # Z_r'B    (q_r, m)
    b_b: np.ndarray  # B'B      (m, m)
    n: int


# Two crossed terms with this many entries need 1.6 GB for their cross products, and minutes for the factorisation.
_LARGEST_DENSE = 200_000_000


def products(terms: list[RandomTerm], augmented: np.ndarray) -> Products:
    """Cross products of Z's terms and B.

    Raises:
        StatisticsError: the terms after the first have too many levels for dense algebra.
    """
    first, *rest = terms
    q_r = sum(term.size for term in rest)
    if max(first.size, q_r) * q_r > _LARGEST_DENSE:
        raise StatisticsError(
            f"the random terms {', '.join(t.name for t in terms)} have {first.size + q_r} effects in all, too many: "
            f"the terms besides {first.name} may have about {_LARGEST_DENSE // max(first.size, 14_000)} between them"
        )
    m = augmented.shape[1]
    a_1r = np.concatenate(
        [np.empty((first.n_levels, first.n_effects, 0))]
        + [first.cross_term(term).reshape(first.n_levels, first.n_effects, term.size) for term in rest],
        axis=2,
    )
    rows = [[_dense_cross(a, b) for b in rest] for a in rest]
    return Products(
        a_11=first.own_cross(),
        a_1r=a_1r,
        a_rr=np.block(rows) if rest else np.empty((0, 0)),
        b_1=first.cross(augmented),
        b_r=np.concatenate([np.empty((0, m)), *(term.cross(augmented).reshape(term.size, m) for term in rest)]),
        b_b=augmented.T @ augmented,
        n=len(augmented),
    )


def _dense_cross(a: RandomTerm, b: RandomTerm) -> np.ndarray:
    return a.cross_term(b).reshape(a.size, b.size)
