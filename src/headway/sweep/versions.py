"""The package versions that computed a partition, recorded in its metadata and in the manifest."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version

from headway import __version__

_DECISIVE = ("headway", "torch", "transformers")


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """The versions in this process, by package."""
    found = {"python": platform.python_version(), "headway": __version__}
    for package in ("torch", "transformers", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def release(versions: Mapping[str, str]) -> str:
    """Major and minor version of headway, torch and transformers, in words.

    Patch releases are left out: they change numbers by no more than another machine does.
    """
    told = {name: ".".join(versions[name].split(".")[:2]) for name in _DECISIVE if name in versions}
    return ", ".join(f"{name} {number}" for name, number in told.items()) or "unknown versions"
