"""A formula and a table → the numbers of a model: response, design matrices with R's names, groups.

    frame = model_frame(parse(text), data)
    frame.y                                     (n_obs,)
    frame.design(intercept, terms)              Design(matrix (n_obs, p), names, assign)
    frame.values["log10(step)"]                 float64 array or Factor, of the rows that are kept
    frame.group(("a", "b"))                     Factor of the interaction a:b
    frame.of_new(rows, ["x", "g"])              the same variables in other rows, coded as here

Rows with a missing value in any variable are dropped and counted, as R's na.omit does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from headway.errors import StatisticsError
from headway.stats.formula import INTERCEPT, Formula, Term
from headway.stats.formula_syntax import Name, Node, error_at
from headway.stats.functions import Evaluator, Factor, Memory, Value, as_factor, names_in

# A column counts as collinear when what the columns before it leave of it is smaller than this share: lm's own limit.
COLLINEAR = 1e-7


class Design(NamedTuple):
    """A model matrix (n, p), R's name of each column, and the number of each column's term (0 = intercept)."""

    matrix: np.ndarray
    names: tuple[str, ...]
    assign: tuple[int, ...]

    def keep(self, columns: list[int]) -> Design:
        return Design(
            self.matrix[:, columns],
            tuple(self.names[j] for j in columns),
            tuple(self.assign[j] for j in columns),
        )


@dataclass(frozen=True)
class ModelFrame:
    """The variables of a formula in the rows that are whole.

    Attributes:
        y: the response, (n_obs,).
        values: each variable, by its text.
        rows: which rows of the table are kept, (n_obs,).
        n_dropped: rows left out for a missing value.
        notices: what a reader should know, in words.
    """

    formula: Formula
    y: np.ndarray
    values: dict[str, Value]
    rows: np.ndarray
    n_dropped: int
    notices: tuple[str, ...]
    memory: Memory

    @property
    def n_obs(self) -> int:
        return len(self.rows)

    def numbers(self, variable: str, what: str) -> np.ndarray:
        """A variable that must be numeric.

        Raises:
            StatisticsError: it is categorical.
        """
        value = self.values[variable]
        if isinstance(value, Factor):
            raise StatisticsError(f"{variable} is categorical, and {what} needs numbers")
        return value

    def factor(self, variable: str) -> Factor:
        """A variable as a factor; numbers become levels."""
        return as_factor(self.values[variable])

    def group(self, group: Term) -> Factor:
        """The interaction of the group's columns; only combinations that occur are levels."""
        return reduce(_interaction, (self.factor(variable) for variable in group))

    def design(self, intercept: bool, terms: Iterable[Term], sum_to_zero: bool = False) -> Design:
        """The model matrix, by treatment or sum-to-zero contrasts, with R's column names and order."""
        return design(self.values, intercept, tuple(terms), self.n_obs, sum_to_zero)

    def of_new(self, data: Any, variables: Iterable[str], new_levels: bool = False) -> dict[str, Value]:
        """`variables` in the rows of another table; factors have the levels of the fit.

        Rows with missing values stay: NaN in numbers, code -1 in factors.

        Args:
            new_levels: leave every column as it is, whatever the fit has seen of it.

        Raises:
            StatisticsError: a column is missing, or a factor has a level that the fit has not seen.
        """
        table = as_polars(data)
        nodes = {variable: self.formula.nodes[variable] for variable in variables}
        columns = _read_columns(table, nodes.values(), self.formula.text)
        evaluator = Evaluator(self.formula.text, columns, table.height, self.memory, learning=False)
        values = {name: evaluator.variable(node) for name, node in nodes.items()}
        return values if new_levels else {name: _as_fitted(name, v, self.values[name]) for name, v in values.items()}


