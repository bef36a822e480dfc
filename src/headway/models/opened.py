"""A checkpoint that is ready to be measured, shared by all jobs that read it, and the texts that it reads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from headway import suites
from headway.corpora import Corpus, Sequences, repeated_random, tokenize, usable_tokens
from headway.devices import choose_device
from headway.errors import CheckpointError, CorpusError, StorageError, UsageError
from headway.models.config import read_geometry, read_stacks, settings_of
from headway.models.geometry import Geometry
from headway.models.loading import load
from headway.models.tokenizers import Tokenizer, load_tokenizer
from headway.suites import Checkpoint

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger("headway.models")
T = TypeVar("T")

NEEDS = frozenset({"config", "weights", "tokenizer"})


@dataclass(frozen=True)
class Opened:
    """A checkpoint that is ready to be measured. Its `settings` must be the same at all steps of a run.

    Several jobs may read one; `once` computes what they share only for the first. `stacks` are the geometries of all
    stacks, of which `geometry` is the first. `expected` are keys that a later job asks `once` for: an earlier one may make
    these in a forward pass of its own.
    """

    model: PreTrainedModel
    tokenizer: Tokenizer
    geometry: Geometry
    identities: dict[str, str]
    settings: dict[str, Any]
    stacks: tuple[Geometry, ...] = ()
    expected: frozenset[Any] = frozenset()
    _shared: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, key: Any, make: Callable[[], T]) -> T:
        """What `make` returned when it was called for `key`, which says all that decides it."""
        if key not in self._shared:
            self._shared[key] = make()
        value: T = self._shared[key]
        return value

    def texts(self, corpus: Corpus, add_bos: bool) -> Sequences:
        """The token sequences of a corpus."""
        return tokenized(corpus, self.tokenizer, self.geometry, add_bos)

    def repeated(self, length: int, n: int, seed: int) -> list[np.ndarray]:
        """`n` sequences of random tokens that are repeated once; fewer than `length` tokens if the context is short."""
        usable = usable_tokens(self.tokenizer, self.geometry.vocab_size)
        shortest = min(length, self.geometry.context_length // 2, len(usable))
        return repeated_random(usable, shortest, n, seed)

    def columns(self, checkpoint: Checkpoint, geometry: Geometry | None = None) -> dict[str, Any]:
        """The values of `tables.CHECKPOINT_COLUMNS`, and of the axes of its suite, for a stack: the first if None."""
        own = geometry or self.geometry
        sizes = {name: getattr(own, name) for name in ("n_params", "n_layers", "n_heads")}
        return {**checkpoint.columns, **sizes}


@contextmanager
def opened(
    checkpoint: Checkpoint,
    need: Collection[str],
    *,
    dtype: str,
    device: str,
    keep_files: bool,
    lm_head: bool = False,
    expected: Collection[Any] = (),
) -> Iterator[Opened]:
    """Fetch the files of a checkpoint and read its weights; `lm_head` adds what predicts next tokens, if the model does.

    `expected` is what the job that reads it will ask `once` for.
    """
    chosen = choose_device(device)
    with suites.files(checkpoint, need, keep=keep_files) as files:
        stacks = read_stacks(files.folder)
        model = load(files.folder, dtype=dtype, device=chosen, lm_head=lm_head and stacks[0].causal)
        tokenizer = load_tokenizer(files.tokenizer_folder)
        settings = {"tokenizer": tokenizer.identity, **settings_of(model)}
        identities = {checkpoint.key: files.identity}
        yield Opened(model, tokenizer, stacks[0], identities, settings, stacks, frozenset(expected))


def before_the_sweep(checkpoint: Checkpoint, look: Callable[[Tokenizer, Geometry], T]) -> T | None:
    """What `look` finds in the small files of a checkpoint, before any weights are fetched.

    Faults of the checkpoint are left to the sweep, which records them and continues with the others: None.

    Raises:
        UsageError, StorageError: as `look` raises them.
    """
    try:
        with suites.files(checkpoint, NEEDS - {"weights"}) as files:
            return look(load_tokenizer(files.tokenizer_folder), read_geometry(files.folder))
    except (UsageError, StorageError):
        raise
    except Exception as error:  # the sweep will meet the error again and record it
        log.debug("%s was not looked at before the sweep: %s", checkpoint.key, error)
        return None


@lru_cache(maxsize=8)
def _tokenized(
    corpus: Corpus, tokenizer: Tokenizer, context_length: int, vocab_size: int, add_bos: bool, causal: bool
) -> Sequences:
    of: dict[str, Any] = {"context_length": context_length, "vocab_size": vocab_size}
    if causal:
        texts = tokenize(corpus, tokenizer, add_bos=add_bos, **of)
    elif add_bos:
        raise UsageError(
            "a model with an encoder reads the special tokens that its tokenizer puts around a text: leave --add-bos out"
        )
    else:
        texts = tokenize(corpus, tokenizer, around=tokenizer.around, **of)
    for note in texts.notes():
        log.warning("%s: %s", corpus.name, note)
    return texts


def tokenized(corpus: Corpus, tokenizer: Tokenizer, geometry: Geometry, add_bos: bool) -> Sequences:
    """Tokenize the corpus once for all checkpoints that share a tokenizer, so that warnings are given once, too.

    A causal language model reads the text alone; one with an encoder reads the tokenizer's special tokens, too.
    """
    return _tokenized(corpus, tokenizer, geometry.context_length, geometry.vocab_size, add_bos, causal=geometry.causal)


def require_readable(place: str, what: str, ids: np.ndarray, geometry: Geometry) -> None:
    """Check that a model can read the tokens (T,) of one text of a file.

    Args:
        place: file and line, for the message.
        what: what has these tokens, such as `the text`.

    Raises:
        CorpusError: there are fewer than two or more than the context holds, or the vocabulary lacks one.
    """
    if not 2 <= len(ids) <= geometry.context_length:
        raise CorpusError(f"{place}: {what} has {len(ids)} tokens, and a model reads 2 to {geometry.context_length}")
    if ids.max() >= geometry.vocab_size:
        raise CorpusError(
            f"{place}: token id {ids.max()} is outside the model's vocabulary of {geometry.vocab_size}, so the tokenizer "
            "belongs to another model"
        )


def too_large(checkpoint: Checkpoint, model: PreTrainedModel) -> CheckpointError:
    """The error for a device that has too little memory."""
    return CheckpointError(
        f"{checkpoint.key} does not fit into the memory of {model.device}: use --dtype bfloat16, or cpu"
    )
