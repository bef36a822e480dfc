"""The run directory and its files: each file is whole or absent."""

from headway.store.directory import RunDirectory

__all__ = ["RunDirectory"]
