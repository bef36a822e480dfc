"""The tables beside a published model: its robust line, and the line without one of the sizes."""

from __future__ import annotations

from collections.abc import Iterator

from headway.reporting.context import Context
from headway.reporting.parts import Table

_NUMBERS = {"estimate": "Estimate", "std_error": "SE", "df": "df", "t": "t", "p": "p"}


def beside(context: Context, model: str) -> Iterator[Table]:
    """The published and the robust line of `model`; and of an outcome of runs, the line without each size in turn."""
    name = model.replace("_", "-")
    if context.has(f"robust_{model}"):
        frame = context.tables[f"robust_{model}"]
        yield Table(
            f"robust-{name}",
            "Published and robust",
            frame,
            {"kind": "Model", "formula": "Formula", "term": "Term", **_NUMBERS},
            frame["why"][0],
        )
    if context.has(f"without_size_{model}"):
        yield Table(
            f"without-size-{name}",
            "Without one of the sizes",
            context.tables[f"without_size_{model}"],
            {"size": "Without", **_NUMBERS},
            "The robust line without each size in turn. Where one size decides, the others do not bear the claim.",
            folded=True,
        )
