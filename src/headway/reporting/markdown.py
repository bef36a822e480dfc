"""Write the report as Markdown, for a repository: the same texts, with figures as SVG files."""

from __future__ import annotations

import re
from collections.abc import Sequence

from headway import __version__
from headway.reporting import page
from headway.reporting.measured import Measurement
from headway.reporting.parts import Chapter
from headway.terminal import printable

_SPECIAL = re.compile(r"([\\`*_\[\]<>|#])")


def render(chapters: Sequence[Chapter], measurement: Measurement) -> str:
    environment = page.environment()
    environment.filters |= {"md": escaped, "code_block": code_block}
    text = environment.get_template("report.md.j2").render(
        title=chapters[0].title if len(chapters) == 1 else f"Attention heads of {measurement.suite}",
        subtitle=measurement.subtitle,
        chapters=[page.chapter_view(chapter) for chapter in chapters],
        measurement=measurement,
        colophon=f"Made with headway {__version__}.",
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def escaped(text: object) -> str:
    """Escape `text` for Markdown and HTML, on one line."""
    return _SPECIAL.sub(r"\\\1", printable(" ".join(str(text).split()))).replace("&", "&amp;")


def code_block(text: str) -> str:
    """Put `text` between code fences that are longer than any fence in it."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    shown = "\n".join(map(printable, text.split("\n")))
    return f"{fence}text\n{shown}\n{fence}"
