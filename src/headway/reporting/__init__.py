"""Results -> figures and one self-contained page. The report computes nothing: studies wrote what it draws.

`write` is the way in. A study has one module here (`development`), which turns its `Result` into a `Chapter`;
the others serve every study: `charts` (forms and colours), `embed` (data inside the page), `export` (SVG and PNG),
`page` (HTML) and `markdown`.
"""

from headway.reporting.writing import write

__all__ = ["write"]
