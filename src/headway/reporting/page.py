"""Write the report as one HTML page that opens offline: it contains Vega's JavaScript, the data and the texts.

Jinja escapes texts, and `embed` escapes data. The page's security policy allows its own two scripts and no others.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cache
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import altair as alt
import polars as pl

from headway import __version__
from headway.errors import StorageError
from headway.reporting import embed
from headway.reporting.charts import forms, theme
from headway.reporting.legends import Swatch, legend
from headway.reporting.measured import Measurement
from headway.reporting.numbers import cells, headings
from headway.reporting.parts import Chapter, Figure, Highlight, Item, Layout, Missing, Model, Section, Table
from headway.reporting.viewer import Viewer
from headway.store.cache import own_cache
from headway.store.files import write_whole

if TYPE_CHECKING:
    from jinja2 import Environment


def render(chapters: Sequence[Chapter], measurement: Measurement, viewer: Viewer | None = None) -> str:
    """Return the HTML of the page."""
    from markupsafe import Markup

    library, script, viewer_script = vega(), template_text("page.js"), template_text("viewer.js")
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            title=chapters[0].title if len(chapters) == 1 else f"Attention heads of {measurement.suite}",
            subtitle=measurement.subtitle,
            version=__version__,
            policy=policy(library, script, *([viewer_script] if viewer else [])),
            chapters=[chapter_view(chapter) for chapter in chapters],
            measurement=measurement,
            css=Markup(template_text("page.css")),
            addresses={f"#{address(chapter, figure.name)}" for chapter in chapters for figure in chapter.figures},
            figures_json=Markup(embed.script_json(figures(chapters))),
            data=embed.packed(tables(chapters)),
            library=Markup(library),
            script=Markup(script),
            viewer=viewer,
            viewer_index=Markup(viewer.index) if viewer else "",
            viewer_script=Markup(viewer_script),
            colophon=f"Made with headway {__version__}. This page needs no network; its charts are drawn by Vega-Lite.",
        )
    )


def environment() -> Environment:
    """Jinja's environment. It escapes every text, and an undefined name is an error."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("headway.reporting"),
        autoescape=jinja2.select_autoescape(enabled_extensions=("html.j2",), default=False),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def template_text(name: str) -> str:
    return resources.files("headway.reporting").joinpath("templates", name).read_text(encoding="utf-8")


@cache
def vega() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script with these three global names.

    vl-convert takes seconds to bundle them, so the script is kept in the user's cache folder, with its hash in its name.
    """
    import vl_convert

    folder, release = own_cache() / "vega", version("vl-convert-python")
    with suppress(OSError):
        for path in folder.glob(f"{release}-*.js"):
            script = path.read_text(encoding="utf-8")
            if path == _kept(folder, release, script):
                return script
    script = "{" + vl_convert.javascript_bundle() + "}"  # type: ignore[call-arg]  # the stub knows no default
    with suppress(StorageError):  # without a cache the script is only made again
        write_whole(_kept(folder, release, script), script.encode())
    return script


def _kept(folder: Path, release: str, script: str) -> Path:
    return folder / f"{release}-{hashlib.sha256(script.encode(errors='replace')).hexdigest()[:32]}.js"


def policy(*scripts: str) -> str:
    """A Content-Security-Policy that allows only `scripts` and no network."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def address(chapter: Chapter, name: str) -> str:
    return f"{chapter.id}-{name}"


def table_address(chapter: Chapter, name: str) -> str:
    return f"{chapter.id}.{name}"


def section_address(chapter: Chapter, section: Section) -> str:
    return address(chapter, f"on-{section.name}")


def tables(chapters: Sequence[Chapter]) -> dict[str, pl.DataFrame]:
    """All tables that figures draw, each once, with the columns that are drawn."""
    return {
        table_address(chapter, name): drawn(chapter, name, [one for one in chapter.figures if name in one.tables])
        for chapter in chapters
        for name in dict.fromkeys(table for figure in chapter.figures for table in figure.tables)
    }


