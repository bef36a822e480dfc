"""Attention between annotated places of texts: from the tokens of one span to those of another.

Of an item with query tokens Q and key tokens K, a head's number is the mean over i in Q of the sum over j in K of A[i, j].
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from headway import options, tables
from headway.abilities.items import json_object
from headway.corpora import read_lines
from headway.errors import CheckpointError, CorpusError, UnsupportedModel
from headway.options import documented
from headway.suites import Checkpoint

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from headway.attention.attention import Attention
    from headway.models import Geometry, Tokenizer
    from headway.models.opened import Opened

# Part of the job's identity. Raise it when the numbers change: then old partitions are not reused.
DEFINITIONS_VERSION = 1
_SPANS = ("query", "key")


class Span(NamedTuple):
    """An item: two places in a text, as characters [start, end), counted from 0."""

    line: int
    text: str
    query: tuple[int, int]
    key: tuple[int, int]
    label: str


@dataclass(frozen=True)
class Spans:
    """The items of a file. `name` is the file's, and `sha256` the hash of the items."""

    name: str
    items: tuple[Span, ...]
    sha256: str


class Place(NamedTuple):
    """An item as a model reads it: positions of the tokens of both spans, ascending."""

    ids: NDArray[np.int64]
    query: NDArray[np.int64]
    key: NDArray[np.int64]


def read_spans(path: str | PathLike[str]) -> Spans:
    """Read JSON lines such as {"text": "the cat sat", "query": [8, 11], "key": [4, 7], "label": "subject"}.

    Raises:
        CorpusError: the file cannot be read, or a line is no item: it lacks a part, or a span is empty or beyond its text.
    """
    path = Path(path).expanduser()
    try:
        lines = read_lines(path)
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error.strerror or error}") from error
    items = tuple(_span(f"{path}, line {at}", at, line) for at, line in enumerate(lines, 1) if line.strip())
    if not items:
        raise CorpusError(f"{path} holds no spans: write one JSON object a line, with text, query, key and label")
    return Spans(path.name, items, hashlib.sha256(json.dumps(items).encode("ascii")).hexdigest())


def _span(place: str, line: int, words: str) -> Span:
    found = json_object(place, words)
    text, label = found.get("text"), found.get("label", "")
    if not isinstance(text, str) or not text.strip():
        raise CorpusError(f"{place} has no text")
    if not isinstance(label, str):
        raise CorpusError(f"{place}: the label is no text but {label!r}")
    query, key = (_ends(place, name, found.get(name), text) for name in _SPANS)
    return Span(line, text, query, key, label)


def _ends(place: str, name: str, ends: Any, text: str) -> tuple[int, int]:
    whole = isinstance(ends, list) and len(ends) == 2 and all(type(end) is int for end in ends)
    if not whole:
        raise CorpusError(f"{place}: {name} must be [start, end] in characters, counted from 0, not {json.dumps(ends)}")
    start, end = ends
    if start >= end:
        raise CorpusError(f"{place}: the span {name} [{start}, {end}] is empty. Its end must lie after its start")
    if start < 0 or end > len(text):
        raise CorpusError(
            f"{place}: the span {name} [{start}, {end}] lies beyond the text, which has {len(text)} characters"
        )
    return start, end


def place_of(spans: Spans, item: Span, tokenizer: Tokenizer, geometry: Geometry, add_bos: bool) -> Place:
    """Find the tokens of both spans: every token that shares a character with a span belongs to it.

    Raises:
        CorpusError: the text does not fit the model, a span holds no token, or the key lies after the query, to which a
            causal model cannot attend.
    """
    from headway.models.opened import require_readable

    place = f"{spans.name}, line {item.line}"
    if add_bos and tokenizer.bos_id is None:
        raise CorpusError(f"{place}: the tokenizer has no token that starts a text (BOS): leave --add-bos out")
    start = [tokenizer.bos_id] if add_bos and tokenizer.bos_id is not None else []
    ids, offsets = tokenizer.encode_with_offsets(item.text)
    tokens = np.array([*start, *ids], dtype=np.int64)
    require_readable(place, "the text", tokens, geometry)
    query, key = (
        np.array(
            [len(start) + at for at, (low, high) in enumerate(offsets) if low < end and high > begin], dtype=np.int64
        )
        for begin, end in (item.query, item.key)
    )
    for name, found in zip(_SPANS, (query, key), strict=True):
        if not len(found):
            raise CorpusError(f"{place}: the span {name} holds no token")
    if key[-1] > query[0]:
        raise CorpusError(
            f"{place}: the key ends at token {key[-1]}, after the query begins at token {query[0]}, and a model attends to "
            "no later token. Exchange query and key, or let them share no token"
        )
    return Place(tokens, query, key)


