"""The job `abilities`: how well a checkpoint predicts, as a table with one row per ability."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl

from headway import models, options, tables
from headway.abilities.items import Asked, Cloze, Pairs
from headway.abilities.measures import Measured
from headway.corpora import Corpus
from headway.errors import UsageError
from headway.options import documented
from headway.store.directory import RunDirectory
from headway.suites import Checkpoint

if TYPE_CHECKING:
    from headway.models.opened import Opened

# Part of the job's identity. Raise it when an ability's numbers change: then old partitions are not reused.
DEFINITIONS_VERSION = 1
REPEATED = "repeated random tokens"  # their source in the table
REPEATS = ("repeat_accuracy", "repeat_rank", "published_repeat_accuracy", "published_repeat_rank")
_ON_CORPUS = ("loss", "positions", "icl")


@documented(options.MEASURE)
@dataclass(frozen=True)
class CheckpointAbilities:
    """The job that measures what a checkpoint is able to do, table `abilities`.

    Attributes:
        {options}
    """

    corpus: Corpus
    abilities: tuple[Asked, ...] = options.ABILITIES.default
    add_bos: bool = options.ADD_BOS.default
    dtype: str = options.DTYPE.default
    device: str = field(default=options.DEVICE.default, compare=False)
    keep_files: bool = field(default=options.KEEP_FILES.default, compare=False)
    repeated_length: int = options.REPEATED_LENGTH.default
    repeated_texts: int = options.REPEATED_TEXTS.default
    seed: int = options.REPEATED_SEED.default

    table = "abilities"
    reads_logits = True
    needs = frozenset({"config", "weights", "tokenizer"})

    def identity(self) -> dict[str, Any]:
        """Return all settings that affect the numbers."""
        repeated = {"length": self.repeated_length, "texts": self.repeated_texts, "seed": self.seed}
        return {
            "corpus": {"name": self.corpus.name, "sha256": self.corpus.sha256} if self._reads_corpus else None,
            "abilities": [
                one if isinstance(one, str) else {"name": one.name, "sha256": one.sha256} for one in self.abilities
            ],
            "add_bos": self.add_bos,
            "dtype": self.dtype,
            "repeated": repeated if "repeat" in self.abilities else None,
            "definitions": DEFINITIONS_VERSION,
        }

    def computes(self, name: str) -> bool:
        """Whether this job may compute an ability of this name. The corpus decides those of `positions` and `icl`."""
        return any(
            name in one.abilities
            if not isinstance(one, str)
            else name == one
            or (one == "repeat" and name in REPEATS)
            or (one == "positions" and name.startswith("loss_at_"))
            or (one == "icl" and name.startswith("icl_"))
            for one in self.abilities
        )

    def require_own_names(self, directory: RunDirectory) -> None:
        """Check that no ability of this job was imported into `directory`: two numbers of one name would mix.

        Raises:
            UsageError: one was.
        """
        if not directory.partitions(tables.IMPORTED_ABILITIES):
            return
        imported = directory.read(tables.IMPORTED_ABILITIES).select("ability", "source").unique(maintain_order=True)
        for name, source in imported.iter_rows():
            if self.computes(name):
                raise UsageError(
                    f"{directory.path} holds the ability {name!r} as imported from {source}, so it cannot be measured, too. "
                    "Choose another --out, or leave it out of --abilities"
                )

    def look_before(self, checkpoints: Sequence[Checkpoint]) -> list[str]:
        """Check with the first checkpoint's tokenizer that all can be read, and say what a user should know before."""
        return self.require_measurable(checkpoints[0])

    def require_measurable(self, checkpoint: Checkpoint) -> list[str]:
        """Check that everything can be read with `checkpoint`'s tokenizer, before any weights are fetched.

        Returns:
            Sentences on what is measured otherwise than the name of the ability suggests.

        Raises:
            CorpusError: the corpus or a file holds something that cannot be read.
            UsageError, StorageError: as in `HeadScores.require_measurable`.
        """
        from headway.models.opened import before_the_sweep

        return before_the_sweep(checkpoint, self._look) or []

    def _look(self, tokenizer: models.Tokenizer, geometry: models.Geometry) -> list[str]:
        from headway.abilities.answers import read_cloze, read_pairs
        from headway.abilities.measures import EARLY, LATE, in_context_positions
        from headway.models.opened import tokenized

        for one in self.abilities:
            if isinstance(one, Pairs):
                read_pairs(one, tokenizer, geometry)
            elif isinstance(one, Cloze):
                read_cloze(one, tokenizer, geometry, self.add_bos)
        if "icl" not in self.abilities:
            return []
        texts = tokenized(self.corpus, tokenizer, geometry, self.add_bos)
        early, late = in_context_positions([len(ids) for ids in texts.ids])
        if late == LATE:
            return []
        return [
            f"the in-context score compares the tokens {early} and {late} of a text, because fewer than half of the texts "
            f"have {LATE} tokens; published are {EARLY} and {LATE}"
        ]

    def read(self, checkpoint: Checkpoint) -> AbstractContextManager[Opened]:
        """Fetch the files and read the weights."""
        from headway.abilities.next_tokens import on_repeated, on_texts
        from headway.models.opened import opened

        of: dict[str, Any] = {"dtype": self.dtype, "device": self.device, "keep_files": self.keep_files}
        expected = {on_repeated(self)} if "repeat" in self.abilities else set()
        if self._reads_corpus:
            expected.add(on_texts(self))
        return opened(checkpoint, self.needs, lm_head=True, expected=expected, **of)

    @property
    def _reads_corpus(self) -> bool:
        return any(word in self.abilities for word in _ON_CORPUS)

    def compute(self, checkpoint: Checkpoint, input: Opened) -> pl.DataFrame:
        """Return one row per ability.

        Raises:
            CheckpointError: a prediction is not finite, or the device has too little memory.
            CorpusError: a text or an item does not fit this model.
        """
        import torch

        from headway.models.opened import too_large

        input.geometry.require_causal("an ability")
        try:
            rows = [
                {
                    "ability": one.ability.name,
                    "value": one.value,
                    "std_error": one.std_error,
                    "unit": one.ability.unit,
                    "higher_is_better": one.ability.higher_is_better,
                    "n_samples": one.n_samples,
                    "source": source,
                }
                for one, source in self._measured(input)
            ]
        except torch.OutOfMemoryError as error:
            raise too_large(checkpoint, input.model) from error
        types = tables.schema(tables.ABILITIES_COLUMNS, dict(checkpoint.axes))
        frame = pl.DataFrame(rows).with_columns(pl.col("std_error").cast(pl.Float64).fill_nan(None))
        frame = frame.with_columns(**{name: pl.lit(value) for name, value in input.columns(checkpoint).items()})
        return frame.select(pl.col(name).cast(dtype) for name, dtype in types.items())

    def _measured(self, input: Opened) -> Iterator[tuple[Measured, str]]:
        """Each ability with its source."""
        from headway.abilities import measures
        from headway.abilities.answers import cloze_scores, pairs_accuracy, read_cloze, read_pairs
        from headway.abilities.next_tokens import next_tokens, on_repeated, on_texts

        texts = input.texts(self.corpus, self.add_bos)
        on_corpus = {
            "loss": measures.corpus_loss,
            "positions": measures.loss_by_position,
            "icl": measures.in_context_score,
        }
        for asked in self.abilities:
            if isinstance(asked, Pairs):
                found = pairs_accuracy(input.model, asked, read_pairs(asked, input.tokenizer, input.geometry))
                source = asked.name
            elif isinstance(asked, Cloze):
                answers = read_cloze(asked, input.tokenizer, input.geometry, self.add_bos)
                found, source = cloze_scores(input.model, asked, answers), asked.name
            elif asked == "repeat":
                sequences = input.repeated(self.repeated_length, self.repeated_texts, self.seed)
                collected = input.once(on_repeated(self), partial(next_tokens, input.model, sequences, around=True))
                of_repeats = collected.predictions()
                found, source = measures.repetition(of_repeats.right, of_repeats.rank), REPEATED
            else:
                collected = input.once(on_texts(self), partial(next_tokens, input.model, texts.ids))
                found, source = on_corpus[asked](collected.predictions().loss, texts.text), self.corpus.name
            yield from ((one, source) for one in found)
