"""A scorecard as nested dicts, as JSON, and as lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import polars as pl

from headway.store.files import to_json
from headway.studies.result import Result
from headway.studies.scorecard.scale import WIDTHS

_WIDTH = 41  # characters of a line's name


def card(result: Result) -> dict[str, Any]:
    """The rows of the table `axes` by claim and axis; nulls are left out."""
    found: dict[str, Any] = {}
    for row in result.tables["axes"].iter_rows(named=True):
        told = {
            key: value for key, value in row.items() if value is not None and key not in ("subject", "axis", "score")
        }
        of_claim = found.setdefault(row["subject"], {"score": row["score"], "axes": {}})
        of_claim["axes"].setdefault(row["axis"], []).append(told)
    return found


def as_document(*results: Result) -> str:
    """The results as JSON: their values, tables of differences, and findings. Several make a list."""
    documents = [_document(result) for result in results]
    return to_json(documents if len(results) > 1 else documents[0]).decode().rstrip("\n")


def _document(result: Result) -> dict[str, Any]:
    document = {"study": result.study, "subject": result.subject, **result.values, "notes": result.notes}
    if "differences" in result.tables:
        document["differences"] = result.tables["differences"].to_dicts()
    return document | {"findings": [asdict(finding) for finding in result.found]}


def as_text(*results: Result) -> list[str]:
    """A line for each claim and measure, and what would answer the others. Suites and stacks have a heading each."""
    lines = ["On each axis 0 is what chance gives and 1 is perfect; with 95% intervals over runs."]
    for result in results:
        of = {"suite": result.values.get("of_suite"), "stack": result.values.get("stack")}
        if told := [f"{what} {name}" for what, name in of.items() if name]:
            lines += ["", f"= {', '.join(told)} ="]
        lines += _of_one(result)
    return lines


def _of_one(result: Result) -> list[str]:
    lines: list[str] = []
    names = result.values.get("directories") or [""]
    for subject in result.values["roles"]:
        lines += ["", subject]
        for row in result.tables["axes"].filter(subject=subject).iter_rows(named=True):
            lines.append(_line(row, names[0]))
            if "against" in result.tables:
                lines += _beside(result, row, names[1])
    return lines


def _line(row: Mapping[str, Any], directory: str) -> str:
    over = "" if row["over"] == "runs" else f" over {row['over']}"
    name = f"  {row['axis']}, {row['measure']}{over}"
    where = f" [{directory}]" if directory else ""
    if not row["answered"]:
        return f"{name:{_WIDTH}}  –  {row['reason']}. To answer it: {row['needs']}{where}"
    interval = "no interval" if row["lower"] is None else f"{row['lower']:.2f} to {row['upper']:.2f}"
    wide = row["half_width"] is not None and row["half_width"] > WIDTHS[0]
    wanted = f", {row['units_for_02'] or 'over 1,000'} for ± {WIDTHS[0]:g}" if wide else ""
    return f"{name:{_WIDTH}} {row['value']:5.2f}  ({interval}; {row['n_units']} {row['units']}{wanted}){where}"


def _beside(result: Result, row: Mapping[str, Any], directory: str) -> list[str]:
    """The same line of the other directory, and the difference."""
    keys = {key: row[key] for key in ("subject", "axis", "measure", "over")}
    other = result.tables["against"].filter(*(pl.col(key) == value for key, value in keys.items()))
    found = [_line(one, directory) for one in other.iter_rows(named=True)]
    gap = result.tables["differences"].filter(*(pl.col(key) == value for key, value in keys.items()))
    found += [
        f"{'    difference':{_WIDTH}} {one['difference']:+5.2f}  ({one['lower']:+.2f} to {one['upper']:+.2f})"
        for one in gap.drop_nulls("lower").iter_rows(named=True)
    ]
    return found
