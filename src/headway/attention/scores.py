"""The formulas of the head scores.

Each function gets what its score needs of one layer (`Needs`), and returns one number for each text and head: (texts,
heads). Most get the attention A over a batch of texts of T tokens. Titles, units and the formulas in words are in
`headway.tables.SCORES`. To add a score, add a function here and its words there.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from headway import tables
from headway.attention.needs import Needs
from headway.errors import UsageError
from headway.known_scores import DECODER

if TYPE_CHECKING:
    from torch import Tensor

    from headway.attention.attention import Attention
    from headway.attention.causal import Lost
    from headway.attention.effects import Effects

Formula = Callable[[Any], "Tensor"]


@dataclass(frozen=True)
class Definition:
    """A score's formula.

    Attributes:
        repeated: whether the score is computed on random tokens that are repeated once.
        padded: whether the formula is correct for texts of several lengths in one batch. If not, it gets batches of one
            length.
        needs: what the formula gets.
        stacks: the stacks whose heads have the score.
    """

    formula: Formula
    repeated: bool
    padded: bool = False
    needs: Needs = Needs.PATTERN
    stacks: tuple[str, ...] = (DECODER,)

    @property
    def built_in(self) -> bool:
        """Whether the formula is one of this file. `job.DEFINITIONS_VERSION` covers those."""
        return self.formula.__module__ == __name__

    @property
    def digest(self) -> str:
        """Hash the formula's source, without the functions that it calls.

        Raises:
            UsageError: the source is not in a file, so headway cannot notice when the formula changes.
        """
        try:
            source = inspect.getsource(self.formula)
        except (OSError, TypeError) as error:
            raise UsageError(
                f"the formula {self.formula.__name__!r} is in no file, so headway cannot tell later whether it has "
                "changed. Write it in a module or a notebook's cell"
            ) from error
        return hashlib.sha256(source.encode()).hexdigest()


DEFINITIONS: dict[str, Definition] = {}


def define(
    score: tables.Score, *, repeated: bool = False, padded: bool = False, needs: Needs = Needs.PATTERN
) -> Callable[[Formula], Formula]:
    """Make the decorated function the formula of `score`.

    Args:
        repeated: the score is computed on random tokens that are repeated once.
        padded: the formula averages over rows only with `A.mean` and `A.total`, and takes lengths only from `A.lengths`.
            Texts of several lengths can then be read at once, which is quicker, above all on a GPU.
        needs: what the formula gets instead of the attention pattern.
    """

    def put(formula: Formula) -> Formula:
        tables.SCORES.setdefault(score.name, score)
        # Weights are the same for texts of any length.
        DEFINITIONS[score.name] = Definition(formula, repeated, padded or needs.weights, needs, score.stacks)
        return formula

    return put


def scores_of(stack: str) -> list[str]:
    """Names of the scores that are defined for a stack, one of `known_scores.STACKS`."""
    return [name for name, definition in DEFINITIONS.items() if stack in definition.stacks]


def unknown_score(name: object) -> UsageError:
    """Return the error that lists the known scores and suggests those with names similar to `name`."""
    close = get_close_matches(str(name).lower(), DEFINITIONS, n=1)
    meant = f", perhaps {close[0]!r} was meant" if close else ""
    return UsageError(f"unknown score {name!r}{meant}: known are {', '.join(DEFINITIONS)}")


@define(tables.SCORES["prev"], padded=True)
def prev(A: Attention) -> Tensor:
    return A.mean(A.back(1))


@define(tables.SCORES["self"], padded=True)
def self_(A: Attention) -> Tensor:
    return A.mean(A.back(0))


@define(tables.SCORES["first"], padded=True)
def first(A: Attention) -> Tensor:
    return A.mean(A.to(0))


@define(tables.SCORES["prev_self_ratio"], padded=True)
def prev_self_ratio(A: Attention) -> Tensor:
    return prev(A) / self_(A)


@define(tables.SCORES["prev_all_ratio"], padded=True)
def prev_all_ratio(A: Attention) -> Tensor:
    return prev(A) * A.lengths / A.mean(A.mass)


@define(tables.SCORES["prev_fraction"], padded=True)
def prev_fraction(A: Attention) -> Tensor:
    return prev(A) / A.total(A.mass)


@define(tables.SCORES["entropy"], padded=True)
def entropy(A: Attention) -> Tensor:
    return A.mean(A.entropy)


@define(tables.SCORES["entropy_norm"], padded=True)
def entropy_norm(A: Attention) -> Tensor:
    free = int(A.choices[0] < 2)  # a row that may attend to one token only has no entropy
    return A.mean(A.entropy[..., free:] / A.choices[free:].to(A.entropy).log())


@define(tables.SCORES["distance"], padded=True)
def distance(A: Attention) -> Tensor:
    return A.mean(A.distance)


@define(tables.SCORES["next"], padded=True)
def next_(A: Attention) -> Tensor:
    return A.mean(A.back(-1))


@define(tables.SCORES["last"], padded=True)
def last(A: Attention) -> Tensor:
    return A.mean(A.to(A.n_attended - 1))


@define(tables.SCORES["induction"], repeated=True)
def induction(A: Attention) -> Tensor:
    length = A.n_tokens // 2
    return A.back(length - 1)[..., 1:].mean(-1)  # its row L-1 is still in the first copy


@define(tables.SCORES["duplicate"], repeated=True)
def duplicate(A: Attention) -> Tensor:
    return A.back(A.n_tokens // 2).mean(-1)


@define(tables.SCORES["copying"], needs=Needs.OV)
def copying(eigenvalues: Tensor) -> Tensor:
    return positive_share(eigenvalues)


@define(tables.SCORES["qk_matching"], needs=Needs.QK)
def qk_matching(eigenvalues: Tensor) -> Tensor:
    return positive_share(eigenvalues)


def positive_share(eigenvalues: Tensor) -> Tensor:
    """sum(λ) / sum(|λ|) of the eigenvalues (heads, D) of real matrices, which is real; 0 if all of them are 0."""
    total, size = eigenvalues.sum(-1).real, eigenvalues.abs().sum(-1)
    return total / size.where(size != 0, 1)


@define(tables.SCORES["direct_logit_attribution"], repeated=True, needs=Needs.NEXT_TOKEN)
def direct_logit_attribution(E: Effects) -> Tensor:
    return E.values[..., E.n_tokens // 2 :].mean(-1)  # row L is the first that can know its next token


@define(tables.SCORES["direct_logit_attribution_corpus"], padded=True, needs=Needs.NEXT_TOKEN)
def direct_logit_attribution_corpus(E: Effects) -> Tensor:
    return E.mean(E.values)


@define(tables.SCORES["copy_suppression"], padded=True, needs=Needs.ATTENDED_TOKENS)
def copy_suppression(E: Effects) -> Tensor:
    return -E.mean(E.values)


@define(tables.SCORES["ablation_loss"], needs=Needs.ABLATION)
def ablation_loss(lost: Lost) -> Tensor:
    return lost.loss.mean(-1)


@define(tables.SCORES["ablation_repeat_loss"], repeated=True, needs=Needs.ABLATION)
def ablation_repeat_loss(lost: Lost) -> Tensor:
    return lost.loss[..., lost.n_tokens // 2 :].mean(-1)


@define(tables.SCORES["ablation_repeat_accuracy"], repeated=True, needs=Needs.ABLATION)
def ablation_repeat_accuracy(lost: Lost) -> Tensor:
    return lost.right[..., lost.n_tokens // 2 :].mean(-1)
