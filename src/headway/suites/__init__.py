"""Which checkpoints exist and how their files get here."""

from headway.suites.checkpoint import Checkpoint, FolderSource, HubSource, Source

__all__ = ["Checkpoint", "FolderSource", "HubSource", "Source"]
