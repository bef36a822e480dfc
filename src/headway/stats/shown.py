"""How a fit shows itself: one line in a terminal, its summary in a notebook."""

from __future__ import annotations

import html


class Shown:
    """A fit with a formula, a number of observations and a summary in words."""

    @property
    def formula(self) -> str:
        raise NotImplementedError

    @property
    def n_obs(self) -> int:
        raise NotImplementedError

    def summary(self) -> str:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.formula}: {self.n_obs} observations>"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.summary())}</pre>"
