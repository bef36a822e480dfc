"""What a smooth is made of: a curve, a surface, effects of groups, or a curve for each group.

Each basis turns the term's variables into columns (n rows, k columns) with penalties S_j (k, k) on their coefficients.

    basis.columns(values)             (n, k)
    basis.columns(values, (1, 0))     (n, k): the derivative by the first variable
    basis.matrices, basis.ranks       the S_j on mgcv's scale, and their ranks
    basis.rank                        rank of their sum

Sources: Wood (2006) Low-rank scale-invariant tensor product smooths, Biometrics 62, 1025-1036; Wood (2017) Generalized
Additive Models, 2nd ed., §5.6 (tensor products) and §5.8 (random effects); Baayen et al. (2018) J. Mem. Lang. 94, 206-234,
on curves by groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from headway.errors import StatisticsError
from headway.stats.columns import Factor, Value
from headway.stats.smooths import Basis, basis_of, rescaled, sum_to_zero

Array = NDArray[np.float64]


class TermBasis(Protocol):
    """Interface of a term's basis. `centred` says whether its curves must sum to zero over the data."""

    @property
    def centred(self) -> bool: ...
    @property
    def matrices(self) -> tuple[Array, ...]: ...
    @property
    def ranks(self) -> tuple[int, ...]: ...
    @property
    def rank(self) -> int: ...
    def columns(self, values: Sequence[Value], orders: Sequence[int]) -> Array: ...


@dataclass(frozen=True)
class Curve:
    """A curve of one variable."""

    basis: Basis
    centred: bool = True

    @property
    def matrices(self) -> tuple[Array, ...]:
        return (self.basis.penalty,)

    @property
    def ranks(self) -> tuple[int, ...]:
        return (self.rank,)

    @property
    def rank(self) -> int:
        return len(self.basis.penalty) - self.basis.null_dim

    def columns(self, values: Sequence[Value], orders: Sequence[int]) -> Array:
        return self.basis.columns(numbers(values[0]), orders[0])


@dataclass(frozen=True)
class Effects:
    """Independent effects of equal variance: one for each combination of the factors' levels, times the numbers."""

    levels: tuple[tuple[str, ...], ...]  # of the factors, in order
    matrices: tuple[Array, ...]
    centred: bool = False

    @classmethod
    def of(cls, values: Sequence[Value]) -> Effects:
        raw = cls(tuple(value.levels for value in values if isinstance(value, Factor)), ())
        columns = raw.columns(values, [0] * len(values))
        return cls(raw.levels, (rescaled(np.eye(columns.shape[1]), columns),))

    @property
    def ranks(self) -> tuple[int, ...]:
        return (self.rank,)

    @property
    def rank(self) -> int:
        return int(np.prod([len(levels) for levels in self.levels], dtype=int))

    def columns(self, values: Sequence[Value], orders: Sequence[int]) -> Array:
        block = np.ones((len(as_rows(values[0])), 1))
        for value, order in zip(values, orders, strict=True):
            own = indicators(value) if isinstance(value, Factor) else _power(value, order)[:, None]
            block = row_products(own, block)  # the first factor varies fastest, as in R
        return block


@dataclass(frozen=True)
class CurvesByGroup:
    """A curve for each level of a factor, all with the same smoothing, each shrunk to zero as a random effect.

    The penalties are those of `bs="fs"` in mgcv: one of wiggliness, one of the levels' constants and one of their slopes. The
    directions of the last two are ours: the constant, and the straight line that is uncorrelated with it over the data. mgcv
    takes whichever pair its eigenvectors happen to be.
    """

    basis: Basis
    transform: Array  # (k, k): P, so that columns X P are orthogonal over the data
    n_levels: int
    place: int  # of the factor among the variables
    matrices: tuple[Array, ...]
    ranks: tuple[int, ...]
    centred: bool = False

    @classmethod
    def of(cls, basis: Basis, values: Sequence[Value]) -> CurvesByGroup:
        place = next(at for at, value in enumerate(values) if isinstance(value, Factor))
        factor = values[place]
        assert isinstance(factor, Factor)
        columns = basis.columns(numbers(values[1 - place]))
        transform = _natural(columns, basis)
        rank = columns.shape[1] - basis.null_dim
        n_levels = len(factor.levels)
        largest = float(np.abs(columns @ transform).sum(axis=1).max() ** 2)  # of a row of X P, as in `rescaled`
        parts = [np.arange(columns.shape[1]) < rank, *(np.eye(columns.shape[1], dtype=bool)[rank:])]
        matrices = tuple(np.diag(np.tile(part, n_levels) * largest) for part in parts)
        ranks = tuple(int(part.sum()) * n_levels for part in parts)
        return cls(basis, transform, n_levels, place, matrices, ranks)

    @property
    def rank(self) -> int:
        return self.n_levels * len(self.transform)

    def columns(self, values: Sequence[Value], orders: Sequence[int]) -> Array:
        factor, x = values[self.place], 1 - self.place
        assert isinstance(factor, Factor)
        own = self.basis.columns(numbers(values[x]), orders[x]) @ self.transform
        return row_products(indicators(factor), own)


@dataclass(frozen=True)
class Margin:
    """One variable of a surface: a basis, and a change of its coefficients."""

    basis: Basis
    transform: Array  # (k, k) or, for a centred margin, (k, k - 1)

    @classmethod
    def of(cls, bs: str, basis: Basis, x: Array, centred: bool) -> Margin:
        """A margin whose coefficients are its values at even steps (for bases that are not values at knots already)."""
        transform = sum_to_zero(basis.columns(x)) if centred else np.eye(len(basis.penalty))
        if bs == "tp":
            even = np.linspace(x.min(), x.max(), transform.shape[1])
            transform = transform @ np.linalg.inv(basis.columns(even) @ transform)
        return cls(basis, transform)

    @property
    def rank(self) -> int:
        return len(self.basis.penalty) - self.basis.null_dim

    @property
    def penalty(self) -> Array:
        """S with a largest eigenvalue of 1."""
        matrix = self.transform.T @ self.basis.penalty @ self.transform
        return np.asarray(matrix / np.linalg.eigvalsh((matrix + matrix.T) / 2)[-1])

    def columns(self, x: Array, order: int) -> Array:
        return self.basis.columns(x, order) @ self.transform