def model_frame(formula: Formula, data: Any) -> ModelFrame:
    """The variables of `formula` from `data`, a polars or pandas frame (or a mapping of columns).

    Raises:
        StatisticsError: a column is missing, not of a usable type, or infinite; the response is not numeric; or no
            whole row is left.
    """
    table = as_polars(data)
    if table.height == 0:
        raise StatisticsError("the table is empty: it has no rows to fit the model to")
    nodes = {str(formula.response): formula.response, **formula.nodes}
    columns = _read_columns(table, nodes.values(), formula.text)
    evaluator = Evaluator(formula.text, columns, table.height, memory={}, learning=True)
    values = {name: evaluator.variable(node) for name, node in nodes.items()}

    notices = []
    for name, node in nodes.items():
        _refuse_infinite(name, values[name])
        n_undefined = int(np.sum(_missing(values[name]) & ~_any_missing(node, columns, table.height)))
        if n_undefined:
            notices.append(f"{name} is not a number in {_rows(n_undefined)} where its column is")
    whole = ~np.any([_missing(value) for value in values.values()], axis=0)
    n_dropped = int(np.sum(~whole))
    if n_dropped:
        notices.append(f"{_rows(n_dropped)} of {table.height} dropped for a missing value")
    if not whole.any():
        raise StatisticsError(f"no row is left: every one of {_rows(table.height)} has a missing value")
    rows = np.flatnonzero(whole)
    values = {name: _take(value, rows) for name, value in values.items()}

    y = (
        values.pop(str(formula.response))
        if str(formula.response) not in formula.nodes
        else values[str(formula.response)]
    )
    if isinstance(y, Factor):
        if not y.logical:
            raise error_at(formula.text, formula.response.at, f"the response {formula.response} is not numeric")
        y = y.codes.astype(np.float64)
    return ModelFrame(formula, y, values, rows, n_dropped, tuple(notices), evaluator.memory)


def design(
    values: Mapping[str, Value], intercept: bool, terms: tuple[Term, ...], n_rows: int, sum_to_zero: bool = False
) -> Design:
    """The model matrix of `terms`.

    A factor is coded by contrasts in a term whose margin (the term without it) is in the model, and by one indicator
    per level elsewhere; without an intercept the first factor gets indicators too (Chambers & Hastie 1992, §2.4).
    """
    blocks = [np.ones((n_rows, 1))] if intercept else []
    names = ["(Intercept)"] if intercept else []
    assign = [0] if intercept else []
    in_model = {frozenset(term) for term in (*terms, INTERCEPT)}
    first_factor_is_whole = not intercept
    for number, term in enumerate(terms, start=1):
        block, labels = np.ones((n_rows, 1)), [""]
        for variable in term:
            value = values[variable]
            whole = frozenset(term) - {variable} not in in_model
            if isinstance(value, Factor) and first_factor_is_whole:
                whole, first_factor_is_whole = True, False
            columns, suffixes = _columns(value, whole, sum_to_zero)
            # the first factor varies fastest, as in R
            block = (columns[:, :, None] * block[:, None, :]).reshape(n_rows, -1)
            labels = [f"{label}:{variable}{suffix}".lstrip(":") for suffix in suffixes for label in labels]
        blocks.append(block)
        names += labels
        assign += [number] * len(labels)
    matrix = np.concatenate(blocks, axis=1) if blocks else np.empty((n_rows, 0))
    return Design(np.ascontiguousarray(matrix), tuple(names), tuple(assign))


def without_collinear(full: Design) -> tuple[Design, tuple[str, ...]]:
    """The design without the columns that those before them already hold, and the names of these."""
    matrix = full.matrix
    norms = np.linalg.norm(matrix, axis=0)
    if matrix.shape[1] <= matrix.shape[0]:
        left_over = np.abs(np.diag(np.linalg.qr(matrix, mode="r")))
        if np.all(left_over > COLLINEAR * norms):
            return full, ()
    kept: list[int] = []
    basis = np.empty((matrix.shape[0], 0))
    for j, column in enumerate(matrix.T):
        rest = column - basis @ (basis.T @ column)
        rest = rest - basis @ (basis.T @ rest)  # a second pass makes the rest orthogonal to rounding
        norm = np.linalg.norm(rest)
        if norm > COLLINEAR * norms[j]:
            kept.append(j)
            basis = np.column_stack([basis, rest / norm])
    return full.keep(kept), tuple(name for j, name in enumerate(full.names) if j not in kept)


def as_polars(data: Any) -> pl.DataFrame:
    """A polars frame of any table that is one.

    Raises:
        StatisticsError: it is no table.
    """
    if isinstance(data, pl.DataFrame):
        return data
    if isinstance(data, pl.LazyFrame):
        return data.collect()
    if isinstance(data, Mapping):
        return pl.DataFrame(dict(data))
    if type(data).__module__.split(".")[0] == "pandas" and hasattr(data, "columns"):
        return pl.DataFrame([_from_pandas(str(name), data[name]) for name in data.columns])
    raise StatisticsError(f"the data are a {type(data).__name__}: pass a polars or pandas data frame")


def _from_pandas(name: str, column: Any) -> pl.Series:
    if str(column.dtype) == "category":
        categories = pl.Enum([str(category) for category in column.cat.categories])
        return pl.Series(name, [None if value != value else str(value) for value in column], dtype=categories)
    series = pl.from_pandas(column)
    return series.alias(name)


