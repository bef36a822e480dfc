"""Find the checkpoints of a suite and get their files: from the Hub, from a folder, or trained on this machine."""

from headway.suites.checkpoint import Checkpoint, FolderSource, HubSource, Source
from headway.suites.files import CheckpointFiles, files, identity_of, room_for
from headway.suites.registry import known_suites, open_suite
from headway.suites.revisions import Revisions, revisions
from headway.suites.suite import Run, Suite, SuiteInfo

__all__ = [
    "Checkpoint",
    "CheckpointFiles",
    "FolderSource",
    "HubSource",
    "Revisions",
    "Run",
    "Source",
    "Suite",
    "SuiteInfo",
    "files",
    "identity_of",
    "known_suites",
    "open_suite",
    "revisions",
    "room_for",
]