@dataclass(frozen=True)
class TensorProduct:
    """A surface: the products of all margins' columns, with one penalty in the direction of each variable.

    `te` has all products. `ti` has those of centred margins: what the variables do together beyond what each does alone.
    """

    margins: tuple[Margin, ...]
    matrices: tuple[Array, ...]
    centred: bool

    @classmethod
    def of(cls, margins: tuple[Margin, ...], values: Sequence[Value], centred: bool) -> TensorProduct:
        raw = cls(margins, (), centred)
        columns = raw.columns(values, [0] * len(values))
        matrices = []
        for at in range(len(margins)):
            factors = [m.penalty if n == at else np.eye(m.transform.shape[1]) for n, m in enumerate(margins)]
            product = reduce(_kronecker, factors)
            matrices.append(rescaled((product + product.T) / 2, columns))
        return cls(margins, tuple(matrices), centred)

    @property
    def _sizes(self) -> list[int]:
        return [margin.transform.shape[1] for margin in self.margins]

    @property
    def ranks(self) -> tuple[int, ...]:
        size = int(np.prod(self._sizes))
        return tuple(size // own * margin.rank for own, margin in zip(self._sizes, self.margins, strict=True))

    @property
    def rank(self) -> int:
        unseen = [own - margin.rank for own, margin in zip(self._sizes, self.margins, strict=True)]
        return int(np.prod(self._sizes) - np.prod(unseen))

    def columns(self, values: Sequence[Value], orders: Sequence[int]) -> Array:
        block = np.ones((len(as_rows(values[0])), 1))
        for margin, value, order in zip(self.margins, values, orders, strict=True):
            block = row_products(block, margin.columns(numbers(value), order))
        return block


def one_variable(label: str, bs: str, k: int, x: Array) -> Curve:
    """A curve of `x`; `label` names it in messages."""
    return Curve(basis_of(label, bs, k, x))


def tensor(
    label: str, bs: Sequence[str], k: Sequence[int], values: Sequence[Value], interaction: bool
) -> TensorProduct:
    """A surface of all `values`, or, if `interaction`, what they do together beyond what each does alone."""
    margins = []
    for one, size, value in zip(bs, k, values, strict=True):
        x = numbers(value)
        margins.append(Margin.of(one, basis_of(label, one, size, x), x, centred=interaction))
    return TensorProduct.of(tuple(margins), values, centred=not interaction)


def curves_by_group(label: str, k: int, values: Sequence[Value]) -> CurvesByGroup:
    """A thin-plate curve for each level of the factor among two `values`.

    Raises:
        StatisticsError: there is not exactly one factor among them.
    """
    factors = [value for value in values if isinstance(value, Factor)]
    if len(factors) != 1:
        raise StatisticsError(
            f"{label} needs one number and one factor, and has {len(factors)} factors: "
            'write s(x, factor(g), bs="fs") if g holds numbers'
        )
    x = next(numbers(value) for value in values if not isinstance(value, Factor))
    return CurvesByGroup.of(basis_of(label, "tp", k, x), values)


def numbers(value: Value) -> Array:
    assert not isinstance(value, Factor)
    return value


def as_rows(value: Value) -> Array:
    """An array with one entry a row."""
    return value.codes if isinstance(value, Factor) else value


def indicators(factor: Factor) -> Array:
    """(n, levels): 1 in the column of a row's level; NaN where the level is missing."""
    columns = (factor.codes[:, None] == np.arange(len(factor.levels))).astype(np.float64)
    columns[factor.codes < 0] = np.nan
    return columns


def row_products(slow: Array, fast: Array) -> Array:
    """(n, a·b): every product of a column of `slow` (n, a) with one of `fast` (n, b), which varies fastest."""
    return (slow[:, :, None] * fast[:, None, :]).reshape(len(slow), -1)


def _kronecker(slow: Array, fast: Array) -> Array:
    return np.asarray(np.kron(slow, fast), dtype=np.float64)


def _power(x: Array, order: int) -> Array:
    """x, or its derivative of `order` by itself."""
    return x if order == 0 else np.full_like(x, float(order == 1))


def _natural(columns: Array, basis: Basis) -> Array:
    """P (k, k): X P has orthogonal columns, of which the last span what is not penalised, the constant first.

    With X = QR and R⁻ᵀSR⁻¹ = U D U', the penalised columns are those of QU D^-½, so that the penalty is the identity. Both
    groups of columns are scaled to a mean square of 1.
    """
    q, r = np.linalg.qr(columns)
    whitened = np.linalg.solve(r.T, np.linalg.solve(r.T, basis.penalty).T)
    values, vectors = np.linalg.eigh((whitened + whitened.T) / 2)
    n_free = basis.null_dim
    wiggly = vectors[:, n_free:] / np.sqrt(values[n_free:])
    free = vectors[:, :n_free]
    constant = free.T @ q.sum(axis=0)  # Q'1 within what is not penalised
    free = free @ np.linalg.qr(constant[:, None], mode="complete")[0]
    halves = [half / np.sqrt(np.mean((q @ half) ** 2)) for half in (wiggly, free)]
    return np.linalg.solve(r, np.hstack(halves))
