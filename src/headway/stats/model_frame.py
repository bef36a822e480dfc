"""Turn a formula and a table into the numbers of a model: response, design matrices with R's names, groups.

    frame = model_frame(parse(text), data)
    frame.y                                     (n_obs,)
    frame.design(intercept, terms)              Design(matrix (n_obs, p), names, assign)
    frame.values["log10(step)"]                 float64 array or Factor, of the complete rows
    frame.group(("a", "b"))                     Factor of the interaction a:b
    frame.of_new(rows, ["x", "g"])              the same variables in other rows, with the same coding
    frame.group_of_new(rows, ("a", "b"))        levels of the interaction in other rows

Rows with a missing value in any variable are dropped and counted, as in R's na.omit.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple

import numpy as np

from headway.errors import StatisticsError
from headway.stats.columns import Column, Factor, Integers, Table, Value, as_factor
from headway.stats.contrasts import polynomials
from headway.stats.formula import INTERCEPT, Formula, Term
from headway.stats.formula_syntax import Name, Node, error_at
from headway.stats.functions import CONSTANTS, Evaluator, Memory, names_in

# A column is collinear if less than this share of it remains after projecting out the columns before it (R's lm limit).
COLLINEAR = 1e-7


# "own" codes ordered factors by polynomials and others by treatment contrasts. The others apply to all factors.
Coding = Literal["own", "treatment", "sum"]


class Design(NamedTuple):
    """A model matrix (n, p), R's name of each column, and the number of each column's term (0 = intercept).

    `places` are column numbers in the design before columns are left out. New rows select their columns by number, because
    names may be equal: level `y2` of a factor `g`, and a column `gy2`.
    """

    matrix: np.ndarray
    names: tuple[str, ...]
    assign: tuple[int, ...]
    places: tuple[int, ...]

    def keep(self, columns: Sequence[int]) -> Design:
        return Design(
            self.matrix[:, list(columns)],
            tuple(self.names[j] for j in columns),
            tuple(self.assign[j] for j in columns),
            tuple(self.places[j] for j in columns),
        )


@dataclass(frozen=True)
class ModelFrame:
    """The variables of a formula in the complete rows.

    Attributes:
        y: the response, (n_obs,).
        values: each variable by its text, except those that only group.
        groups: each variable after a `|`, by its text.
        rows: indices of the complete rows, (n_obs,).
        n_dropped: number of rows with a missing value.
        notices: sentences that a reader should know.
        hidden: constants that are hidden by a column of the table.
        means: mean of each numeric column over the complete rows, by the column's name.
        weights: prior weight of each row, (n_obs,), or None if all are 1.
    """

    formula: Formula
    y: np.ndarray
    values: dict[str, Value]
    groups: dict[str, Factor]
    rows: np.ndarray
    n_dropped: int
    notices: tuple[str, ...]
    hidden: frozenset[str]
    memory: Memory
    means: dict[str, float]
    weights: np.ndarray | None = None

    @property
    def n_obs(self) -> int:
        return len(self.rows)

    @property
    def offset(self) -> np.ndarray:
        """Sum of the offsets, (n_obs,)."""
        return sum((self.numbers(name, "an offset") for name in self.formula.offsets), np.zeros(self.n_obs))

    @property
    def target(self) -> np.ndarray:
        """The response without the offset, (n_obs,)."""
        return self.y - self.offset if self.formula.offsets else self.y

    def weighted(self, rows: np.ndarray) -> np.ndarray:
        """Rows (n_obs,) or (n_obs, columns) times the square roots of their weights."""
        if self.weights is None:
            return rows
        root = np.sqrt(self.weights)
        return rows * (root if rows.ndim == 1 else root[:, None])

    @property
    def log_weights(self) -> float:
        """Sum of the logarithms of the weights."""
        return 0.0 if self.weights is None else float(np.log(self.weights).sum())

    def offset_of_new(self, table: Table) -> np.ndarray:
        """Sum of the offsets in the rows of another table, (rows,)."""
        values = self.of_new(table, self.formula.offsets)
        return sum((np.asarray(value) for value in values.values()), np.zeros(table.height))

    def numbers(self, variable: str, what: str) -> np.ndarray:
        """Return a numeric variable.

        Raises:
            StatisticsError: it is categorical.
        """
        value = self.values[variable]
        if isinstance(value, Factor):
            raise StatisticsError(f"{variable} is categorical, and {what} needs numbers")
        return value

    def subset(self, places: np.ndarray) -> ModelFrame:
        """The frame of some complete rows, by their places among these."""
        return replace(
            self,
            y=self.y[places],
            values={name: _take(value, places) for name, value in self.values.items()},
            groups={name: group.take(places) for name, group in self.groups.items()},
            rows=self.rows[places],
            weights=None if self.weights is None else self.weights[places],
        )

    def group(self, group: Term) -> Factor:
        """Interaction of the group's columns. Only combinations that occur are levels."""
        parts = [self.groups[variable] for variable in group]
        codes, used = _combinations(parts)
        return Factor(codes, _combined_labels(parts, used))

    def group_of_new(self, table: Table, group: Term) -> np.ndarray:
        """Codes of `self.group(group)` for the rows of another table.

        Raises:
            StatisticsError: a column is missing, or a combination of levels is not in the fitted data.
        """
        evaluator = self._evaluator(table, group)
        parts = [evaluator.factor(self.formula.nodes[variable]) for variable in group]
        fitted = [self.groups[variable] for variable in group]
        number = {tuple(row): code for code, row in enumerate(_combinations(fitted)[1].tolist())}
        places = np.column_stack([new.recoded(old.levels) for new, old in zip(parts, fitted, strict=True)])
        codes = np.array([number.get(tuple(row), -1) for row in places.tolist()], dtype=int)
        if np.any(codes < 0):
            words = [
                [p.levels[p.codes[row]] if p.codes[row] >= 0 else "a missing value" for p in parts]
                for row in np.flatnonzero(codes < 0)
            ]
            unseen = sorted({":".join(row) for row in words})
            raise StatisticsError(
                f"{':'.join(group)} has levels that are not in the fitted data ({', '.join(unseen[:5])}): "
                "predict(new, random=False) gives the prediction for the population"
            )
        return codes

    def design(self, intercept: bool, terms: Iterable[Term], coding: Coding = "own") -> Design:
        """The model matrix, with R's column names and order."""
        return design(self.values, intercept, tuple(terms), self.n_obs, coding)

    def of_new(self, table: Table, variables: Collection[str]) -> dict[str, Value]:
        """Compute `variables` in the rows of another table, with the factor levels of the fit.

        Rows with missing values stay: NaN in numbers, code -1 in factors.

        Raises:
            StatisticsError: a column is missing, or a factor has a level that is not in the fitted data.
        """
        evaluator = self._evaluator(table, variables)
        new: dict[str, Value] = {}
        for name in variables:
            node, fitted = self.formula.nodes[name], self.values[name]
            categorical = isinstance(fitted, Factor)
            value = evaluator.factor(node) if categorical else evaluator.variable(node)
            new[name] = _as_fitted(name, value, fitted)
        return new

    def _evaluator(self, table: Table, variables: Iterable[str]) -> Evaluator:
        nodes = [self.formula.nodes[variable] for variable in variables]
        columns = _read_columns(table, nodes, self.formula.text, self.hidden)
        return Evaluator(self.formula.text, columns, table.height, self.memory, learning=False)