def drawn(chapter: Chapter, name: str, figures: Sequence[Figure]) -> pl.DataFrame:
    """Drop the columns of a table that `figures` do not show. Run, size and seed stay for the page's buttons."""
    wanted = {"run", "size", "seed"}.union(*map(_columns, figures))
    frame = chapter.tables[name]
    return frame.select(column for column in frame.columns if column in wanted)


def _columns(figure: Figure) -> set[str]:
    named = _fields([figure.specification, figure.small_specification])
    return named | {figure.top, *(control.column for control in figure.controls)}


def _fields(part: Any) -> set[str]:
    """Names of columns in a specification: in fields, in groupings, and as `datum.column` in expressions."""
    if isinstance(part, list):
        return {field for item in part for field in _fields(item)}
    if isinstance(part, str):
        return set(_DATUM.findall(part))
    if not isinstance(part, dict):
        return set()
    named = {part["field"]} if isinstance(part.get("field"), str) else set()
    grouped = {item for key in ("groupby", "fields") for item in part.get(key, []) if isinstance(item, str)}
    return named | grouped | {field for value in part.values() for field in _fields(value)}


_DATUM = re.compile(r"datum\.(\w+)")


def figures(chapters: Sequence[Chapter]) -> dict[str, Any]:
    """The figures that the page's script draws, and the small ones of the summary."""
    found = {}
    for chapter in chapters:
        for figure in chapter.figures:
            found[address(chapter, figure.name)] = _drawing(chapter, figure, specification(chapter, figure))
        for highlight in chapter.summary:
            if _has_picture(chapter, highlight):
                figure = figure_of(chapter, highlight)
                name = small_address(chapter, highlight)
                small = _small(figure, highlight)
                found[name] = _drawing(chapter, small, small_specification(chapter, small)) | {"name": name}
    return {
        "themes": {
            chapter.id: {
                "light": theme.config(chapter.n_colours),
                "dark": theme.config(chapter.n_colours, dark=True),
            }
            for chapter in chapters
        },
        "figures": found,
    }


def _drawing(chapter: Chapter, figure: Figure, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": address(chapter, figure.name),
        "theme": chapter.id,
        "spec": spec,
        "tables": [table_address(chapter, name) for name in figure.tables],
        "controls": [asdict(control) for control in figure.controls],
        "layout": asdict(figure.layout),
        "legend": figure.legend,
        "top": figure.top,
    }


def figure_of(chapter: Chapter, highlight: Highlight) -> Figure:
    """The figure that shows a key finding."""
    return next(figure for figure in chapter.figures if figure.name == highlight.figure)


def small_address(chapter: Chapter, highlight: Highlight) -> str:
    """Address of a small figure, by its position, because two findings may share a figure."""
    return f"{address(chapter, highlight.figure)}-small-{list(chapter.summary).index(highlight) + 1}"


def _has_picture(chapter: Chapter, highlight: Highlight) -> bool:
    """Whether a small figure stands beside a finding: not if one above it is the same."""
    same = (one for one in chapter.summary if (one.figure, one.at) == (highlight.figure, highlight.at))
    return bool(highlight.figure) and next(same) is highlight


def _small(figure: Figure, highlight: Highlight) -> Figure:
    """The figure beside a finding: one panel, of what the finding is about."""
    chart = figure.chart if figure.small is None else figure.small
    chosen = {control.column for control in figure.controls}
    for column, value in highlight.at.items():
        if column not in chosen:
            chart = chart.transform_filter(alt.FieldEqualPredicate(field=column, equal=value))
    controls = tuple(
        replace(control, default=highlight.at.get(control.column, control.default)) for control in figure.controls
    )
    return replace(figure, chart=chart, controls=controls, layout=Layout(), top="")


def small_specification(chapter: Chapter, figure: Figure) -> dict[str, Any]:
    """The figure as a small chart: low, with few ticks, and without titles and legends, which its caption replaces."""
    spec = specification(chapter, figure)
    plain: dict[str, Any] = _plain(spec)
    return plain | {"height": forms.SMALL_HEIGHT}


