"""The recipe of a nano suite: everything that decides its weights, except the text and the code."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from headway.errors import SelectionError
from headway.nano.text import text_sha256

# Raise it when the code gives other weights for the same recipe, so that cached suites are trained again.
CODE_VERSION = 1


@dataclass(frozen=True)
class Size:
    """The shape of a GPT-NeoX model."""

    n_layers: int
    n_heads: int
    hidden_size: int

    def n_params(self, vocab_size: int) -> int:
        """Two untied embeddings; a layer's matrices (12 d^2), their biases and two norms (13 d); the last norm."""
        d = self.hidden_size
        return 2 * vocab_size * d + self.n_layers * (12 * d * d + 13 * d) + 2 * d

    def name(self, vocab_size: int) -> str:
        """By its parameters, as Pythia's sizes are: 216k."""
        return f"{round(self.n_params(vocab_size) / 1000)}k"


@dataclass(frozen=True)
class Recipe:
    """Sizes, seeds and steps; the data of a step; the optimiser.

    Attributes:
        steps: the checkpoints that are kept, ascending; the last ends the training. 0 is initialisation.
        batch_size: sequences a step, of `context_length` tokens each.
        repeated: the share of sequences that repeat one passage, which is what makes induction heads arise.
        random: the share of those whose passage is distinct random tokens; the others' is text.
        shortest_passage, longest_passage: tokens of a repeated passage, drawn uniformly.
        warmup: steps over which the learning rate rises; from there it falls linearly to a tenth at the end.
    """

    sizes: tuple[Size, ...]
    seeds: tuple[int, ...]
    steps: tuple[int, ...]
    vocab_size: int = 512
    context_length: int = 64
    batch_size: int = 12
    repeated: float = 0.5
    random: float = 0.25
    shortest_passage: int = 16
    longest_passage: int = 32
    learning_rate: float = 1e-2
    warmup: int = 50
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    max_gradient_norm: float = 1.0
    initializer_range: float = 0.05

    def runs(self) -> dict[str, tuple[Size, int]]:
        """Each run's name, such as nano-216k-seed1, and its size and seed; the costliest first."""
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


_SMALL = (Size(2, 4, 64), Size(3, 4, 64), Size(4, 8, 64))
_DOUBLING = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

PRESETS = {
    # About three minutes of one core: the demonstration's.
    "quick": Recipe(sizes=_SMALL, seeds=(1, 2, 3), steps=(*_DOUBLING, 800)),
    # As many sizes, seeds and steps as the published grid of PolyPythias; about an hour and a half of one core.
    "standard": Recipe(
        sizes=(*_SMALL, Size(6, 8, 96)), seeds=tuple(range(1, 10)), steps=(*_DOUBLING, 1000, 1500, 2000, 3000, 4000)
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