def model_frame(formula: Formula, data: Any, weights: str | None = None) -> ModelFrame:
    """Read the variables of `formula` from `data`, a polars or pandas frame or a mapping of columns.

    Args:
        weights: name of the column of prior weights; None weights all rows alike.

    Raises:
        StatisticsError: a column is missing, of an unsupported type or infinite; the response is not numeric; a weight is
            not positive; or no complete row is left.
    """
    table = Table(data)
    if table.height == 0:
        raise StatisticsError("the table is empty: it has no rows to fit the model to")
    nodes = {str(formula.response): formula.response, **formula.nodes}
    hidden = frozenset(CONSTANTS.keys() & set(table.names))
    columns = _read_columns(table, nodes.values(), formula.text, hidden)
    evaluator = Evaluator(formula.text, columns, table.height, memory={}, learning=True)
    only_group = set(formula.grouping) - {str(formula.response), *formula.variables}
    values = {name: evaluator.variable(node) for name, node in nodes.items() if name not in only_group}
    groups = {name: evaluator.factor(nodes[name]) for name in formula.grouping}

    notices = []
    for name, value in {**groups, **values}.items():
        _refuse_infinite(name, value)
        n_undefined = int(np.sum(_missing(value) & ~_any_missing(nodes[name], columns, table.height)))
        if n_undefined:
            notices.append(f"{name} is not a number in {_rows(n_undefined)} where its column is")
    weight = None if weights is None else _weights(table, weights)
    extra = [] if weight is None else [weight]
    whole = ~np.any([_missing(value) for value in (*values.values(), *groups.values(), *extra)], axis=0)
    n_dropped = int(np.sum(~whole))
    if n_dropped:
        notices.append(f"{_rows(n_dropped)} of {table.height} dropped for a missing value")
    if not whole.any():
        raise StatisticsError(f"no row is left: every one of {_rows(table.height)} has a missing value")
    rows = np.flatnonzero(whole)
    values = {name: _take(value, rows) for name, value in values.items()}
    groups = {name: group.take(rows) for name, group in groups.items()}

    y = values[str(formula.response)]
    if isinstance(y, Factor):
        if not y.logical:
            raise error_at(formula.text, formula.response.at, f"the response {formula.response} is not numeric")
        y = y.codes.astype(np.float64)
    numeric = {n: c.numbers if isinstance(c, Integers) else c for n, c in columns.items() if not isinstance(c, Factor)}
    means = {name: float(np.mean(column[rows])) for name, column in numeric.items()}
    return ModelFrame(formula, y, values, groups, rows, n_dropped, tuple(notices), hidden, evaluator.memory, means,
                      None if weight is None else weight[rows])  # fmt: skip


