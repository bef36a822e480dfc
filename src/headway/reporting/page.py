"""The report as one HTML page that opens offline: Vega's JavaScript, data and texts are inside it.

Texts are escaped by Jinja, data by `embed`; the page's security policy lets it run its own two scripts and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from importlib import resources
from typing import Any

from headway import __version__
from headway.reporting import embed
from headway.reporting.charts import forms, theme
from headway.reporting.measured import Measurement
from headway.reporting.numbers import cells, headings
from headway.reporting.parts import Chapter, Figure, Item, Missing, Model, Section, Table


def render(chapters: Sequence[Chapter], measurement: Measurement) -> str:
    """The page, self-contained."""
    from markupsafe import Markup

    library, script = vega(), template_text("page.js")
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            title=chapters[0].title if len(chapters) == 1 else f"Attention heads of {measurement.suite}",
            subtitle=measurement.subtitle,
            version=__version__,
            policy=policy(library, script),
            chapters=[chapter_view(chapter) for chapter in chapters],
            measurement=measurement,
            css=Markup(template_text("page.css")),
            figures_json=Markup(embed.script_json(figures(chapters))),
            data=embed.packed(tables(chapters)),
            library=Markup(library),
            script=Markup(script),
            colophon=f"Made with headway {__version__}. This page needs no network; its charts are drawn by Vega-Lite.",
        )
    )


def environment() -> Any:
    """Jinja, with every text escaped and an undefined name an error."""
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
    """Vega, Vega-Lite and Vega-Embed in one script that declares nothing global but these three."""
    import vl_convert

    return "{" + vl_convert.javascript_bundle() + "}"  # type: ignore[call-arg]  # the stub knows no default


def policy(*scripts: str) -> str:
    """A Content-Security-Policy under which the page runs `scripts` alone and reaches no network."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def address(chapter: Chapter, name: str) -> str:
    return f"{chapter.study}-{name}"


def table_address(chapter: Chapter, name: str) -> str:
    return f"{chapter.study}.{name}"


def tables(chapters: Sequence[Chapter]) -> dict[str, Any]:
    """Every table that some figure draws, once."""
    return {
        table_address(chapter, name): frame
        for chapter in chapters
        for name, frame in chapter.tables.items()
        if any(name in figure.tables for figure in chapter.figures)
    }


def figures(chapters: Sequence[Chapter]) -> dict[str, Any]:
    """What the page's script reads."""
    return {
        "themes": {
            chapter.study: {
                "light": theme.config(len(chapter.sizes)),
                "dark": theme.config(len(chapter.sizes), dark=True),
            }
            for chapter in chapters
        },
        "figures": {
            address(chapter, figure.name): {
                "name": address(chapter, figure.name),
                "theme": chapter.study,
                "spec": specification(chapter, figure),
                "tables": [table_address(chapter, name) for name in figure.tables],
                "controls": [asdict(control) for control in figure.controls],
                "layout": asdict(figure.layout),
                "legend": figure.legend,
                "top": figure.top,
            }
            for chapter in chapters
            for figure in chapter.figures
        },
    }


def specification(chapter: Chapter, figure: Figure) -> dict[str, Any]:
    """The chart's Vega-Lite, its tables named as in the page."""
    spec = forms.tidy(figure.chart.to_dict(validate=False))
    return _renamed(spec, {name: table_address(chapter, name) for name in figure.tables}) | {"description": figure.alt}


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
    palette = [{"name": name, "light": a, "dark": b} for name, a, b in zip(chapter.sizes, light, dark, strict=True)]
    return {
        **{name: getattr(chapter, name) for name in chapter.__dataclass_fields__},
        "id": chapter.study,
        "palette": palette,
        "sections": [section_view(chapter, section) for section in chapter.sections],
    }


def section_view(chapter: Chapter, section: Section) -> dict[str, Any]:
    return {
        "id": address(chapter, section.name),
        "title": section.title,
        "lead": section.lead,
        "parts": [item_view(chapter, item) for item in section.items],
    }


def item_view(chapter: Chapter, item: Item) -> dict[str, Any]:
    match item:
        case Figure():
            view = {name: getattr(item, name) for name in ("title", "sentence", "alt", "controls", "legend")}
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
