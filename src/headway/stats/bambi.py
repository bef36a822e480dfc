"""A formula and a frame that bambi (Capretto et al. 2022, J. Stat. Softw. 103, 15) takes: the bridge to Bayesian fits.

    bridge = to_bambi("log10(m_step) ~ log10(n_params) + (1 | seed)", runs)
    bambi.Model(bridge.formula, bridge.data.to_pandas()).fit()

headway fits no Bayesian models, and does not need bambi.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from headway.stats.columns import Factor, Value
from headway.stats.formula import Bar, Term, parse
from headway.stats.model_frame import ModelFrame, model_frame


class Bridge(NamedTuple):
    """`formula` in bambi's words, and `data`: the rows that headway would fit, with each transformed variable as a column."""

    formula: str
    data: pl.DataFrame


def to_bambi(formula: str, data: Any) -> Bridge:
    """Translate a model for bambi.

    bambi's formulas know neither `||` nor R's functions. So variables such as `log10(x)`, `I(x^2)` and `poly(x, 2)` are
    computed here, and uncorrelated effects are written as terms of their own. Rows with a missing value are left out.

    Args:
        formula: as `lmm`, `glmm` or `ols` take it.
        data: a polars or pandas data frame.

    Raises:
        StatisticsError: as `lmm` does; or the formula has a smooth, which bambi cannot take from a frame.
    """
    parsed = parse(formula, list(getattr(data, "columns", ())))
    parsed.refuse_smooths("to_bambi")
    frame = model_frame(parsed, data)
    columns = _Columns(frame)
    response = columns.name(str(parsed.response), frame.y)
    parts = ["1" if parsed.intercept else "0"]
    parts += [columns.term(term) for term in parsed.terms]
    parts += [f"offset({columns.variable(name)})" for name in parsed.offsets]
    parts += [columns.bar(bar) for bar in parsed.bars]
    return Bridge(f"{response} ~ {' + '.join(parts)}", pl.DataFrame(columns.data))


class _Columns:
    """The columns that were needed so far, and the names that they have in the new frame, by variable."""

    def __init__(self, frame: ModelFrame) -> None:
        self.frame = frame
        self.data: dict[str, Any] = {}
        self._names: dict[str, list[str]] = {}

    def name(self, variable: str, value: Value) -> str:
        """Store a variable with one column. The name is its text with all but letters and digits replaced."""
        return self._stored(variable, value)[0]

    def variable(self, variable: str) -> str:
        return self.name(variable, self.frame.values[variable])

    def _stored(self, variable: str, value: Value) -> list[str]:
        if variable not in self._names:
            plain = re.sub(r"\W+", "_", variable).strip("_") or "x"
            while plain in self.data:
                plain += "_"
            if not isinstance(value, Factor) and value.ndim == 2:
                named = {f"{plain}_{i + 1}": value[:, i] for i in range(value.shape[1])}
            else:
                named = {plain: _values(value)}
            self.data |= named
            self._names[variable] = list(named)
        return self._names[variable]

    def term(self, term: Term) -> str:
        """An interaction of variables. One with several columns becomes a sum of them."""
        products = [""]
        for variable in term:
            names = self._stored(variable, self.frame.values[variable])
            products = [f"{before}:{name}" if before else name for before in products for name in names]
        return " + ".join(products)

    def bar(self, bar: Bar) -> str:
        group = self.name(bar.group_name, self.frame.group(bar.group))
        effects = ["1" if bar.intercept else "0", *(self.term(term) for term in bar.terms)]
        return f"({' + '.join(effects)}|{group})"


def _values(value: Value) -> Any:
    """Numbers as they are, and factors as strings: bambi takes strings for categories."""
    if not isinstance(value, Factor):
        return np.asarray(value, dtype=float)
    return np.array(value.levels, dtype=object)[value.codes].tolist()
