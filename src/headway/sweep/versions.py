"""Versions of what computes the numbers: recorded in every part and in the manifest."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version

from headway import __version__

_DECISIVE = ("headway", "torch", "transformers")


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Those of this process."""
    found = {"python": platform.python_version(), "headway": __version__}
    for package in ("torch", "transformers", "numpy", "scikit-learn"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def release(versions: Mapping[str, str]) -> str:
    """What of `versions` is told apart: major and minor of headway, torch and transformers. What changes within them
    changes numbers by no more than another machine does.
    """
    told = {name: ".".join(versions[name].split(".")[:2]) for name in _DECISIVE if name in versions}
    return ", ".join(f"{name} {number}" for name, number in told.items()) or "unknown versions"
