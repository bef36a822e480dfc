"""The job `heads`: it scores a checkpoint and makes a table with one row per head and one column per score."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from headway import options, suites, tables
from headway.attention.scores import DEFINITIONS, unknown_score
from headway.corpora import Corpus, Sequences, repeated_random, tokenize, usable_tokens
from headway.errors import CheckpointError, StorageError, UsageError
from headway.options import documented
from headway.suites import Checkpoint

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from headway.models import Geometry, Tokenizer

log = logging.getLogger("headway.attention")

# Part of the job's identity. Raise it when a score's numbers change: then old partitions are not reused.
DEFINITIONS_VERSION = 1


@dataclass(frozen=True)
class Input:
    """A checkpoint that is ready to be measured. Its `settings` must be the same at all steps of a run."""

    model: PreTrainedModel
    tokenizer: Tokenizer
    geometry: Geometry
    identities: dict[str, str]
    settings: dict[str, Any]


@documented(options.MEASURE)
@dataclass(frozen=True)
class HeadScores:
    """The job that scores every head of a checkpoint on a corpus, table `heads`.

    A text that was split into windows counts once, with the mean of its windows. Scores such as `induction` are computed
    on random tokens that are repeated once; `seed` draws them, and `add_bos` does not concern them. Scores of weights,
    such as `copying`, read no text. Scores are computed in float32, or in float64 if that is the dtype. `device` and `keep_files` are no part of the job's identity.

    Attributes:
        {options}
    """

    corpus: Corpus
    scores: tuple[str, ...] = options.SCORES.default
    loss: bool = options.LOSS.default
    add_bos: bool = options.ADD_BOS.default
    dtype: str = options.DTYPE.default
    device: str = field(default=options.DEVICE.default, compare=False)
    keep_files: bool = field(default=options.KEEP_FILES.default, compare=False)
    repeated_length: int = options.REPEATED_LENGTH.default
    repeated_texts: int = options.REPEATED_TEXTS.default
    seed: int = options.REPEATED_SEED.default

    table = "heads"
    needs = frozenset({"config", "weights", "tokenizer"})

    def __post_init__(self) -> None:
        if not self.scores:
            raise UsageError(f"no score is asked for: known are {', '.join(DEFINITIONS)}")
        for name in self.scores:
            if name not in DEFINITIONS:
                raise unknown_score(name)
        if len(set(self.scores)) < len(self.scores):
            raise UsageError(f"a score is asked for twice: {', '.join(self.scores)}")

    def identity(self) -> dict[str, Any]:
        """Return all settings that affect the numbers."""
        repeated = {"length": self.repeated_length, "texts": self.repeated_texts, "seed": self.seed}
        return {
            "corpus": {"name": self.corpus.name, "sha256": self.corpus.sha256},
            "scores": list(self.scores),
            "loss": self.loss,
            "add_bos": self.add_bos,
            "dtype": self.dtype,
            "repeated": repeated if self._reads_repeated else None,
            "definitions": DEFINITIONS_VERSION,
            **self._own_formulas(),
        }

    def _own_formulas(self) -> dict[str, Any]:
        """Hashes of the formulas of user-defined scores; `DEFINITIONS_VERSION` covers only built-in ones."""
        own = {name: DEFINITIONS[name].digest for name in self.scores if not DEFINITIONS[name].built_in}
        return {"formulas": own} if own else {}

    def require_measurable(self, checkpoint: Checkpoint) -> None:
        """Check that the corpus can be read with `checkpoint`'s tokenizer, before any weights are fetched.

        Other faults of the checkpoint are left to the sweep, which records them and continues with the others.

        Raises:
            CorpusError: no text has two tokens, or the tokenizer makes tokens that the model does not have.
            UsageError: the tokenizer has no BOS, which `add_bos` asks for, or the context has no room for a text.
            StorageError: the disk is full.
        """
        from headway import models

        try:
            with suites.files(checkpoint, self.needs - {"weights"}) as files:
                geometry = models.read_geometry(files.folder)
                _tokenized(self.corpus, models.load_tokenizer(files.tokenizer_folder), *_limits(geometry), self.add_bos)
        except (UsageError, StorageError):
            raise
        except Exception as error:  # the sweep will meet the error again and record it
            log.debug("%s was not looked at before the sweep: %s", checkpoint.key, error)

    @contextmanager
    def read(self, checkpoint: Checkpoint) -> Iterator[Input]:
        """Fetch the files and read the weights."""
        from headway import models

        device = models.choose_device(self.device)
        with suites.files(checkpoint, self.needs, keep=self.keep_files) as files:
            geometry = models.read_geometry(files.folder)
            model = models.load(files.folder, dtype=self.dtype, device=device, lm_head=self._reads_logits)
            tokenizer = models.load_tokenizer(files.tokenizer_folder)
            settings = {"tokenizer": tokenizer.identity, **models.settings_of(model)}
            yield Input(model, tokenizer, geometry, {checkpoint.key: files.identity}, settings)

    def compute(self, checkpoint: Checkpoint, input: Input) -> pl.DataFrame:
        """Return one row per head, ordered by layer and head.

        Raises:
            CheckpointError: a score is not finite, or the device has too little memory.
        """
        import torch

        try:
            texts = _tokenized(self.corpus, input.tokenizer, *_limits(input.geometry), self.add_bos)
            means = self._means(input, texts)
            model_columns = self._capability(input, texts) if self.loss else {}
        except torch.OutOfMemoryError as error:
            raise CheckpointError(
                f"{checkpoint.key} does not fit into the memory of {input.model.device}: use --dtype bfloat16, or cpu"
            ) from error
        return self._frame(checkpoint, input.geometry, texts, means, model_columns)

    def used(self, input: Input) -> dict[str, Any]:
        """What the manifest states: the length of the repeated texts, which context and vocabulary limit."""
        if not self._reads_repeated:
            return {}
        return {"repeated": {"length": len(self._repeated(input)[0]) // 2, "texts": self.repeated_texts}}

    @property
    def _reads_repeated(self) -> bool:
        return self.loss or any(DEFINITIONS[name].repeated for name in self.scores)

    @property
    def _reads_logits(self) -> bool:
        return self.loss or any(DEFINITIONS[name].needs.unembedding for name in self.scores)

    def _means(self, input: Input, texts: Sequences) -> dict[str, np.ndarray]:
        """Mean of each score over texts: (layers, heads)."""
        from headway.attention.heads import head_scores

        means: dict[str, np.ndarray] = {}
        on_texts = [name for name in self.scores if not DEFINITIONS[name].repeated]
        if on_texts:
            for name, values in head_scores(input.model, texts.ids, on_texts).items():
                means[name] = _mean_over_texts(values.astype(np.float64), texts.text)
        on_repeated = [name for name in self.scores if DEFINITIONS[name].repeated]
        if on_repeated:
            for name, values in head_scores(input.model, self._repeated(input), on_repeated).items():
                means[name] = values.mean(0, dtype=np.float64)
        return means

    def _capability(self, input: Input, texts: Sequences) -> dict[str, float]:
        """Return the columns of `tables.MODEL_COLUMNS`: how well the checkpoint predicts repeated tokens."""
        from headway.abilities.next_tokens import next_token_predictions

        on_texts = next_token_predictions(input.model, texts.ids)
        repeated = self._repeated(input)
        on_repeated = next_token_predictions(input.model, repeated)
        # Prediction i is of token i + 1; the second copy's first token cannot be known.
        second = [right[len(text) // 2 :] for text, right in zip(repeated, on_repeated.right, strict=True)]
        return {
            "loss": float(np.concatenate(on_texts.loss).mean(dtype=np.float64)),
            "repeat_accuracy": float(np.concatenate(second).mean()),
        }

    def _repeated(self, input: Input) -> list[np.ndarray]:
        context, vocab_size = _limits(input.geometry)
        usable = usable_tokens(input.tokenizer, vocab_size)
        length = min(self.repeated_length, context // 2, len(usable))
        return repeated_random(usable, length, self.repeated_texts, self.seed)

    def _frame(
        self,
        checkpoint: Checkpoint,
        geometry: Geometry,
        texts: Sequences,
        means: dict[str, np.ndarray],
        model_columns: dict[str, float],
    ) -> pl.DataFrame:
        layer, head = np.divmod(np.arange(geometry.n_layers * geometry.n_heads), geometry.n_heads)
        of_heads = {"layer": layer, "head": head} | {name: means[name].ravel() for name in self.scores}
        of_checkpoint = {
            **checkpoint.columns,
            **{name: getattr(geometry, name) for name in ("n_params", "n_layers", "n_heads")},
            **model_columns,
            "n_texts": len(np.unique(texts.text)),
            "n_tokens": texts.n_tokens,
            "n_short": texts.n_short,
            "n_windowed": texts.n_windowed,
        }
        types = tables.schema(tables.HEADS_COLUMNS)
        types |= dict.fromkeys(self.scores, pl.Float64())
        types |= tables.schema(
            (tables.MODEL_COLUMNS if self.loss else ()) + tables.CORPUS_COLUMNS, dict(checkpoint.axes)
        )
        frame = pl.DataFrame(of_heads).with_columns(**{name: pl.lit(one) for name, one in of_checkpoint.items()})
        return frame.select(pl.col(name).cast(dtype) for name, dtype in types.items())


def _limits(geometry: Geometry) -> tuple[int, int]:
    return geometry.context_length, geometry.vocab_size


@lru_cache(maxsize=8)
def _tokenized(corpus: Corpus, tokenizer: Tokenizer, context_length: int, vocab_size: int, add_bos: bool) -> Sequences:
    """Tokenize the corpus once for all checkpoints that share a tokenizer, so that warnings are given once, too."""
    texts = tokenize(corpus, tokenizer, context_length=context_length, vocab_size=vocab_size, add_bos=add_bos)
    for note in texts.notes():
        log.warning("%s: %s", corpus.name, note)
    return texts


def _mean_over_texts(values: np.ndarray, text: np.ndarray) -> np.ndarray:
    """Average `values` (windows, layers, heads) over the windows of each text, then over texts: (layers, heads)."""
    _, number, windows = np.unique(text, return_inverse=True, return_counts=True)
    share = 1 / windows[number]
    return np.tensordot(share, values, 1) / len(windows)
