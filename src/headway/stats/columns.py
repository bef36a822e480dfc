"""The columns of a table as a formula reads them: numbers, whole numbers and categories.

    table = Table(data)                a polars or pandas data frame, or a mapping of columns
    table.height, table.names
    table.column("x")                  float64 array, Integers or Factor

A column is converted on access, so columns that no formula uses cannot cause errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from headway.errors import StatisticsError


class Factor(NamedTuple):
    """A categorical column: `levels[codes[i]]` is the level of row i; code -1 is missing. Levels are distinct."""

    codes: np.ndarray
    levels: tuple[str, ...]
    ordered: bool = False

    @property
    def logical(self) -> bool:
        return self.levels == ("FALSE", "TRUE")

    def take(self, rows: np.ndarray) -> Factor:
        """Select rows by a mask or index, and drop levels that are no longer used."""
        codes = self.codes[rows]
        used = np.unique(codes[codes >= 0])
        if len(used) == len(self.levels):
            return Factor(codes, self.levels, self.ordered)
        new = np.full(len(self.levels) + 1, -1)
        new[used] = np.arange(len(used))
        return Factor(new[codes], tuple(self.levels[level] for level in used), self.ordered)

    def recoded(self, levels: Sequence[str]) -> np.ndarray:
        """Codes of the rows in other `levels`; -1 for missing values and unknown levels."""
        place = {level: number for number, level in enumerate(levels)}
        return np.array([*(place.get(level, -1) for level in self.levels), -1])[self.codes]


class Integers(NamedTuple):
    """A column of whole numbers. float64 is exact only up to 2**53, and identifiers can be larger."""

    series: pl.Series

    @property
    def numbers(self) -> np.ndarray:
        """float64, NaN where missing."""
        return self.series.cast(pl.Float64).to_numpy()

    @property
    def factor(self) -> Factor:
        """Factor with the levels in numeric order, with all their digits."""
        codes = (self.series.rank("dense").cast(pl.Int64) - 1).fill_null(-1).to_numpy()
        levels = self.series.drop_nulls().unique().sort().cast(pl.String)
        return Factor(codes, tuple(levels.to_list()))


Value = np.ndarray | Factor
Column = Value | Integers


def as_factor(column: Column) -> Factor:
    """Convert a column to a factor. Numeric levels are in numeric order."""
    if isinstance(column, Factor):
        return column
    if isinstance(column, Integers):
        return column.factor
    known = ~np.isnan(column)
    numbers, inverse = np.unique(column[known], return_inverse=True)
    labels = [number_label(number) for number in numbers.tolist()]
    place = {label: number for number, label in enumerate(dict.fromkeys(labels))}  # 0.3 and 0.1 + 0.2 are one level
    codes = np.full(len(column), -1)
    codes[known] = np.array([place[label] for label in labels], dtype=int)[inverse]
    return Factor(codes, tuple(place))


def number_label(value: float) -> str:
    """Format a number as a level.

    Whole numbers keep all digits, because they may be identifiers. Fractions have 15 significant digits, as in R's
    as.character.
    """
    if not float(value).is_integer():
        return f"{value:.15g}"
    return f"{value + 0.0:.0f}" if abs(value) < 1e21 else repr(value)  # + 0.0: -0.0 is 0


class Table:
    """A polars or pandas data frame, or a mapping of columns.

    Raises:
        StatisticsError: it is none of these.
    """

    def __init__(self, data: Any) -> None:
        self._data = data.collect() if isinstance(data, pl.LazyFrame) else data
        if isinstance(self._data, pl.DataFrame):
            self.names = list(self._data.columns)
            self.height = self._data.height
        elif isinstance(self._data, Mapping):
            self.names = [str(name) for name in self._data]
            self.height = max((_length(values) for values in self._data.values()), default=0)
        elif _is_pandas(self._data) and hasattr(self._data, "columns"):
            self.names = [str(name) for name in self._data.columns]
            self.height = len(self._data)
        else:
            raise StatisticsError(f"the data are a {type(data).__name__}: pass a polars or pandas data frame")

    def column(self, name: str) -> Column:
        """Return one column.

        Raises:
            StatisticsError: its type is not supported, or two columns have this name.
        """
        if self.names.count(name) > 1:
            raise StatisticsError(f"the table has {self.names.count(name)} columns called {name!r}: rename them")
        values = self._values(self.names.index(name))
        if _is_pandas(values) and str(values.dtype) == "category":
            return _categories(name, values)
        return _read(name, self._series(name, values))

    def _values(self, place: int) -> Any:
        if isinstance(self._data, pl.DataFrame):
            return self._data.to_series(place)
        if isinstance(self._data, Mapping):
            return list(self._data.values())[place]
        return self._data.iloc[:, place]

    def _series(self, name: str, values: Any) -> pl.Series:
        if isinstance(values, pl.Series):
            series = values
        else:
            try:
                series = pl.from_pandas(values) if _is_pandas(values) else _plain(name, values)
            except Exception as error:  # polars and pyarrow raise many types of errors here
                raise StatisticsError(
                    f"column {name!r} cannot be read: it holds {_types(values)}. Turn it into numbers or text first"
                ) from error
        if len(series) == 1 and not hasattr(values, "__len__"):
            series = series.new_from_index(0, self.height)
        if len(series) != self.height:
            raise StatisticsError(f"column {name!r} has {len(series)} values, and another has {self.height}")
        return series


def _is_pandas(data: Any) -> bool:
    # The type is checked by name, because pandas is no dependency and importing it takes a second.
    return type(data).__module__.split(".")[0] == "pandas"


def _length(values: Any) -> int:
    return len(values) if hasattr(values, "__len__") and not isinstance(values, str) else 1


def _plain(name: str, values: Any) -> pl.Series:
    if isinstance(values, list) and {type(value) for value in values} - {type(None)} == {int, float}:
        values = [value if value is None else float(value) for value in values]  # polars rejects [1, 2.5]
    return pl.DataFrame({name: values}).to_series()


def _types(values: Any) -> str:
    """Types of the values in a column, for messages."""
    several = values if hasattr(values, "__iter__") else [values]
    kinds = sorted({type(value).__name__ for value in several if value is not None})
    return f"values of the type {kinds[0]}" if len(kinds) == 1 else f"values of different types ({', '.join(kinds)})"


def _categories(name: str, column: Any) -> Factor:
    """Convert a pandas categorical, by its codes, because its values may be NA, which has no truth value."""
    coded = getattr(column, "cat", column)  # of a Series; a bare Categorical has the same attributes itself
    levels = tuple(_category_label(category) for category in coded.categories.tolist())
    if len(set(levels)) < len(levels):
        twice = next(level for level in levels if levels.count(level) > 1)
        raise StatisticsError(f"column {name!r} has two categories that are written {twice!r}: rename one of them")
    return Factor(np.array(coded.codes, dtype=np.int64), levels, bool(coded.ordered))


def _category_label(category: Any) -> str:
    if isinstance(category, bool):
        return str(category).upper()
    return number_label(category) if isinstance(category, float) else str(category)


def _read(name: str, column: pl.Series) -> Column:
    dtype = column.dtype
    if dtype.is_integer() or dtype.is_decimal():
        return Integers(column)
    if dtype.is_float():
        return column.cast(pl.Float64).to_numpy()
    if dtype == pl.Boolean:
        return Factor(column.cast(pl.Int64).fill_null(-1).to_numpy(), ("FALSE", "TRUE"))
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        occurring = column.drop_nulls().unique().cast(pl.String).sort()
        levels = dtype.categories if isinstance(dtype, pl.Enum) else occurring
        coded = column.cast(pl.Enum(levels)).to_physical().cast(pl.Int64)
        return Factor(coded.fill_null(-1).to_numpy(), tuple(levels.to_list()))
    if dtype == pl.Null:
        return np.full(len(column), np.nan)
    raise StatisticsError(f"column {name!r} is of type {dtype}: turn it into numbers, text or booleans first")
