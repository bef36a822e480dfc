"""The job `paths`: what chosen heads feed to other chosen heads, beside other heads of their layers."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from headway import options, tables
from headway.attention.needs import Needs
from headway.attention.scores import DEFINITIONS
from headway.corpora import Corpus
from headway.errors import CheckpointError
from headway.interventions.controls import seed_of_run, share_at_least
from headway.interventions.groups import Heads, named
from headway.options import documented
from headway.suites import Checkpoint

if TYPE_CHECKING:
    from headway.circuits.patching import PatchedPaths
    from headway.models.opened import Opened

# Part of the job's identity. Raise it when the numbers change: then old partitions are not reused.
DEFINITIONS_VERSION = 1


@documented(options.RELATE)
@dataclass(frozen=True)
class HeadPaths:
    """The job that patches the paths between chosen heads of a checkpoint, table `paths`.

    Attributes:
        {options}
        sending: The heads that paths start from at each checkpoint, by its key, such as `pythia-14m-seed1@512`. They are no
            part of the job's identity but an input of the checkpoint's partition.
        receiving: The heads that they lead to, likewise.
        score: The score by which receivers were chosen. It is measured if it is one of the attention pattern.
    """

    corpus: Corpus
    sending: Mapping[str, Heads]
    receiving: Mapping[str, Heads]
    score: str
    senders: str = options.SENDERS.default
    receivers: str = options.RECEIVERS.default
    replacements: tuple[str, ...] = options.REPLACEMENTS.default
    n_texts: int = options.N_TEXTS.default
    repeated_length: int = options.REPEATED_LENGTH.default
    controls: int = options.PATH_CONTROLS.default
    seed: int = options.PATH_SEED.default
    dtype: str = options.DTYPE.default
    device: str = field(default=options.DEVICE.default, compare=False)
    keep_files: bool = field(default=options.KEEP_FILES.default, compare=False)

    table = "paths"
    reads_logits = True
    needs = frozenset({"config", "weights", "tokenizer"})

    def identity(self) -> dict[str, Any]:
        """Return all settings that affect the numbers."""
        return {
            "corpus": None if self._repeated else {"name": self.corpus.name, "sha256": self.corpus.sha256},
            "from": self.senders,
            "to": self.receivers,
            "score": self.score,
            "replacements": list(self.replacements),
            "n_texts": self.n_texts,
            "repeated_length": self.repeated_length if self._repeated else None,
            "controls": self.controls,
            "seed": self.seed,
            "dtype": self.dtype,
            "definitions": DEFINITIONS_VERSION,
        }

    @property
    def _repeated(self) -> bool:
        return DEFINITIONS[self.score].repeated

    @property
    def given(self) -> dict[str, str]:
        """A hash of each checkpoint's heads, by `paths of RUN@STEP`."""
        return {f"paths of {key}": self._hash(key) for key in self.sending.keys() & self.receiving.keys()}

    def _hash(self, key: str) -> str:
        return hashlib.sha256(json.dumps([self.sending[key], self.receiving[key]]).encode()).hexdigest()

    @contextmanager
    def read(self, checkpoint: Checkpoint) -> Iterator[Opened]:
        """Fetch the files and read the weights.

        Raises:
            CheckpointError: no head of the one group is in an earlier layer than one of the other.
        """
        from headway.models.opened import opened

        key = checkpoint.key
        for words, group in ((f"--from {self.senders!r}", self.sending), (f"--to {self.receivers!r}", self.receiving)):
            if key not in group:  # before anything is downloaded
                raise CheckpointError(f"it has no heads by {words}")
        if not _pairs(self.sending[key], self.receiving[key]):
            raise CheckpointError(
                f"no head of --from ({named(self.sending[key])}) is in an earlier layer than one of --to "
                f"({named(self.receiving[key])})"
            )
        of: dict[str, Any] = {"dtype": self.dtype, "device": self.device, "keep_files": self.keep_files}
        with opened(checkpoint, self.needs, lm_head=True, **of) as read:
            yield replace(read, identities=read.identities | {f"paths of {key}": self._hash(key)})

    def compute(self, checkpoint: Checkpoint, input: Opened) -> pl.DataFrame:
        """Return one row per pair of heads, changed input, replacement and effect.

        Raises:
            CheckpointError: a number is not finite.
            UnsupportedModel: the parts that heads write or read cannot be told apart in this architecture.
        """
        from headway.circuits.patching import patched_paths

        sending, receiving = self.sending[checkpoint.key], self.receiving[checkpoint.key]
        others = controls_of(sending, input.geometry.n_heads, self.controls, seed_of_run(self.seed, checkpoint.run))
        every = (*sending, *(head for heads in others.values() for head in heads))
        texts = self._texts(input)
        needs = DEFINITIONS[self.score].needs
        found = patched_paths(
            input.model,
            texts,
            every,
            receiving,
            score=self.score if needs is Needs.PATTERN else None,
            replacements=self.replacements,
            first_row=(lambda n_tokens: n_tokens // 2) if self._repeated else (lambda n_tokens: 0),
        )
        of_all = {
            **input.columns(checkpoint),
            "senders": self.senders,
            "receivers": self.receivers,
            "n_texts": len(texts),
        }
        rows = [of_all | row for row in _rows(found, every, len(sending), receiving, others)]
        if not all(math.isfinite(row["change"]) for row in rows):
            raise CheckpointError(f"numbers of paths are not finite in {self.dtype}: try another --dtype")
        return pl.DataFrame(rows, schema=tables.schema(tables.PATHS_COLUMNS, dict(checkpoint.axes)))

    def _texts(self, input: Opened) -> Sequence[np.ndarray]:
        if self._repeated:
            return input.repeated(self.repeated_length, self.n_texts, self.seed)
        return input.texts(replace(self.corpus, texts=self.corpus.texts[: self.n_texts]), False).ids


def _pairs(sending: Heads, receiving: Heads) -> list[tuple[int, int]]:
    """The places of all pairs in which the sender's layer is the earlier one."""
    return [
        (one, other)
        for one, (layer, _) in enumerate(sending)
        for other, (later, _) in enumerate(receiving)
        if layer < later
    ]


def controls_of(sending: Heads, n_heads: int, most: int, seed: Sequence[int]) -> dict[int, Heads]:
    """For each layer of the senders, random other heads of it: at most `most`."""
    random = np.random.default_rng(seed)
    found = {}
    for layer in sorted({layer for layer, _ in sending}):
        free = [(layer, head) for head in range(n_heads) if (layer, head) not in sending]
        found[layer] = tuple(free[at] for at in sorted(random.permutation(len(free))[:most].tolist()))
    return found


def _rows(
    found: PatchedPaths, every: Heads, n_sending: int, receiving: Heads, others: Mapping[int, Heads]
) -> Iterator[dict[str, Any]]:
    """Columns of each path, beside those of other heads of the sender's layer into the same input of the same receiver."""
    place = {head: at for at, head in enumerate(every)}
    for key, after in found.after.items():
        changes = after - found.before[key.effect]
        for one, other in _pairs(every[:n_sending], receiving):
            layer = every[one][0]
            beside = changes[[place[head] for head in others[layer]], other]
            row: dict[str, Any] = {
                "from_layer": layer,
                "from_head": every[one][1],
                "layer": receiving[other][0],
                "head": receiving[other][1],
                "input": key.input,
                "replaced_by": key.replaced_by,
                "effect": key.effect,
                "before": float(found.before[key.effect][other]),
                "after": float(after[one, other]),
                "change": float(changes[one, other]),
                "n_controls": len(beside),
            }
            if len(beside):
                low, median, high = np.quantile(beside, [0.05, 0.5, 0.95])
                sizes = np.abs([*beside, changes[one, other]]).tolist()
                row |= {"control_low": low, "control_median": median, "control_high": high}
                row["p"] = share_at_least(sizes[-1], sizes)
            yield row
