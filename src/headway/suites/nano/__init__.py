"""The embedded suite: small GPT-NeoX models, trained from scratch on this machine."""

from headway.suites.nano.text import held_out

__all__ = ["held_out"]
