"""What the scores are: each is a few words about one layer's attention A. Adding one: a function here,
and its words in `headway.tables.SCORES`.

A function here gets the `Attention` of a layer over a batch of texts of T tokens and gives one number for each text
and head: (texts, heads). Titles, units and formulas in words are in `headway.tables.SCORES`.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from headway import tables
from headway.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from headway.attention.attention import Attention

Formula = Callable[["Attention"], "Tensor"]


@dataclass(frozen=True)
class Definition:
    """A score's formula.

    Attributes:
        repeated: whether it is read on random tokens repeated once.
        padded: whether it is right for texts of several lengths in one batch; others get those of one length at a time.
    """

    formula: Formula
    repeated: bool
    padded: bool = False

    @property
    def built_in(self) -> bool:
        """Whether the formula is one of this file; `job.DEFINITIONS_VERSION` stands for those."""
        return self.formula.__module__ == __name__

    @property
    def digest(self) -> str:
        """A hash of the formula's source, without the functions that it calls.

        Raises:
            UsageError: the source is in no file, so that no run directory could tell when the formula changes.
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


def define(score: tables.Score, *, repeated: bool = False, padded: bool = False) -> Callable[[Formula], Formula]:
    """Makes the function below it the formula of `score`.

    Args:
        repeated: it is read on random tokens repeated once.
        padded: it averages over rows with `A.mean` and `A.total` and takes lengths from `A.lengths` alone, so that texts of
            several lengths can be read at once, which is quicker, above all on a GPU.
    """

    def put(formula: Formula) -> Formula:
        tables.SCORES.setdefault(score.name, score)
        DEFINITIONS[score.name] = Definition(formula, repeated, padded)
        return formula

    return put


def unknown_score(name: object) -> UsageError:
    """The error that lists the known scores, and what `name` may have been meant for."""
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
    most = A.entropy.new_tensor(range(2, A.n_tokens + 1)).log()  # log(i + 1) for i = 1 .. T-1
    return A.mean(A.entropy[..., 1:] / most)


@define(tables.SCORES["distance"], padded=True)
def distance(A: Attention) -> Tensor:
    return A.mean(A.distance)


@define(tables.SCORES["induction"], repeated=True)
def induction(A: Attention) -> Tensor:
    length = A.n_tokens // 2
    return A.back(length - 1)[..., 1:].mean(-1)  # its row L-1 is still in the first copy


@define(tables.SCORES["duplicate"], repeated=True)
def duplicate(A: Attention) -> Tensor:
    return A.back(A.n_tokens // 2).mean(-1)
