"""Where headway keeps what it need not find out again."""

from __future__ import annotations

import os
from pathlib import Path


def own_cache() -> Path:
    """HEADWAY_CACHE, or the user's cache folder."""
    from platformdirs import user_cache_path

    return Path(os.environ.get("HEADWAY_CACHE") or user_cache_path("headway")).expanduser()
