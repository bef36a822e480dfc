"""Turn the results of studies into figures and one self-contained page. The report computes nothing itself.

`write` writes the report. Each study has a package here that turns its `Result` into a `Chapter`: `development` and
`weight_clusters`. The other modules serve all studies: `charts` (shapes and colours), `embed` (data inside the page),
`export` (SVG and PNG), `page` (HTML) and `markdown`.
"""

from headway.reporting.writing import write

__all__ = ["write"]
