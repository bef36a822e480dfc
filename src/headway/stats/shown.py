"""How a fit shows itself: one line in a terminal, its summary in a notebook."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headway.stats.model_frame import ModelFrame


class Shown:
    """A fit of a formula to a frame, with a summary in words."""

    frame: ModelFrame

    @property
    def formula(self) -> str:
        return self.frame.formula.text

    @property
    def n_obs(self) -> int:
        return self.frame.n_obs

    def summary(self) -> str:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.formula}: {self.n_obs} observations>"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.summary())}</pre>"
