"""Tables of others: per-head scores and abilities of checkpoints, read into headway's tables."""

from headway.published.abilities import Abilities, read_abilities
from headway.published.files import Source, open_sources
from headway.published.heads import Imported, read_heads, read_published

__all__ = ["Abilities", "Imported", "Source", "open_sources", "read_abilities", "read_heads", "read_published"]
