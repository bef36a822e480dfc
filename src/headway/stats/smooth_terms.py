"""The smooths of a formula as columns of the model matrix with their penalties."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headway.errors import StatisticsError
from headway.stats.columns import Factor, Value
from headway.stats.formula import Smooth
from headway.stats.model_frame import ModelFrame
from headway.stats.penalties import Penalty
from headway.stats.smooths import sum_to_zero
from headway.stats.term_bases import (
    Effects,
    TermBasis,
    curves_by_group,
    one_variable,
    tensor,
)

Array = NDArray[np.float64]

DEFAULT_K = 10
DEFAULT_K_OF_MARGIN = 5


@dataclass(frozen=True)
class SmoothTerm:
    """One smooth of the model: its basis, the multiplier of its columns, and the position of its coefficients."""

    label: str
    variables: tuple[str, ...]
    by: str | None
    level: str | None  # of a factor `by`
    basis: TermBasis
    constraint: Array | None  # (k, k - 1): maps the coefficients to those of the basis; None: they are the same
    where: slice

    @property
    def needed(self) -> tuple[str, ...]:
        """Variables that its columns are computed from."""
        return (*self.variables, *([self.by] if self.by else []))

    @property
    def size(self) -> int:
        """Number of coefficients."""
        return self.where.stop - self.where.start

    @property
    def null_dim(self) -> int:
        """Number of coefficients that no penalty sees."""
        return self.size - self.basis.rank

    @property
    def may_overlap(self) -> bool:
        """Whether other terms may hold the same functions: it has no sum-to-zero constraint, and is penalised as a whole."""
        return self.constraint is None and self.null_dim == 0

    @property
    def is_effects(self) -> bool:
        """Whether it is a random effect, `bs="re"`."""
        return isinstance(self.basis, Effects)

    def columns(self, values: Mapping[str, Value], orders: Mapping[str, int] | None = None) -> Array:
        """The term's columns of the model matrix, or of a derivative: `orders` by variable."""
        columns = self.basis.columns(
            [values[name] for name in self.variables], [(orders or {}).get(name, 0) for name in self.variables]
        )
        if self.constraint is not None:
            columns = columns @ self.constraint
        if self.by is None:
            return columns
        return columns * _multiplier(values[self.by], self.level)[:, None]

    def penalty(self) -> Penalty:
        return Penalty(self.where, tuple(map(self._absorbed, self.basis.matrices)), self.basis.ranks, self.basis.rank)

    def _absorbed(self, matrix: Array) -> Array:
        """Z'SZ for the constraint Z."""
        if self.constraint is None:
            return matrix
        inner = self.constraint.T @ matrix @ self.constraint
        return (inner + inner.T) / 2


def smooth_terms(frame: ModelFrame, first: int) -> tuple[SmoothTerm, ...]:
    """Smooths of the frame's formula, with coefficients numbered from `first`.

    Raises:
        StatisticsError: a smooth needs numbers or factors that the table does not have, or more unique values.
    """
    terms: list[SmoothTerm] = []
    for smooth in frame.formula.smooths:
        values = [frame.values[name] for name in smooth.variables]
        basis = _basis(smooth, values, frame)
        columns = basis.columns(values, [0] * len(values))
        for label, level, centred in _curves(smooth, frame):
            constraint = sum_to_zero(columns) if centred and basis.centred else None
            where = slice(first, first + columns.shape[1] - (constraint is not None))
            terms.append(SmoothTerm(label, smooth.variables, smooth.by, level, basis, constraint, where))
            first = where.stop
    return tuple(terms)


def _basis(smooth: Smooth, values: Sequence[Value], frame: ModelFrame) -> TermBasis:
    """The basis of a smooth for the data."""
    if smooth.bs == ("re",):
        return Effects.of(values)
    if smooth.bs == ("fs",):
        return curves_by_group(smooth.label, smooth.k[0] if smooth.k else DEFAULT_K, values)
    for name in smooth.variables:
        frame.numbers(name, smooth.label)
    if smooth.kind == "s":
        size = smooth.k[0] if smooth.k else DEFAULT_K
        return one_variable(smooth.label, smooth.bs[0], size, np.asarray(values[0]))
    count = len(values)
    k = smooth.k or (DEFAULT_K_OF_MARGIN,)
    bs = smooth.bs * count if len(smooth.bs) == 1 else smooth.bs
    k = k * count if len(k) == 1 else k
    return tensor(smooth.label, bs, k, values, interaction=smooth.kind == "ti")


def _curves(smooth: Smooth, frame: ModelFrame) -> list[tuple[str, str | None, bool]]:
    """Label, level of `by`, and whether the curve sums to zero, as all do except those multiplied by a number."""
    if smooth.by is None:
        return [(smooth.label, None, True)]
    by = frame.values[smooth.by]
    if isinstance(by, Factor):
        # Curves of an ordered factor are differences from the curve of its first level, which is s(x) without `by`.
        levels = by.levels[1:] if by.ordered else by.levels
        if not levels:
            raise StatisticsError(
                f"{smooth.label}: {smooth.by} is ordered and has one level only, {by.levels[0]}, which gets no curve of its own. "
                "Leave `by` out"
            )
        return [(f"{smooth.label}{level}", level, True) for level in levels]
    return [(smooth.label, None, bool(np.ptp(by) == 0))]


def _multiplier(by: Value, level: str | None) -> Array:
    if not isinstance(by, Factor):
        return by
    code = by.levels.index(level) if level is not None else 0
    return np.where(by.codes < 0, np.nan, (by.codes == code).astype(np.float64))
