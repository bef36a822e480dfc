"""Heads of several stacks: each study looks at one stack at a time, and its result is of that stack.

The result of a decoder is named as if there were no other stack. The name of another one ends with it, such as
`development/prev-encoder`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import polars as pl

from headway.errors import StatisticsError
from headway.known_scores import CROSS, DECODER, ENCODER
from headway.store.directory import RunDirectory
from headway.studies.result import Result
from headway.tables import of_stack, score_columns, stacks_in
from headway.text import listed

# The tables with heads of every stack, by study.
TABLES = {
    "development": ("heads",),
    "roles": ("heads",),
    "scorecard": ("heads",),
    "weight_clusters": ("clusters", "clusters_published"),
}
_OF_DECODERS = ("interventions", "prompts")
_STACKED = frozenset({"heads", "clusters", "clusters_published"})

NOTES = {
    DECODER: "These are the heads of the decoder, which attend to the token itself and earlier ones.",
    ENCODER: "These are the heads of the encoder: a token attends to the whole text, also to later tokens.",
    CROSS: "These are the heads of cross-attention: a token of the decoder attends to what the encoder read. The score "
    "self is attention to the token at the same position, which the decoder is about to predict.",
}


class OneStack(RunDirectory):
    """A run directory in which the tables of heads have the rows of one stack, and only the scores that it has."""

    def __init__(self, rundir: RunDirectory, stack: str) -> None:
        super().__init__(rundir.path)
        self._rundir, self.stack = rundir, stack

    def read(self, table: str) -> pl.DataFrame:
        frame = self._rundir.read(table)
        if table not in _STACKED:
            return frame
        own = of_stack(frame, self.stack)
        return own.drop(score for score in score_columns(own) if not own[score].count())

    def tables(self) -> list[str]:
        hidden = _OF_DECODERS if self.stack != DECODER else ()
        return [name for name in self._rundir.tables() if name not in hidden]


def each_stack(rundir: RunDirectory, study: str, score: str | None = None) -> list[RunDirectory]:
    """The run directory once for each stack that the study can look at, of those that have the score.

    A directory of decoders is returned as it is, and so is one in which no stack has the score: the study says what is
    missing.
    """
    tables = [name for name in TABLES.get(study, ("heads",)) if name in rundir.tables()]
    stacks = list(dict.fromkeys(stack for name in tables for stack in stacks_in(rundir.read(name))))
    if stacks in ([], [DECODER]):
        return [rundir]
    if study in ("roles", "scorecard"):  # they are criteria on attention within one text
        stacks = [stack for stack in stacks if stack != CROSS]
    views = [OneStack(rundir, stack) for stack in (stacks if study in TABLES else stacks[:1])]
    having = [one for one in views if score is None or score in one.read("heads").columns]
    return [*(having or views[:1])]


def stack_of(rundir: RunDirectory) -> str | None:
    """The stack that a run directory is restricted to, None if it has one stack, of decoders."""
    return rundir.stack if isinstance(rundir, OneStack) else None


def alike(own: Iterable[str | None], others: Iterable[RunDirectory]) -> dict[str | None, RunDirectory]:
    """For each of the stacks `own`, as `stack_of` names them, the same stack among `others`. Stacks that these lack are left out.

    Raises:
        StatisticsError: they have none in common.
    """
    there = {stack_of(one) or DECODER: one for one in others}
    found = {stack: there[stack or DECODER] for stack in own if (stack or DECODER) in there}
    if not found:
        raise StatisticsError(
            f"the two run directories have no stack of heads in common: one has {listed([one or DECODER for one in own])}, the "
            f"other {listed(list(there))}"
        )
    return found


def subject_of(subject: str, stack: str | None) -> str:
    """The name of a result on one stack."""
    return subject if stack in (None, DECODER) else f"{subject}-{stack}"


def of_stack_alone(result: Result, stack: str | None) -> Result:
    """The result, named after its stack, with a note that says which it is. One of decoders alone stays as it is."""
    if stack is None:
        return result
    notes = [NOTES[stack], *result.notes]
    values = result.values | {"stack": stack}
    return replace(result, subject=subject_of(result.subject, stack), values=values, notes=notes)


def require_one_stack(table: pl.DataFrame) -> None:
    """Check that a table of heads or clusters has heads of one stack.

    Raises:
        StatisticsError: it has several, and a study would take them for one.
    """
    if len(there := stacks_in(table)) > 1:
        raise StatisticsError(
            f"the table has heads of the {listed(there)}, and a study looks at one stack at a time: `headway.analyze` does so, "
            "and headway.tables.of_stack gives the rows of one"
        )


def saved_subject(rundir: RunDirectory, study: str, score: str) -> str:
    """The name under which a result on a score is saved: that of the decoder, or else of the first stack."""
    saved = Result.saved(rundir, study)
    return next((name for stack in NOTES if (name := subject_of(score, stack)) in saved), score)
