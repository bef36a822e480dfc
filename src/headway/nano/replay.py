"""What a run read, step by step: its batches drawn again, as text, and statistics of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from headway import options
from headway.errors import UsageError
from headway.nano.data import Batch, batches, token_stream
from headway.nano.forks import run_of
from headway.nano.location import tokenizer_path
from headway.store.files import require_table_name, write_table

if TYPE_CHECKING:
    import polars as pl

N = 4  # tokens of an n-gram: rarely repeated by chance, and shorter than the passages that repeat


@dataclass(frozen=True)
class Seen:
    """What a run read in some steps.

    Attributes:
        table: step, sequences, tokens, repeats (share of sequences that repeat one passage), repeated_ngrams,
            novel_ngrams and entropy, as `NgramStatistics` defines them; one row per step.
        texts: the first sequences of the first of these steps.
    """

    table: pl.DataFrame
    texts: list[str]


class NgramStatistics:
    """Statistics of one batch after another, from their tokens alone."""

    def __init__(self, n: int = N) -> None:
        self.n = n
        self._seen: set[int] = set()

    def add(self, ids: np.ndarray) -> dict[str, float]:
        """Statistics of the next batch.

        Args:
            ids: (sequences, T) tokens, T at least n.

        Returns:
            repeated_ngrams: the share of n-grams that stand earlier in the same sequence, too.
            novel_ngrams: the share of the batch's different n-grams that no earlier batch has.
            entropy: of the frequencies of single tokens in the batch, in nats.
        """
        grams = self._grams(ids)
        distinct_in_rows = sum(len(np.unique(row)) for row in grams)
        distinct = set(grams.ravel().tolist())
        novel = distinct - self._seen
        self._seen |= novel
        shares = np.unique(ids, return_counts=True)[1] / ids.size
        return {
            "repeated_ngrams": 1 - distinct_in_rows / grams.size,
            "novel_ngrams": len(novel) / len(distinct),
            "entropy": float(-(shares * np.log(shares)).sum()),
        }

    def _grams(self, ids: np.ndarray) -> np.ndarray:
        """A number for each n-gram: (sequences, T - n + 1). With up to 65,536 tokens, 4-grams have one each."""
        windows = np.lib.stride_tricks.sliding_window_view(ids.astype(np.uint64), self.n, axis=1)
        powers = np.array([pow(65536, place, 2**64) for place in range(self.n)], dtype=np.uint64)
        grams: np.ndarray = (windows * powers).sum(axis=-1, dtype=np.uint64)
        return grams


def replayed(run: str | os.PathLike[str], last: int | None = None) -> Iterator[tuple[int, Batch]]:
    """The batch after each step of a run, up to step `last`, drawn again from its recipe and seed.

    A fork gives those from its first step on.

    Args:
        run: the run's folder in its suite, such as labs/repeats/nano-50k-repeated0.5-seed1.

    Raises:
        UsageError: there is no nano suite, or it was made with another text.
        SelectionError: it has no such run.
    """
    from tokenizers import Tokenizer

    folder, planned = run_of(Path(run))
    recipe = planned.recipe
    stream = token_stream(Tokenizer.from_file(str(tokenizer_path(folder, recipe))))
    end = recipe.steps[-1] if last is None else min(last + 1, recipe.steps[-1])
    drawn = enumerate(batches(recipe, stream, planned.seed))
    yield from islice(drawn, recipe.first_step, end)


def between_checkpoints(run: str | os.PathLike[str]) -> pl.DataFrame:
    """What a run read from each of its checkpoints to the next, as means over the steps between them.

    Returns:
        A row per checkpoint but the last: step, and sequences, tokens, repeats, repeated_ngrams, novel_ngrams and entropy
        as in `Seen.table`.

    Raises:
        UsageError, SelectionError: as `replayed`.
    """
    import polars as pl

    steps = run_of(Path(run))[1].recipe.steps
    statistics = NgramStatistics()
    rows = pl.DataFrame([_row(step, batch, statistics) for step, batch in replayed(run)])
    since = [steps[place - 1] for place in np.searchsorted(steps, rows["step"], side="right")]
    return rows.with_columns(step=pl.Series(since)).group_by("step", maintain_order=True).mean()


def _row(step: int, batch: Batch, statistics: NgramStatistics) -> dict[str, float]:
    counts = {"step": step, "sequences": len(batch.ids), "tokens": batch.ids.size}
    return {**counts, "repeats": float(batch.repeats.mean()), **statistics.add(batch.ids)}


@options.documented(options.NANO_DATA)
def read_data(
    run: str | os.PathLike[str],
    steps: Sequence[int] | None = options.READ_STEPS.default,
    show: int = options.SHOWN.default,
    out: str | os.PathLike[str] | None = options.DATA_OUT.default,
) -> Seen:
    """Show what a nano run read: sequences as text, and statistics of each step.

    The batch of step s is the one that training reads between the checkpoints of step s and s + 1. Nothing is stored for
    it: recipe and seed give the same batches again. N-grams are of 4 tokens, and novel if no earlier batch of the run has
    them.

    Args:
        {options}

    Raises:
        UsageError: there is no nano suite, the steps are none of the run's, or `out` is neither CSV nor Parquet.
        SelectionError: the suite has no such run.
        StorageError: `out` cannot be written to.
    """
    import polars as pl
    from tokenizers import Tokenizer

    require_table_name(out)
    folder, planned = run_of(Path(run))
    first, last = planned.recipe.first_step, planned.recipe.steps[-1]
    wanted = set(range(first, last)) if steps is None else set(steps)
    outside = sorted(step for step in wanted if not first <= step < last)
    if outside or not wanted:
        raise UsageError(
            f"--steps {outside[0] if outside else ''}: {Path(run).name} reads the batches of steps {first} to {last - 1}"
        )
    tokenizer = Tokenizer.from_file(str(tokenizer_path(folder, planned.recipe)))
    statistics = NgramStatistics()
    rows: list[dict[str, float]] = []
    texts: list[str] = []
    for step, batch in replayed(run, max(wanted)):
        row = _row(step, batch, statistics)  # also of other steps, whose n-grams are no longer novel
        if step not in wanted:
            continue
        if not rows:
            texts = [tokenizer.decode(ids.tolist(), skip_special_tokens=False) for ids in batch.ids[:show]]
        rows.append(row)
    table = pl.DataFrame(rows)
    if out is not None:
        write_table(table, Path(out))
    return Seen(table, texts)
