"""What scores are made of."""

from __future__ import annotations

from enum import Enum


class Needs(Enum):
    """What a score is made of. Its formula gets this, for one layer."""

    PATTERN = "the attention pattern"  # `Attention`
    NEXT_TOKEN = "direct effects on the next token"  # `Effects` of rows 0 .. T-2 on the centred logit of token i + 1
    ATTENDED_TOKENS = "direct effects on the attended tokens"  # `Effects` of all rows, as `effects` defines them
    OV = "the OV circuit"  # its eigenvalues, complex128 (heads, D); the formula returns (heads,)
    QK = "the QK circuit"  # likewise
    ABLATION = "predictions without each head"  # `Lost`

    @property
    def effects(self) -> bool:
        """Whether a forward pass must go on to the final norm."""
        return self in (Needs.NEXT_TOKEN, Needs.ATTENDED_TOKENS)

    @property
    def next_token(self) -> bool:
        """Whether each row is about the token after it."""
        return self in (Needs.NEXT_TOKEN, Needs.ABLATION)

    @property
    def weights(self) -> bool:
        """Whether weights alone are enough, without a text."""
        return self in (Needs.OV, Needs.QK)

    @property
    def unembedding(self) -> bool:
        """Whether the model must have its unembedding."""
        return self.effects or self in (Needs.OV, Needs.ABLATION)