def _weights(table: Table, name: str) -> np.ndarray:
    if name not in table.names:
        raise StatisticsError(f"the table has no column {name!r} for the weights: it has {', '.join(table.names)}")
    column = table.column(name)
    if isinstance(column, Factor):
        raise StatisticsError(f"the weights {name} are categorical: they must be positive numbers")
    weights = column.numbers if isinstance(column, Integers) else column
    if np.any(weights <= 0) or np.any(np.isinf(weights)):
        raise StatisticsError(f"the weights {name} must be positive and finite: leave out rows with weight 0")
    return weights


def design(
    values: Mapping[str, Value], intercept: bool, terms: tuple[Term, ...], n_rows: int, coding: Coding = "own"
) -> Design:
    """Make the model matrix of `terms`.

    A factor is coded by contrasts if the term without it is in the model, else by one indicator per level. Without an
    intercept, the first factor also gets indicators (Chambers & Hastie 1992, §2.4). Contrasts of ordered factors are
    orthogonal polynomials. Those of other factors compare with the first level.
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
            columns, suffixes = _columns(variable, value, whole, coding)
            # the first factor varies fastest, as in R
            block = (columns[:, :, None] * block[:, None, :]).reshape(n_rows, -1)
            labels = [f"{label}:{variable}{suffix}".lstrip(":") for suffix in suffixes for label in labels]
        blocks.append(block)
        names += labels
        assign += [number] * len(labels)
    matrix = np.concatenate(blocks, axis=1) if blocks else np.empty((n_rows, 0))
    return Design(np.ascontiguousarray(matrix), tuple(names), tuple(assign), tuple(range(len(names))))


def without_collinear(full: Design) -> tuple[Design, tuple[str, ...]]:
    """Leave out the columns that are spanned by the columns before them, and return their names."""
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


def _read_columns(table: Table, nodes: Iterable[Node], text: str, hidden: Collection[str]) -> dict[str, Column]:
    """Read the columns that the expressions name. `hidden` are constants that are hidden by a column."""
    wanted = {name.name: name for node in nodes for name in names_in(node)}
    return {
        name: _read(table, place, text) for name, place in wanted.items() if name not in CONSTANTS or name in hidden
    }


def _read(table: Table, place: Name, text: str) -> Column:
    if place.name not in table.names:
        lower = {name.lower(): name for name in table.names}
        close = [lower[name] for name in get_close_matches(place.name.lower(), lower, n=3, cutoff=0.6)]
        hint = f"did you mean {' or '.join(close)}?" if close else f"it has {', '.join(table.names)}"
        raise error_at(text, place.at, f"the table has no column {place.name!r}: {hint}")
    try:
        return table.column(place.name)
    except StatisticsError as error:
        raise error_at(text, place.at, str(error)) from error


def _columns(variable: str, value: Value, whole: bool, coding: Coding) -> tuple[np.ndarray, list[str]]:
    """Columns of one variable in a term, and the suffixes of their names."""
    if not isinstance(value, Factor):
        if value.ndim == 1 or value.shape[1] == 1:
            return value.reshape(-1, 1), [""]
        return value, [str(number) for number in range(1, value.shape[1] + 1)]
    indicators = (value.codes[:, None] == np.arange(len(value.levels))).astype(np.float64)
    indicators[value.codes < 0] = np.nan
    if whole:
        return indicators, list(value.levels)
    if coding == "sum":  # level i less the last one
        return indicators[:, :-1] - indicators[:, -1:], [str(number) for number in range(1, len(value.levels))]
    if coding == "own" and value.ordered:
        contrasts, suffixes = polynomials(variable, len(value.levels))
        return indicators @ contrasts, suffixes
    return indicators[:, 1:], list(value.levels[1:])


def _combinations(parts: Sequence[Factor]) -> tuple[np.ndarray, np.ndarray]:
    """Number of each row's combination of levels, and the levels (combinations, parts) of each combination."""
    codes, used = parts[0].codes, np.arange(len(parts[0].levels))[:, None]
    for part in parts[1:]:
        cells, codes = np.unique(codes * len(part.levels) + part.codes, return_inverse=True)
        before, own = np.divmod(cells, len(part.levels))
        used = np.column_stack([used[before], own])
    return codes, used


