"""The recipe of a nano suite: everything that decides its weights, except the text and the code."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from headway.errors import SelectionError, UsageError
from headway.nano.text import text_sha256

# Raise it when the code gives other weights for the same recipe, so that cached suites are trained again.
CODE_VERSION = 3


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
        """By its parameters, as Pythia's sizes are: 50k."""
        return f"{round(self.n_params(vocab_size) / 1000)}k"


Window = tuple[int, int]


@dataclass(frozen=True)
class Origin:
    """The checkpoint that a fork starts from.

    Attributes:
        run: the run's name.
        step: the step of its checkpoint.
        sha256: a hash of its weights and, if it has them, its optimizer's moments.
    """

    run: str
    step: int
    sha256: str


@dataclass(frozen=True)
class Recipe:
    """Sizes, seeds and steps; the data of a step; the optimiser.

    With the defaults, a model of two layers learns to repeat within some 250 steps: first heads attend to the previous
    token, then to what followed the current token before (induction), and then repeated tokens are predicted. Each of
    these delays it: a vocabulary of 512, 16 sequences a step, repeated passages of 4 to 16 tokens, heads narrower than 16,
    an MLP as wide as or wider than the residual stream.

    Attributes:
        steps: the checkpoints that are kept, ascending; the last ends the training. 0 is initialisation.
        vocab_size: tokens, the two special ones included. The most frequent characters come first, then parts of words.
        batch_size: sequences a step, of `context_length` tokens each.
        repeated: the share of sequences that repeat one passage over and over; the others are text.
        random: the share of repeated passages that are distinct random tokens; the others are text.
        shortest_passage, longest_passage: tokens of a repeated passage, drawn uniformly.
        rotary: the share of a head's dimensions that are rotated by position.
        background: `text`, or `zipf`: tokens drawn from Zipf's law instead of text.
        zipf: the exponent of that law. The token of rank r has a probability in proportion to r ** -zipf.
        burstiness: the share of tokens of a background that copy an earlier token of their sequence, drawn uniformly.
        window: the first step, and the step after the last, whose data hold repeated passages; None for all steps.
        withheld: likewise, the steps whose data hold none.
        vary: the factors that runs differ in, and their levels. Each combination of levels has all sizes and seeds.
        origin: the checkpoint from which all runs start instead of their initialisation.
        warmup: steps over which the learning rate rises. In the last quarter of training it falls linearly, to a tenth.
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
    learning_rate: float = 4e-3
    warmup: int = 50
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    max_gradient_norm: float = 1.0
    initializer_range: float = 0.02
    background: str = "text"
    zipf: float = 1.0
    burstiness: float = 0.0
    window: Window | None = None
    withheld: Window | None = None
    vary: tuple[tuple[str, tuple[str, ...]], ...] = ()
    origin: Origin | None = None

    def require_possible(self) -> None:
        """Check that models of this recipe exist, and that its passages fit.

        Raises:
            UsageError: they do not.
        """
        for size in self.sizes:
            if size.hidden_size % size.n_heads or (size.hidden_size // size.n_heads) % 2:
                raise UsageError(
                    f"{size.n_heads} heads do not divide a width of {size.hidden_size} into heads of an even width. "
                    "Choose another number of heads"
                )
        room = min(self.context_length, self.vocab_size - 2)
        if self.longest_passage > room:
            raise UsageError(
                f"passages of {self.longest_passage} distinct tokens do not fit a context of {self.context_length} and a "
                f"vocabulary of {self.vocab_size}, two of them special. Vary the passage too, such as passage=8-{room}"
            )

    def repeated_at(self, step: int) -> float:
        """The share of sequences that repeat a passage in the batch after `step`."""
        inside = self.window is None or self.window[0] <= step < self.window[1]
        left_out = self.withheld is not None and self.withheld[0] <= step < self.withheld[1]
        return self.repeated if inside and not left_out else 0.0

    @property
    def first_step(self) -> int:
        """The step from which runs start: 0, or that of the checkpoint they are forked from."""
        return self.origin.step if self.origin else 0

    def described(self) -> dict[str, Any]:
        """All that decides the weights, as JSON: recipe, text and code version."""
        defaults = {field.name: field.default for field in fields(self)}
        # A suite that was trained before these existed has the same description as one of their defaults.
        same = {name for name in _ADDED if getattr(self, name) == defaults[name]}
        recipe = {name: value for name, value in asdict(self).items() if name not in same}
        described = {"recipe": recipe, "text_sha256": text_sha256(), "code_version": CODE_VERSION}
        # Tuples become lists, as they come back from a file.
        as_read: dict[str, Any] = json.loads(json.dumps(described))
        return as_read

    def key(self) -> str:
        """Twelve digits of the hash of `described()`."""
        return hashlib.sha256(json.dumps(self.described(), sort_keys=True).encode()).hexdigest()[:12]

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Recipe:
        read: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        read["sizes"] = tuple(Size(**size) for size in values["sizes"])
        read["vary"] = tuple((name, tuple(levels)) for name, levels in values.get("vary", ()))
        if values.get("origin"):
            read["origin"] = Origin(**values["origin"])
        return cls(**read)


_ADDED = ("background", "zipf", "burstiness", "window", "withheld", "vary", "origin")


_SMALL = (Size(2, 4, 64, 32), Size(3, 4, 64, 32), Size(2, 6, 96, 48))
# Dense where the roles arise: previous-token heads from about step 100, induction heads from about step 200.
_EARLY = (0, 8, 32, 64, 96, 128, 160, 176, 192, 208, 224, 240, 256, 272, 288, 320)

PRESETS = {
    # The demonstration's: about two minutes of two cores. All nine runs have induction heads at step 288.
    "quick": Recipe(sizes=_SMALL, seeds=(1, 2, 3), steps=_EARLY),
    # As many sizes and seeds as the published grid of PolyPythias.
    "standard": Recipe(
        sizes=(*_SMALL, Size(6, 6, 96, 48)),
        seeds=tuple(range(1, 10)),
        steps=(*_EARLY, 352, 384, 512, 1024, 2000),
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