def span_attention(model: PreTrainedModel, places: Sequence[Place]) -> NDArray[np.float64]:
    """Return the attention from query to key of each item and head: (items, layers, heads).

    Raises:
        UnsupportedModel: the architecture's attention cannot be read truthfully.
        CheckpointError: a number is not finite, which a damaged or diverged model gives.
    """
    import torch

    from headway.attention.heads import read_together
    from headway.attention.reading import EnoughError, reading

    n_layers = model.config.get_text_config().num_hidden_layers
    found: NDArray[np.float64] | None = None
    layers: dict[int, NDArray[np.float64]] = {}
    keys: dict[int, list[tuple[int, int, torch.Tensor]]] = {}

    def read(layer: int, attention: Attention) -> None:
        if layer in layers or layer >= n_layers:
            raise UnsupportedModel(f"{type(model).__name__} calls layer {layer} more than once in a forward pass")
        sums: dict[int, torch.Tensor] = {}
        for key, wanted in keys.items():
            column = attention.to(key)  # A[i, key] for i >= key, of all texts of the batch
            for item, row, query in wanted:
                own = column[row][:, query - key].double().mean(-1)
                sums[item] = sums[item] + own if item in sums else own
        layers[layer] = torch.stack([sums[item] for item in sorted(sums)]).cpu().numpy()
        if layer == n_layers - 1:
            raise EnoughError

    with torch.inference_mode(), reading(model, read):
        for batch in read_together(model, [place.ids for place in places]):
            layers.clear()
            keys.clear()
            for row, item in enumerate(batch.numbers):
                query = torch.from_numpy(places[item].query).to(model.device)
                for key in places[item].key.tolist():
                    keys.setdefault(key, []).append((item, row, query))
            with suppress(EnoughError):
                model.base_model(input_ids=torch.from_numpy(batch.ids).to(model.device), use_cache=False)
            if len(layers) < n_layers or len({own.shape for own in layers.values()}) > 1:
                raise UnsupportedModel(
                    f"{type(model).__name__} has layers without attention, or of other numbers of heads"
                )
            stacked = np.stack([layers[layer] for layer in range(n_layers)], 1)
            found = np.empty((len(places), *stacked.shape[1:])) if found is None else found
            found[sorted(batch.numbers)] = stacked
    if found is None or not np.isfinite(found).all():
        raise CheckpointError("the attention between spans is not finite: the run diverged, or the weights are damaged")
    return found


@documented(options.MEASURE)
@dataclass(frozen=True)
class SpanScores:
    """The job that keeps the attention between spans, a row per item and head, table `spans`.

    Attributes:
        {options}
    """

    spans: Spans
    add_bos: bool = options.ADD_BOS.default
    dtype: str = options.DTYPE.default
    device: str = field(default=options.DEVICE.default, compare=False)
    keep_files: bool = field(default=options.KEEP_FILES.default, compare=False)

    table = "spans"
    needs = frozenset({"config", "weights", "tokenizer"})

    def identity(self) -> dict[str, Any]:
        """Return all settings that affect the numbers."""
        return {
            "spans": {"name": self.spans.name, "sha256": self.spans.sha256},
            "add_bos": self.add_bos,
            "dtype": self.dtype,
            "definitions": DEFINITIONS_VERSION,
        }

    def look_before(self, checkpoints: Sequence[Checkpoint]) -> list[str]:
        """Check with the first checkpoint's tokenizer that all can be read, and say what a user should know before."""
        return self.require_measurable(checkpoints[0])

    def require_measurable(self, checkpoint: Checkpoint) -> list[str]:
        """Check that all spans can be found with `checkpoint`'s tokenizer, before any weights are fetched.

        Returns:
            A sentence that says how many rows a checkpoint has.

        Raises:
            CorpusError: as `place_of`.
        """
        from headway.models.opened import before_the_sweep

        def look(tokenizer: Tokenizer, geometry: Geometry) -> int:
            return len(list(self._places(tokenizer, geometry))) * geometry.n_layers * geometry.n_heads

        rows = before_the_sweep(checkpoint, look)
        return (
            [] if rows is None else [f"the table spans will have {rows:,} rows for a checkpoint of {checkpoint.size}"]
        )

    def _places(self, tokenizer: Tokenizer, geometry: Geometry) -> Iterator[Place]:
        return (place_of(self.spans, item, tokenizer, geometry, self.add_bos) for item in self.spans.items)

    def read(self, checkpoint: Checkpoint) -> AbstractContextManager[Opened]:
        """Fetch the files and read the weights."""
        from headway.models.opened import opened

        of: dict[str, Any] = {"dtype": self.dtype, "device": self.device, "keep_files": self.keep_files}
        return opened(checkpoint, self.needs, **of)

    def compute(self, checkpoint: Checkpoint, input: Opened) -> pl.DataFrame:
        """Return one row per item and head, ordered by item, layer and head.

        Raises:
            CheckpointError: an attention is not finite, or the device has too little memory.
            CorpusError: an item does not fit this model.
        """
        import torch

        from headway.models.opened import too_large

        input.geometry.require_causal("attention between spans")
        places = list(self._places(input.tokenizer, input.geometry))
        try:
            values = span_attention(input.model, places)
        except torch.OutOfMemoryError as error:
            raise too_large(checkpoint, input.model) from error
        item, layer, head = (axis.ravel() for axis in np.indices(values.shape))
        of_items = pl.DataFrame(
            {
                "item": [one.line for one in self.spans.items],
                "label": [one.label for one in self.spans.items],
                "distance": [int(place.query[0] - place.key[-1]) for place in places],
                "n_query": [len(place.query) for place in places],
                "n_key": [len(place.key) for place in places],
            }
        )
        frame = of_items[item].with_columns(
            pl.Series("layer", layer), pl.Series("head", head), pl.Series("attention", values.ravel())
        )
        frame = frame.with_columns(**{name: pl.lit(value) for name, value in input.columns(checkpoint).items()})
        types = tables.schema(tables.SPANS_COLUMNS, dict(checkpoint.axes))
        return frame.select(pl.col(name).cast(dtype) for name, dtype in types.items())
