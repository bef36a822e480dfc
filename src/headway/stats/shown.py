"""How a fit shows itself: one line in a terminal, its summary in a notebook, and tables and sentences for papers."""

from __future__ import annotations

import html
import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from headway.errors import StatisticsError

if TYPE_CHECKING:
    from headway.stats.model_frame import ModelFrame


class Shown(ABC):
    """A fit of a formula to a frame, with a summary in words."""

    frame: ModelFrame

    @property
    def formula(self) -> str:
        return self.frame.formula.text

    @property
    def n_obs(self) -> int:
        return self.frame.n_obs

    @abstractmethod
    def summary(self) -> str:
        """The fit in words and tables."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.formula}: {self.n_obs} observations>"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.summary())}</pre>"


class Reported(Shown):
    """A fit whose coefficients can be reported: term, estimate, std_error, df, t, p, with intervals."""

    @abstractmethod
    def coefficient_tests(self) -> pl.DataFrame:
        """term, estimate, std_error, df, t, p."""

    @abstractmethod
    def confint(self, level: float = 0.95) -> pl.DataFrame:
        """term, lower, upper."""

    def tidy(self, level: float = 0.95) -> pl.DataFrame:
        """term, estimate, std_error, df, t, p, lower, upper.

        Raises:
            StatisticsError: the level is not between 0 and 1.
        """
        return self.coefficient_tests().hstack(self.confint(level).select("lower", "upper"))

    def to_markdown(self, level: float = 0.95) -> str:
        """The coefficients as a Markdown table."""
        head, rows = _cells(self.tidy(level), level)
        rows = [[re.sub(r"([|`*_\\])", r"\\\1", cell) for cell in row] for row in rows]
        lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"

    def to_latex(self, level: float = 0.95) -> str:
        """The coefficients as a LaTeX table, for the package booktabs."""
        head, rows = _cells(self.tidy(level), level)
        body = "\n".join(" & ".join(map(_latex, row)) + r" \\" for row in rows)
        title = " & ".join(map(_latex, head)) + r" \\"
        columns = "l" + "r" * (len(head) - 1)
        return (
            f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{title}\n\\midrule\n{body}\n\\bottomrule\n\\end{{tabular}}\n"
        )

    def apa(self, term: str, level: float = 0.95) -> str:
        """Report a term in APA style, such as `b = 0.52, SE = 0.11, t(17.0) = 4.73, p < .001, 95% CI [0.29, 0.75]`.

        Raises:
            StatisticsError: the fit has no such term.
        """
        rows = {row["term"]: row for row in self.tidy(level).iter_rows(named=True)}
        if term not in rows:
            raise StatisticsError(f"the fit has no term {term!r}: it has {', '.join(rows)}")
        row = rows[term]
        df = f"{row['df']:.0f}" if row["df"] == round(row["df"]) else f"{row['df']:.1f}"
        p = "p < .001" if row["p"] < 0.001 else f"p = {row['p']:.3f}".replace("0.", ".", 1)
        return (
            f"b = {row['estimate']:.2f}, SE = {row['std_error']:.2f}, t({df}) = {row['t']:.2f}, {p}, "
            f"{100 * level:g}% CI [{row['lower']:.2f}, {row['upper']:.2f}]"
        )


def _cells(tidy: pl.DataFrame, level: float) -> tuple[list[str], list[list[str]]]:
    head = ["Term", "Estimate", "SE", "df", "t", "p", f"{100 * level:g}% CI"]
    rows = [
        [
            row["term"],
            *(f"{row[name]:.4g}" for name in ("estimate", "std_error", "df", "t")),
            "< 0.001" if row["p"] < 0.001 else ("–" if np.isnan(row["p"]) else f"{row['p']:.3f}"),
            f"[{row['lower']:.4g}, {row['upper']:.4g}]",
        ]
        for row in tidy.iter_rows(named=True)
    ]
    return head, rows


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "–": "--",
}  # fmt: skip


def _latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)
