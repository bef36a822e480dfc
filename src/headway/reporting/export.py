"""Export every figure as SVG and PNG, with its controls at their defaults."""

from __future__ import annotations

import hashlib
import json
import textwrap
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl

from headway.progress import Progress
from headway.reporting import embed, page
from headway.reporting.charts import theme
from headway.reporting.parts import Chapter, Figure
from headway.store.directory import RunDirectory
from headway.store.files import to_json, write_whole

WIDTH = 760
LINE = 135  # characters that fit into it
PNG_SCALE = 2
_SUFFIXES = (".svg", ".png")


def write_figures(chapters: Sequence[Chapter], directory: RunDirectory, progress: Progress) -> None:
    """Write each figure as SVG and PNG. Pictures of figures that no longer exist are removed.

    A figure whose specification and data are the same as those of its pictures is not drawn again.
    """
    todo = [(chapter, figure) for chapter in chapters for figure in chapter.figures if not figure.folded]
    before = _drawn_before(directory)
    now: dict[str, list[str]] = {}
    progress.start("figures", len(todo))
    for chapter, figure in todo:
        name = page.address(chapter, figure.name)
        spec = static_specification(chapter, figure)
        key = _hash(json.dumps([version("vl-convert-python"), PNG_SCALE, spec], default=str).encode())
        paths = [directory.figures / f"{name}{suffix}" for suffix in _SUFFIXES]
        now[name] = [key, *map(_hash_of, paths)]
        if now[name] != before.get(name):
            pictures = _pictures(spec)
            for path, data in zip(paths, pictures, strict=True):
                write_whole(path, data)
            now[name] = [key, *map(_hash, pictures)]
        progress.advance(note=figure.name)
    write_whole(_record(directory), to_json(now))
    _drop_stale(chapters, directory)


def _pictures(spec: dict[str, Any]) -> tuple[bytes, bytes]:
    """The figure as SVG and PNG."""
    import vl_convert

    svg = vl_convert.vegalite_to_svg(spec)
    return svg.encode(), vl_convert.svg_to_png(svg, scale=PNG_SCALE)


def _record(directory: RunDirectory) -> Path:
    """The file that holds, by figure, the hashes of its specification, SVG and PNG."""
    return directory.figures / "drawn.json"


def _drawn_before(directory: RunDirectory) -> dict[str, Any]:
    """The record of the last report; empty if there is none that can be read, and every figure is then drawn."""
    try:
        record = json.loads(_record(directory).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _hash_of(path: Path) -> str:
    try:
        return _hash(path.read_bytes())
    except OSError:
        return ""


def _drop_stale(chapters: Sequence[Chapter], directory: RunDirectory) -> None:
    kept = {
        page.address(chapter, figure.name) for chapter in chapters for figure in chapter.figures if not figure.folded
    }
    for chapter in chapters:
        for path in directory.figures.glob(f"{chapter.study}-*"):  # of all its subjects, also of those that are no more
            if path.suffix in _SUFFIXES and path.stem not in kept:
                path.unlink(missing_ok=True)


def static_specification(chapter: Chapter, figure: Figure) -> dict[str, Any]:
    """Vega-Lite of the chart with its controls at their defaults, at a fixed width, on white."""
    spec = page.specification(chapter, figure)
    chosen = {name: narrowed(page.drawn(chapter, name, [figure]), figure) for name in figure.tables}
    spec["datasets"] = {page.table_address(chapter, name): embed.rows(frame) for name, frame in chosen.items()}
    spec["config"] = theme.config(chapter.n_colours, font=theme.STATIC_FONT) | {"background": "white"}
    spec["config"]["legend"]["disable"] = not figure.legend
    spec["padding"] = 12
    spec["title"] = {"text": figure.title, "anchor": "start", "fontSize": 14, "offset": 12, "subtitle": _words(figure)}
    for param in spec.get("params", []):
        if param["name"] == "top":
            still = narrowed(chapter.tables[figure.tables[0]], figure, sliders=False)
            param["value"] = still[figure.top].max()
    return _without_hover_layers(_sized(spec, figure))


def _words(figure: Figure) -> list[str]:
    """Title and sentence of the figure, wrapped to its width, because a picture is seen without its page."""
    choice = ", ".join(f"{control.label.lower()} {control.default}" for control in figure.controls)
    return [*([choice] if choice else []), *textwrap.wrap(figure.sentence, LINE)]


def _without_hover_layers(spec: dict[str, Any]) -> dict[str, Any]:
    """Remove the invisible points, which make up most of a picture's bytes. Points with a name stay: a selection needs them."""
    if "spec" in spec:
        spec["spec"] = _without_hover_layers(spec["spec"])
    if "layer" in spec:
        layers = [_without_hover_layers(layer) for layer in spec["layer"]]
        spec["layer"] = [one for one in layers if "name" in one or one.get("mark", {}).get("opacity") != 0]
    return spec


def narrowed(frame: pl.DataFrame, figure: Figure, *, sliders: bool = True) -> pl.DataFrame:
    """The rows that the figure's controls select by default."""
    for control in figure.controls:
        if control.column in frame.columns and (sliders or not control.slider):
            frame = frame.filter(pl.col(control.column) == control.default)
    return frame


def _sized(spec: dict[str, Any], figure: Figure) -> dict[str, Any]:
    layout = figure.layout
    if "facet" in spec:
        one_row = layout.panels <= layout.max_columns + 1  # else its last panel would stand alone
        columns = layout.panels if one_row else layout.max_columns
        spec["columns"] = columns
        if layout.panels % columns:  # a shared axis would stand under the empty places of the last row, too
            resolve = spec.get("resolve", {})
            spec["resolve"] = resolve | {"axis": resolve.get("axis", {}) | {"x": "independent"}}
        spec["spec"]["width"] = max(150, WIDTH // columns - (60 if layout.own_axes else 25))
    elif layout.square:
        spec |= {"width": 520, "height": 520}
    else:
        spec["width"] = WIDTH - 70
    return spec
