"""Results -> figures and one self-contained page. The report computes nothing: studies wrote what it draws.

`write` is the way in. A study has one module here (`previous_token`), which turns its `Result` into a `Chapter`;
the others serve every study: `charts` (forms and colours), `embed` (data inside the page), `export` (SVG and PNG),
`page` (HTML) and `markdown`.
"""

import sys

from headway.callable_room import CallableRoom
from headway.report.writing import write

__all__ = ["write"]

sys.modules[__name__].__class__ = CallableRoom
