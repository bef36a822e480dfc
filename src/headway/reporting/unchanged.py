"""Is the page that lies in a run directory made from the same results? Then it need not be made again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from headway.reporting.measured import Measurement
from headway.reporting.viewer import Viewer
from headway.store.files import to_json, write_whole
from headway.studies import Result
from headway.studies.reuse import code

_RECORD = ".report.json"  # beside the page: what it was made from, and a hash of it
_PACKAGE = Path(__file__).parents[1]
_DRAWING = ("altair", "jinja2", "vl-convert-python")


def made_from(results: Sequence[Result], measurement: Measurement, viewer: Viewer | None) -> str | None:
    """A hash of all that decides the page; None if it is not known what a result was made from."""
    if not all(result.made and result.sources for result in results):
        return None
    decisive = {
        "results": [[result.key, result.made, result.sources] for result in results],
        "measurement": asdict(measurement),
        "viewer": None if viewer is None else asdict(viewer),
        "code": code(_PACKAGE),
        "templates": [_hash(path.read_bytes()) for path in sorted((Path(__file__).parent / "templates").iterdir())],
        "versions": {package: version(package) for package in _DRAWING},
    }
    return _hash(to_json(decisive))


def is_there(path: Path, made: str | None) -> bool:
    """Whether the page at `path` was made from `made`, and is whole."""
    try:
        record = json.loads(path.with_name(_RECORD).read_bytes())
        return made is not None and record == {"made_from": made, "page": _hash(path.read_bytes())}
    except (OSError, ValueError):
        return False


def remember(path: Path, made: str | None) -> None:
    """Keep what the page at `path` was made from."""
    if made is not None:
        write_whole(path.with_name(_RECORD), to_json({"made_from": made, "page": _hash(path.read_bytes())}))


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