_FEW_TICKS = {"title": None, "tickCount": 3, "labelFontSize": 9, "labelLimit": 60, "labelOverlap": "greedy"}


def _plain(part: Any) -> Any:
    if isinstance(part, list):
        return [_plain(item) for item in part]
    if not isinstance(part, dict):
        return part
    plainer = {key: _plain(value) for key, value in part.items() if key != "height"}
    for channel in ("x", "y"):
        if isinstance(plainer.get(channel), dict) and "field" in plainer[channel]:
            axis = plainer[channel].get("axis") or {}
            plainer[channel] = {**plainer[channel], "title": None, "axis": axis | _FEW_TICKS}
    for channel in ("color", "fill", "shape"):
        if isinstance(plainer.get(channel), dict) and "field" in plainer[channel]:
            plainer[channel] = {**plainer[channel], "legend": None}
    return plainer


def specification(chapter: Chapter, figure: Figure) -> dict[str, Any]:
    """Vega-Lite of the chart, with its tables named as in the page."""
    spec = forms.tidy(figure.specification)
    named: dict[str, Any] = _renamed(spec, {name: table_address(chapter, name) for name in figure.tables})
    return named | {"description": figure.alt}


def _renamed(part: Any, names: dict[str, str]) -> Any:
    if isinstance(part, list):
        return [_renamed(item, names) for item in part]
    if not isinstance(part, dict):
        return part
    return {
        key: {"name": names[value["name"]]} if key == "data" and "name" in value else _renamed(value, names)
        for key, value in part.items()
    }


def chapter_view(chapter: Chapter) -> dict[str, Any]:
    light, dark = (theme.size_colours(len(chapter.sizes), dark=dark) if chapter.sizes else [] for dark in (False, True))
    palette = [Swatch(*one) for one in zip(chapter.sizes, light, dark, strict=True)]
    summary = [highlight_view(chapter, highlight, palette) for highlight in chapter.summary]
    legends = {view["figure"]["legend"] for view in summary if view["figure"] and view["figure"]["legend"]}
    return {
        **{name: getattr(chapter, name) for name in chapter.__dataclass_fields__ if name != "tables"},
        "id": chapter.id,
        "palette": palette,
        "summary": summary,
        "legend": legends.pop() if len(legends) == 1 else None,  # or else each small figure has its own
        "sections": [section_view(chapter, section) for section in chapter.sections],
    }


def highlight_view(chapter: Chapter, highlight: Highlight, palette: Sequence[Swatch]) -> dict[str, Any]:
    view: dict[str, Any] = {"answer": highlight.answer, "more": highlight.more, "figure": None}
    if _has_picture(chapter, highlight):
        figure = figure_of(chapter, highlight)
        view["figure"] = {
            "id": address(chapter, figure.name),
            "small": small_address(chapter, highlight),
            "title": f"{figure.title} ({', '.join(highlight.at.values())})" if highlight.at else figure.title,
            "alt": figure.alt,
            "legend": legend(
                figure.small_specification, {one.name: one for one in palette} if len(palette) > 1 else {}
            ),
        }
    return view


def section_view(chapter: Chapter, section: Section) -> dict[str, Any]:
    return {
        "id": section_address(chapter, section),
        "title": section.title,
        "lead": section.lead,
        "parts": [item_view(chapter, item) for item in section.items],
    }


def item_view(chapter: Chapter, item: Item) -> dict[str, Any]:
    match item:
        case Figure():
            view = {name: getattr(item, name) for name in ("title", "sentence", "alt", "controls", "legend", "folded")}
            return {"kind": "figure", "id": address(chapter, item.name), **view}
        case Model():
            return {"kind": "model", "id": address(chapter, item.name), **asdict(item)}
        case Table():
            view = {"headings": headings(item), "rows": cells(item)}
            return {
                "kind": "table",
                "id": address(chapter, item.name),
                "title": item.title,
                "sentence": item.sentence,
                "folded": item.folded,
                **view,
            }
        case Missing():
            return {"kind": "missing", "title": item.title, "reason": item.reason}
