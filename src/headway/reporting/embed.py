"""Put data into a page: compressed, and escaped so that they cannot end their element."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from typing import Any

import polars as pl

SIGNIFICANT_DIGITS = 5  # a chart of 1,000 pixels shows three; tooltips show four
_UNSAFE = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


def script_json(value: Any) -> str:
    """JSON that is safe inside a <script> element: it never contains `</script>` or `<!--`."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(_UNSAFE)


def packed(tables: Mapping[str, pl.DataFrame]) -> str:
    """Tables as base64 of gzipped JSON, column by column. The browser unpacks them with DecompressionStream."""
    columns = {name: {column.name: encoded(column) for column in frame} for name, frame in tables.items()}
    text = json.dumps(columns, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=6, mtime=0)).decode()


def rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """The rows as dicts, with None for numbers that JSON lacks."""
    return frame.with_columns(finite(column) for column in frame).to_dicts()


def finite(column: pl.Series) -> pl.Series:
    """Round floats to the precision of a chart, with None for NaN and infinities. Other columns stay unchanged."""
    if not column.dtype.is_float():
        return column
    rounded = column.cast(pl.Float64).round_sig_figs(SIGNIFICANT_DIGITS)
    return rounded.set(~rounded.is_finite(), None)


def encoded(column: pl.Series) -> dict[str, list[Any]]:
    """Encode texts as codes into their levels. Numbers stay unchanged."""
    if column.dtype != pl.String:
        return {"values": finite(column).to_list()}
    levels = column.drop_nulls().unique(maintain_order=True)
    codes = column.replace_strict(levels, pl.int_range(len(levels), eager=True), default=None, return_dtype=pl.Int64)
    return {"levels": levels.to_list(), "codes": codes.to_list()}
