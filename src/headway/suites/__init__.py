"""Which checkpoints exist and how their files get here: from the Hub, from a folder, or trained on the spot."""

from headway.suites.checkpoint import Checkpoint, FolderSource, HubSource, Source
from headway.suites.files import CheckpointFiles, files, stamp
from headway.suites.registry import known_suites, open_suite
from headway.suites.suite import Run, Suite, SuiteInfo

__all__ = [
    "Checkpoint",
    "CheckpointFiles",
    "FolderSource",
    "HubSource",
    "Run",
    "Source",
    "Suite",
    "SuiteInfo",
    "files",
    "known_suites",
    "open_suite",
    "stamp",
]
