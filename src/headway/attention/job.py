"""The job `heads`: it scores a checkpoint and makes a table with one row per head and one column per score."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from headway import options, tables
from headway.attention.needs import Needs
from headway.attention.scores import DEFINITIONS, Definition, scores_of, unknown_score
from headway.corpora import Corpus, Sequences
from headway.errors import UsageError
from headway.known_scores import DECODER
from headway.options import documented
from headway.suites import Checkpoint
from headway.text import count, listed

if TYPE_CHECKING:
    from headway.models import Geometry, Tokenizer
    from headway.models.opened import Opened

# Part of the job's identity. Raise it when a score's numbers change: then old partitions are not reused.
DEFINITIONS_VERSION = 1


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
            "loss": False,  # once a setting of this table; directories from before the table abilities go on
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

    def look_before(self, checkpoints: Sequence[Checkpoint]) -> list[str]:
        """Check with the first checkpoint's tokenizer that the corpus can be read, and say which scores its model cannot have."""
        return self.require_measurable(checkpoints[0])

    def require_measurable(self, checkpoint: Checkpoint) -> list[str]:
        """Check that the corpus can be read with `checkpoint`'s tokenizer, before any weights are fetched.

        Other faults of the checkpoint are left to the sweep, which records them and continues with the others.

        Returns:
            Sentences on stacks of heads that are left out, and on scores that are asked for and left out.

        Raises:
            CorpusError: no text has two tokens, or the tokenizer makes tokens that the model does not have.
            UsageError: the tokenizer has no BOS, which `add_bos` asks for, or the context has no room for a text.
            StorageError: the disk is full.
        """
        from headway.models.opened import before_the_sweep, tokenized

        def look(tokenizer: Tokenizer, geometry: Geometry) -> list[str]:
            tokenized(self.corpus, tokenizer, geometry, self.add_bos)
            there = self._defined_for(geometry)
            absent = [name for name in self.scores if name not in there]
            if geometry.causal or not there:  # without any score, the sweep says so
                return []
            said = [f"heads of the {stack} are left out: {why}" for stack, why in _left_out(geometry).items()]
            if geometry.sets_of_weights:
                said.append(f"the heads of several layers have the same weights: {_shared(geometry)}")
            if absent:
                said.append(
                    f"{listed(absent)} {'is' if len(absent) == 1 else 'are'} left out: {geometry.architecture} has an "
                    f"encoder, and no stack of its heads ({listed(geometry.measured)}) has such a score"
                )
            return said

        return before_the_sweep(checkpoint, look) or []

    def _defined_for(self, geometry: Geometry) -> dict[str, Definition]:
        """The asked scores that a model has in some stack. With an encoder, those of attention on plain texts."""
        asked = {name: DEFINITIONS[name] for name in self.scores}
        if geometry.causal:
            return asked
        return {
            name: definition
            for name, definition in asked.items()
            if set(definition.stacks) & set(geometry.measured) and _of_encoders(definition)
        }

    def read(self, checkpoint: Checkpoint) -> AbstractContextManager[Opened]:
        """Fetch the files and read the weights."""
        from headway.models.opened import opened

        of: dict[str, Any] = {"dtype": self.dtype, "device": self.device, "keep_files": self.keep_files}
        return opened(checkpoint, self.needs, lm_head=self.reads_logits, **of)

    def compute(self, checkpoint: Checkpoint, input: Opened) -> pl.DataFrame:
        """Return one row per head, ordered by stack, layer and head.

        Raises:
            CheckpointError: a score is not finite, or the device has too little memory.
        """
        texts = input.texts(self.corpus, self.add_bos)
        if not input.geometry.causal:
            found = self._by_stack(checkpoint, input, texts)
        else:
            on_texts, on_repeated = self.by_text(checkpoint, input)
            means = {name: _mean_over_texts(values.astype(np.float64), texts.text) for name, values in on_texts.items()}
            means |= {name: values.mean(0, dtype=np.float64) for name, values in on_repeated.items()}
            found = {DECODER: means}
        scores = [name for name in self.scores if any(name in of_stack for of_stack in found.values())]
        frames = [
            self._frame(checkpoint, input, texts, geometry, found[geometry.stack], scores)
            for geometry in input.stacks or (input.geometry,)
            if geometry.stack in found
        ]
        return pl.concat(frames)

    def _by_stack(self, checkpoint: Checkpoint, input: Opened, texts: Sequences) -> dict[str, dict[str, np.ndarray]]:
        """For each stack of a model with an encoder, each score that it has: (layers, heads).

        Raises:
            UsageError: none of the scores is defined for a stack of the model.
            CheckpointError: a score is not finite, or the device has too little memory.
        """
        import torch

        from headway.attention.heads import checked_texts, require_finite
        from headway.attention.stacks import stack_scores
        from headway.models.opened import too_large

        wanted = self._defined_for(input.geometry)
        if not wanted:
            raise UsageError(_undefined(self.scores, input.geometry))
        try:
            found = stack_scores(input.model, checked_texts(texts.ids, input.model.config.get_text_config()), wanted)
        except torch.OutOfMemoryError as error:
            raise too_large(checkpoint, input.model) from error
        for stack, scores in found.items():
            for name, values in scores.items():
                require_finite(f"{name} of the {stack}", values)
        return {
            stack: {name: _mean_over_texts(values.astype(np.float64), texts.text) for name, values in scores.items()}
            for stack, scores in found.items()
        }

    def share(self, checkpoint: Checkpoint, input: Opened) -> None:
        """Make the predictions that a later job expects of the pass over the texts, when the scores themselves are there.

        That job finds the same numbers then, bit for bit, as beside the scores.
        """
        from headway.abilities.next_tokens import on_repeated, on_texts

        if input.geometry.causal and input.expected & {on_texts(self), on_repeated(self)}:
            self.by_text(checkpoint, input)

    def by_text(self, checkpoint: Checkpoint, input: Opened) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Each score (windows of texts, layers, heads) on the corpus, and on repeated tokens; computed once for an input.

        Raises:
            CheckpointError: a score is not finite, or the device has too little memory.
        """
        import torch

        from headway.abilities.next_tokens import on_repeated, on_texts
        from headway.models.opened import too_large

        def scored() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
            plain = [name for name in self._of_decoders if not DEFINITIONS[name].repeated]
            repeated = [name for name in self._of_decoders if DEFINITIONS[name].repeated]
            texts = input.texts(self.corpus, self.add_bos)
            return (
                self._scored(input, texts.ids, plain, on_texts(self)) if plain else {},
                self._scored(input, self._repeated(input), repeated, on_repeated(self), around=True)
                if repeated
                else {},
            )

        try:
            return input.once(("scores", self), scored)
        except torch.OutOfMemoryError as error:
            raise too_large(checkpoint, input.model) from error

    def _scored(
        self, input: Opened, sequences: list[np.ndarray], names: list[str], predictions: Any, *, around: bool = False
    ) -> dict[str, np.ndarray]:
        """Scores (texts, layers, heads), and in the same forward pass the `predictions`, if a later job expects them."""
        from headway.abilities.next_tokens import NextTokens
        from headway.attention.heads import head_scores

        if predictions not in input.expected:
            return head_scores(input.model, sequences, names)
        collected = NextTokens(sequences, around=around)
        found = head_scores(input.model, sequences, names, also=collected.add)
        if collected.whole:  # scores of weights alone read no text
            input.once(predictions, lambda: collected)
        return found

    def used(self, input: Opened) -> dict[str, Any]:
        """What the manifest states: the length of the repeated texts, which context and vocabulary limit.

        Of hybrids: the layers that are left out, because they have no heads. Of models with an encoder: the special tokens around each text, what the decoder reads, and stacks that are left out.
        """
        if not input.geometry.causal:
            return _read_by_encoder(input)
        gaps: dict[str, Any] = input.geometry.gaps
        if not self._reads_repeated:
            return gaps
        return gaps | {"repeated": {"length": len(self._repeated(input)[0]) // 2, "texts": self.repeated_texts}}

    @property
    def _reads_repeated(self) -> bool:
        return any(DEFINITIONS[name].repeated for name in self.scores)

    def _repeated(self, input: Opened) -> list[np.ndarray]:
        return input.repeated(self.repeated_length, self.repeated_texts, self.seed)

    @property
    def reads_logits(self) -> bool:
        """Whether a score needs the unembedding."""
        return any(DEFINITIONS[name].needs.unembedding for name in self.scores)

    @property
    def _of_decoders(self) -> tuple[str, ...]:
        """The scores that a causal language model has.

        Raises:
            UsageError: it has none of them.
        """
        own = tuple(name for name in self.scores if DECODER in DEFINITIONS[name].stacks)
        if not own:
            raise UsageError(
                f"{listed(self.scores)} is not defined for a causal language model, which attends to earlier tokens alone: "
                f"its scores are {', '.join(scores_of(DECODER))}"
            )
        return own

    def _frame(
        self,
        checkpoint: Checkpoint,
        input: Opened,
        texts: Sequences,
        geometry: Geometry,
        means: dict[str, np.ndarray],
        scores: Sequence[str],
    ) -> pl.DataFrame:
        """The rows of one stack. Of the `scores` those that it lacks are null."""
        layer, head = np.divmod(np.arange(geometry.n_layers * geometry.n_heads), geometry.n_heads)
        of_heads = {"layer": layer, "head": head} | {name: values.ravel() for name, values in means.items()}
        of_checkpoint = {
            **dict.fromkeys(set(scores) - means.keys()),
            **input.columns(checkpoint, geometry),
            "stack": geometry.stack,
            "n_texts": len(np.unique(texts.text)),
            "n_tokens": texts.n_tokens,
            "n_short": texts.n_short,
            "n_windowed": texts.n_windowed,
        }
        types = tables.schema(tables.HEADS_COLUMNS)
        types |= dict.fromkeys(scores, pl.Float64())
        types |= tables.schema(tables.CORPUS_COLUMNS, dict(checkpoint.axes))
        frame = (
            pl.DataFrame(of_heads)
            .filter(~pl.col("layer").is_in(geometry.without_heads))
            .with_columns(**{name: pl.lit(one) for name, one in of_checkpoint.items()})
        )
        return frame.select(pl.col(name).cast(dtype) for name, dtype in types.items())


def _left_out(geometry: Geometry) -> dict[str, str]:
    """The stacks of a model that texts say nothing about, with the reasons."""
    from headway.models.stacks import UNMEASURED

    return {stack: UNMEASURED[stack] for stack in geometry.stacks if stack not in geometry.measured}


def _shared(geometry: Geometry) -> str:
    return f"{geometry.n_layers} layers share {count(geometry.sets_of_weights or 0, 'set')} of weights"


def _of_encoders(definition: Definition) -> bool:
    """Whether models with an encoder can have a score. Repeated tokens, effects and circuits need next tokens predicted."""
    return definition.needs is Needs.PATTERN and not definition.repeated


def _undefined(scores: Sequence[str], geometry: Geometry) -> str:
    """Why no measured stack of a model with an encoder has any of the scores."""
    known = {
        stack: [name for name in scores_of(stack) if _of_encoders(DEFINITIONS[name])] for stack in geometry.measured
    }
    told = "".join(f". Scores of the {stack} are {', '.join(names)}" for stack, names in known.items())
    why = "".join(f". The {stack} is left out: {reason}" for stack, reason in _left_out(geometry).items())
    return f"{listed(scores)} is not defined for the {listed(geometry.measured)} of {geometry.architecture}{told}{why}"


def _read_by_encoder(input: Opened) -> dict[str, Any]:
    """What a model with an encoder reads of a text, for the manifest."""
    from headway.models.stacks import start_of_decoder

    before, after = (input.tokenizer.words(ids) for ids in input.tokenizer.around)
    special = f"{' '.join(before) or 'none'} before each text, {' '.join(after) or 'none'} after it"
    used: dict[str, Any] = {"stacks": list(input.geometry.measured), "special_tokens": special}
    if input.geometry.sets_of_weights:
        used["weights"] = _shared(input.geometry)
    if DECODER in input.geometry.stacks:
        start = input.tokenizer.words([start_of_decoder(input.model.config)])[0]
        left_out = _left_out(input.geometry)
        of = "other tokens of the text" if left_out else "tokens of the encoder"
        used["decoder_reads"] = f"{start}, then the {of} without the last"
        if left_out:
            used |= {"encoder_reads": "silence, as log-mel features", "stacks_left_out": left_out}
    return used


def _mean_over_texts(values: np.ndarray, text: np.ndarray) -> np.ndarray:
    """Average `values` (windows, layers, heads) over the windows of each text, then over texts: (layers, heads)."""
    _, number, windows = np.unique(text, return_inverse=True, return_counts=True)
    share = 1 / windows[number]
    return np.tensordot(share, values, 1) / len(windows)
