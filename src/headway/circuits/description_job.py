"""The job `descriptions`: what compares heads of different runs with each other."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import polars as pl

from headway import options, tables
from headway.corpora import Corpus
from headway.errors import CheckpointError
from headway.options import documented
from headway.suites import Checkpoint

if TYPE_CHECKING:
    from headway.models.opened import Opened

# Part of the job's identity. Raise it when the numbers change: then old partitions are not reused.
DEFINITIONS_VERSION = 1


@documented(options.DESCRIBE)
@dataclass(frozen=True)
class HeadDescriptions:
    """The job that describes each head of a checkpoint so that heads of different runs can be compared.

    Attributes:
        {options}
    """

    corpus: Corpus
    n_texts: int = options.DESCRIBED_TEXTS.default
    repeated_length: int = options.DESCRIBED_LENGTH.default
    seed: int = options.DESCRIBED_SEED.default
    dtype: str = options.DTYPE.default
    device: str = field(default=options.DEVICE.default, compare=False)
    keep_files: bool = field(default=options.KEEP_FILES.default, compare=False)

    table = "descriptions"
    reads_logits = True  # the unembedding is a part of what features are made of
    needs = frozenset({"config", "weights", "tokenizer"})

    def identity(self) -> dict[str, Any]:
        """Return all settings that affect the numbers."""
        return {
            "corpus": {"name": self.corpus.name, "sha256": self.corpus.sha256},
            "n_texts": self.n_texts,
            "repeated_length": self.repeated_length,
            "seed": self.seed,
            "dtype": self.dtype,
            "definitions": DEFINITIONS_VERSION,
        }

    def read(self, checkpoint: Checkpoint) -> AbstractContextManager[Opened]:
        """Fetch the files and read the weights."""
        from headway.models.opened import opened

        of: dict[str, Any] = {"dtype": self.dtype, "device": self.device, "keep_files": self.keep_files}
        return opened(checkpoint, self.needs, lm_head=True, **of)

    def compute(self, checkpoint: Checkpoint, input: Opened) -> pl.DataFrame:
        """Return one row per head.

        Raises:
            CheckpointError: a number is not finite, or the texts have fewer than four tokens.
            UnsupportedModel: headway does not know the model's weights or cannot read its attention.
        """
        from headway.circuits.responses import attention_vectors, output_vectors
        from headway.circuits.traits import traits
        from headway.models.paths import Paths

        input.geometry.require_causal("a description of heads")
        paths = Paths(input.model)
        texts = self._texts(input)
        if sum(map(len, texts)) < _FEWEST:
            raise CheckpointError(
                f"the texts have {sum(map(len, texts))} tokens, and {_FEWEST} are needed to compare outputs"
            )
        attention = attention_vectors(input.model, texts)
        outputs = output_vectors(paths, input.model, texts)
        of_all = input.columns(checkpoint)
        rows: list[dict[str, Any]] = []
        for layer, features in enumerate(traits(paths)):
            for head in range(input.geometry.n_heads):
                own = {name: float(values[head]) for name, values in features.items()}
                vectors = {"attention": attention[layer, head], "outputs": outputs[layer, head]}
                rows.append(of_all | {"layer": layer, "head": head} | own | vectors)
        frame = pl.DataFrame(rows, schema=tables.schema(tables.DESCRIPTIONS_COLUMNS, dict(checkpoint.axes)))
        # A head without weights has no features: the logarithm of 0, and shares of 0.
        number = pl.selectors.float()
        return frame.with_columns(pl.when(number.is_finite()).then(number).name.keep())

    def _texts(self, input: Opened) -> list[Any]:
        """The openings of the corpus's first texts, then random tokens that are repeated once, each of the same length."""
        first = input.texts(replace(self.corpus, texts=self.corpus.texts[: self.n_texts]), False).ids
        repeated = input.repeated(self.repeated_length, self.n_texts, self.seed)
        return [text[: 2 * self.repeated_length] for text in first] + repeated


_FEWEST = 4  # tokens: U-centring divides by n - 3