def _read_columns(table: pl.DataFrame, nodes: Iterable[Node], text: str) -> dict[str, Value]:
    wanted = {name.name: name for node in nodes for name in names_in(node)}
    return {name: _read(table, place, text) for name, place in wanted.items()}


def _read(table: pl.DataFrame, place: Name, text: str) -> Value:
    if place.name not in table.columns:
        lower = {name.lower(): name for name in table.columns}
        close = [lower[name] for name in get_close_matches(place.name.lower(), lower, n=3, cutoff=0.6)]
        hint = f"did you mean {' or '.join(close)}?" if close else f"it has {', '.join(table.columns)}"
        raise error_at(text, place.at, f"the table has no column {place.name!r}: {hint}")
    column = table.get_column(place.name)
    dtype = column.dtype
    if dtype.is_numeric():
        return column.cast(pl.Float64).to_numpy()
    if dtype == pl.Boolean:
        return Factor(column.cast(pl.Int64).fill_null(-1).to_numpy(), ("FALSE", "TRUE"))
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        occurring = column.drop_nulls().unique().cast(pl.String).sort()
        levels = dtype.categories if isinstance(dtype, pl.Enum) else occurring
        coded = column.cast(pl.Enum(levels)).to_physical().cast(pl.Int64)
        return Factor(coded.fill_null(-1).to_numpy(), tuple(levels.to_list()))
    if dtype == pl.Null:
        return np.full(table.height, np.nan)
    raise error_at(
        text, place.at, f"column {place.name!r} is of type {dtype}: turn it into numbers, text or booleans first"
    )


def _columns(value: Value, whole: bool, sum_to_zero: bool) -> tuple[np.ndarray, list[str]]:
    """The columns of one variable in a term, and what each adds to the variable's name."""
    if not isinstance(value, Factor):
        return value[:, None], [""]
    indicators = (value.codes[:, None] == np.arange(len(value.levels))).astype(np.float64)
    indicators[value.codes < 0] = np.nan
    if whole:
        return indicators, list(value.levels)
    if sum_to_zero:  # level i less the last one
        return indicators[:, :-1] - indicators[:, -1:], [str(number) for number in range(1, len(value.levels))]
    return indicators[:, 1:], list(value.levels[1:])


def _interaction(a: Factor, b: Factor) -> Factor:
    combined = a.codes * len(b.levels) + b.codes
    used, codes = np.unique(combined, return_inverse=True)
    pairs = zip(*np.divmod(used, len(b.levels)), strict=True)
    return Factor(codes, tuple(f"{a.levels[i]}:{b.levels[j]}" for i, j in pairs))


def _as_fitted(name: str, value: Value, fitted: Value) -> Value:
    if not isinstance(fitted, Factor):
        if isinstance(value, Factor):
            raise StatisticsError(f"{name} is categorical in the new rows, and numeric where the model was fitted")
        return value
    value = as_factor(value)
    code = {level: number for number, level in enumerate(fitted.levels)}
    used = np.unique(value.codes[value.codes >= 0])
    unseen = [value.levels[level] for level in used if value.levels[level] not in code]
    if unseen:
        raise StatisticsError(f"{name} has a level that the model has not seen: {', '.join(unseen[:5])}")
    lookup = np.array([code.get(level, -1) for level in value.levels] + [-1])
    return Factor(lookup[value.codes], fitted.levels)


def _missing(value: Value) -> np.ndarray:
    return value.codes < 0 if isinstance(value, Factor) else np.isnan(value)


def _any_missing(node: Node, columns: Mapping[str, Value], n_rows: int) -> np.ndarray:
    missing = [_missing(columns[name.name]) for name in names_in(node)]
    return np.any(missing, axis=0) if missing else np.zeros(n_rows, dtype=bool)


def _take(value: Value, rows: np.ndarray) -> Value:
    return value.take(rows) if isinstance(value, Factor) else value[rows]


def _refuse_infinite(name: str, value: Value) -> None:
    if not isinstance(value, Factor) and np.isinf(value).any():
        where = np.flatnonzero(np.isinf(value))
        raise StatisticsError(
            f"{name} is infinite in {_rows(len(where))} (first: row {where[0]}, counted from 0): "
            "a logarithm of 0, or a division by 0? Change or leave out these rows"
        )


def _rows(n: int) -> str:
    return f"{n} row" if n == 1 else f"{n} rows"
