"""The run directory and its files: each file is whole or absent."""

from headway.store.directory import RunDirectory
from headway.store.manifest import Manifest, TableRecord

__all__ = ["Manifest", "RunDirectory", "TableRecord"]
