"""Let charts share their encodings.

Altair copies every part of a chart whenever it is put into another one, several times over. Encodings are most of these
parts, and nothing changes one in place: a third of the time of a report went into their copies.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import altair as alt


@contextmanager
def shared_encodings() -> Iterator[None]:
    """While the block runs, a copy of a chart has the encodings of the chart itself."""
    copied: Any = alt.FacetedEncoding
    copied.__deepcopy__ = _itself  # Altair asks the parts of a chart for this
    try:
        yield
    finally:
        del copied.__deepcopy__


def _itself(encodings: alt.FacetedEncoding, _memo: object) -> alt.FacetedEncoding:
    return encodings
