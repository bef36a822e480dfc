"""The recipe of a nano suite: everything that decides its weights, except the text and the code."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from headway.errors import SelectionError
from headway.nano.text import text_sha256

# Raise it when the code gives other weights for the same recipe, so that cached suites are trained again.
CODE_VERSION = 2


@dataclass(frozen=True)
class Size:
    """The shape of a GPT-NeoX model."""

    n_layers: int
    n_heads: int
    hidden_size: int
    mlp_size: int

    def n_params(self, vocab_size: int) -> int:
        """The number of parameters, with two untied embeddings."""
        d, m = self.hidden_size, self.mlp_size
        attention, mlp, norms = 4 * d * d + 4 * d, 2 * d * m + m + d, 4 * d
        return 2 * vocab_size * d + self.n_layers * (attention + mlp + norms) + 2 * d

    def name(self, vocab_size: int) -> str:
        """By its parameters, as Pythia's sizes are: 75k."""
        return f"{round(self.n_params(vocab_size) / 1000)}k"


@dataclass(frozen=True)
class Recipe:
    """Sizes, seeds and steps; the data of a step; the optimiser.

    With the defaults, a model of two layers learns to repeat within some 300 steps: first heads attend to the previous
    token, then to what followed the current token before (induction), and then repeated tokens are predicted. Each of
    these delays it beyond 800 steps: a vocabulary of 512, 16 sequences a step, repeated passages of 4 to 16 tokens.

    Attributes:
        steps: the checkpoints that are kept, ascending; the last ends the training. 0 is initialisation.
        vocab_size: tokens, the two special ones included. The most frequent characters come first, then parts of words.
        batch_size: sequences a step, of `context_length` tokens each.
        repeated: the share of sequences that repeat one passage over and over; the others are text.
        random: the share of repeated passages that are distinct random tokens; the others are text.
        shortest_passage, longest_passage: tokens of a repeated passage, drawn uniformly.
        rotary: the share of a head's dimensions that are rotated by position.
        warmup: steps over which the learning rate rises. In the second half of training it falls linearly, to a tenth.
    """

    sizes: tuple[Size, ...]
    seeds: tuple[int, ...]
    steps: tuple[int, ...]
    vocab_size: int = 64
    context_length: int = 64
    batch_size: int = 32
    repeated: float = 0.9
    random: float = 1.0
    shortest_passage: int = 8
    longest_passage: int = 31
    rotary: float = 0.5
    learning_rate: float = 3e-3
    warmup: int = 50
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    max_gradient_norm: float = 1.0
    initializer_range: float = 0.02

    def runs(self) -> dict[str, tuple[Size, int]]:
        """Each run's name, such as nano-75k-seed1, and its size and seed; the costliest first."""
        largest_first = sorted(self.sizes, key=lambda size: -size.n_params(self.vocab_size))
        return {
            f"nano-{size.name(self.vocab_size)}-seed{seed}": (size, seed)
            for size in largest_first
            for seed in self.seeds
        }

    def described(self) -> dict[str, Any]:
        """All that decides the weights, as JSON: recipe, text and code version."""
        described = {"recipe": asdict(self), "text_sha256": text_sha256(), "code_version": CODE_VERSION}
        # Tuples become lists, as they come back from a file.
        as_read: dict[str, Any] = json.loads(json.dumps(described))
        return as_read

    def key(self) -> str:
        """Twelve digits of the hash of `described()`."""
        return hashlib.sha256(json.dumps(self.described(), sort_keys=True).encode()).hexdigest()[:12]

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Recipe:
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return cls(**{**values, **lists, "sizes": tuple(Size(**size) for size in values["sizes"])})


_SMALL = (Size(2, 4, 64, 128), Size(3, 4, 64, 128), Size(2, 6, 96, 192))
# Dense where the roles arise: previous-token heads from about step 100, induction heads from about step 250.
_EARLY = (0, 1, 8, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 448)

PRESETS = {
    # The demonstration's: about four minutes of one core. All nine runs have induction heads at step 352.
    "quick": Recipe(sizes=_SMALL, seeds=(1, 2, 3), steps=_EARLY),
    # As many sizes and seeds as the published grid of PolyPythias.
    "standard": Recipe(
        sizes=(*_SMALL, Size(6, 8, 96, 384)),
        seeds=tuple(range(1, 10)),
        steps=(*_EARLY, 512, 768, 1024, 1536, 2000),
    ),
}


def preset(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        SelectionError: there is none; the message lists those there are.
    """
    if name not in PRESETS:
        raise SelectionError(f"no preset {name!r} of the nano suite: there are {', '.join(PRESETS)}")
    return PRESETS[name]