def _combined_labels(parts: Sequence[Factor], used: np.ndarray) -> tuple[str, ...]:
    """Labels `a:b` of combinations. If two are equal (`x:y` with `z`, `x` with `y:z`), parts with a colon are quoted."""
    words = [[part.levels[code] for part, code in zip(parts, row, strict=True)] for row in used]
    labels = [":".join(row) for row in words]
    if len(set(labels)) < len(labels):
        labels = [
            ":".join(json.dumps(w, ensure_ascii=False) if set(w) & set(':"') else w for w in row) for row in words
        ]
    return tuple(labels)


def _as_fitted(name: str, value: Value, fitted: Value) -> Value:
    if not isinstance(fitted, Factor):
        if isinstance(value, Factor):
            raise StatisticsError(f"{name} is categorical in the new rows, and numeric where the model was fitted")
        return value
    value = as_factor(value)
    codes = value.recoded(fitted.levels)
    unseen = np.unique(value.codes[(codes < 0) & (value.codes >= 0)])
    if len(unseen):
        words = ", ".join(value.levels[level] for level in unseen[:5])
        raise StatisticsError(f"{name} has a level that is not in the fitted data: {words}")
    return Factor(codes, fitted.levels, fitted.ordered)


def _missing(value: Column) -> np.ndarray:
    if isinstance(value, Integers):
        return value.series.is_null().to_numpy()
    if isinstance(value, Factor):
        return value.codes < 0
    return np.asarray(np.isnan(value).reshape(len(value), -1).any(axis=1))


def _any_missing(node: Node, columns: Mapping[str, Column], n_rows: int) -> np.ndarray:
    missing = [_missing(columns[name.name]) for name in names_in(node) if name.name in columns]
    return np.any(missing, axis=0) if missing else np.zeros(n_rows, dtype=bool)


def _take(value: Value, rows: np.ndarray) -> Value:
    return value.take(rows) if isinstance(value, Factor) else value[rows]


def _refuse_infinite(name: str, value: Value) -> None:
    if not isinstance(value, Factor) and np.isinf(value).any():
        where = np.flatnonzero(np.isinf(value).reshape(len(value), -1).any(axis=1))
        raise StatisticsError(
            f"{name} is infinite in {_rows(len(where))} (first: row {where[0]}, counted from 0): "
            "a logarithm of 0, or a division by 0? Change or leave out these rows"
        )


def _rows(n: int) -> str:
    return f"{n} row" if n == 1 else f"{n} rows"
