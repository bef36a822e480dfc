"""Score every head of a model on every text of a corpus, in one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from headway.attention import attention
from headway.attention.attention import Attention, Padding
from headway.attention.causal import causal_scores
from headway.attention.circuits import eigenvalues
from headway.attention.effects import Effects, Recorder
from headway.attention.needs import Needs
from headway.attention.reading import EnoughError, reading
from headway.attention.scores import DEFINITIONS, Definition, unknown_score
from headway.errors import CheckpointError, CorpusError, UnsupportedModel, UsageError
from headway.known_scores import DECODER
from headway.models import batches
from headway.models.batches import Batch, Part
from headway.models.paths import Paths
from headway.models.stacks import layers_without_heads
from headway.text import count, listed

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

# On a GPU, longer texts are not padded: a batch of one length keeps it busy.
PADDED_ON_GPU = 512


def head_scores(
    model: PreTrainedModel,
    sequences: Sequence[np.ndarray | Sequence[int]],
    scores: Sequence[str] = ("prev", "self", "first"),
    *,
    also: Callable[[Batch, Tensor], None] | None = None,
) -> dict[str, np.ndarray]:
    """Score every head on every text. The model is left unchanged.

    Texts of similar length are padded and read together, because causal attention does not see padding at the end. The
    forward pass stops after the attention of the last layer, or before the logits if scores need the final norm. Scores
    of weights alone need none.

    Args:
        model: a causal language model of transformers, on any device. Its base model is enough for scores of attention.
        sequences: token ids of each text, at least 2.
        scores: names in `headway.tables.SCORES`. Those of repeated tokens, such as `induction`, need tokens that are
            repeated once.
        also: called with each batch and its next-token logits (texts, T, tokens), which the same forward pass then computes.
            `model` needs its language-model head for it. It is not called if no score reads texts.

    Returns:
        For each score (texts, layers, heads), in float32, or in float64 if the model is. A score of weights alone is
        the same for all texts. Layers of a hybrid that have no heads are NaN.

    Raises:
        UsageError: a score is unknown, needs repeated tokens, or needs the unembedding, which a base model lacks.
        CorpusError: there is no text, or one is too short, too long, or has tokens that the model does not know.
        UnsupportedModel: the architecture's attention cannot be read truthfully, or its weights are not known to headway
            and a score needs them.
        CheckpointError: a score is not finite, which a damaged or diverged model gives.
    """
    definitions = _definitions(scores)
    config = model.config.get_text_config()
    texts = checked_texts(sequences, config)
    if any(definition.repeated for definition in definitions.values()):
        repeated = {name: definition for name, definition in definitions.items() if definition.repeated}
        _require_repeated(texts, list(repeated))
        _require_next_token(texts, [name for name, one in repeated.items() if one.needs.next_token])
    paths = _paths(model, definitions)
    of_weights = {name: definition for name, definition in definitions.items() if definition.needs.weights}
    of_ablations = {name: one for name, one in definitions.items() if one.needs is Needs.ABLATION}
    of_texts = {name: one for name, one in definitions.items() if name not in of_weights | of_ablations}
    without_heads = layers_without_heads(config)
    n_layers = config.num_hidden_layers
    found = _scores(model, texts, of_texts, n_layers, without_heads, paths, also) if of_texts else {}
    if of_ablations:
        found |= causal_scores(model, texts, {name: one.formula for name, one in of_ablations.items()})
    if paths and of_weights:
        found |= {name: _on_each_text(texts, values) for name, values in _weight_scores(paths, of_weights).items()}
    for name, values in found.items():
        require_finite(name, np.delete(values, without_heads, 1) if without_heads else values)
    return {name: found[name] for name in definitions}


def _paths(model: PreTrainedModel, definitions: Mapping[str, Definition]) -> Paths | None:
    """The weights on the heads' paths, if a score needs them.

    Raises:
        UsageError: a score needs the unembedding, and the model has none.
        UnsupportedModel: headway does not know the model's weights.
    """
    names = [name for name, one in definitions.items() if one.needs not in (Needs.PATTERN, Needs.ABLATION)]
    if not names:
        return None
    try:
        paths = Paths(model)
        if any(definition.needs.unembedding for definition in definitions.values()):
            paths.unembedding  # noqa: B018
        return paths
    except (UnsupportedModel, UsageError) as error:
        raise type(error)(
            f"{listed(names)} cannot be computed: {error}. Scores of attention alone do not need it"
        ) from error


@torch.inference_mode()
def _weight_scores(paths: Paths, definitions: Mapping[str, Definition]) -> dict[str, np.ndarray]:
    """Scores of weights alone: (layers, heads)."""
    needs = {definition.needs for definition in definitions.values()}
    layers = [
        {name: definition.formula(found[definition.needs]) for name, definition in definitions.items()}
        for found in eigenvalues(paths, needs)
    ]
    dtype = torch.promote_types(paths.embedding.dtype, torch.float32)
    return {name: torch.stack([layer[name] for layer in layers]).to(dtype).numpy() for name in definitions}


def _on_each_text(texts: Sequence[np.ndarray], values: np.ndarray) -> np.ndarray:
    return np.broadcast_to(values, (len(texts), *values.shape))


def _scores(
    model: PreTrainedModel,
    texts: Sequence[np.ndarray],
    definitions: Mapping[str, Definition],
    n_layers: int,
    without_heads: Sequence[int],
    paths: Paths | None,
    also: Callable[[Batch, Tensor], None] | None,
) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    last = max(layer for layer in range(n_layers) if layer not in without_heads)
    layers: dict[int, dict[str, Tensor]] = {}
    parts: list[Part] = []
    padding: list[Padding] = []

    of_effects = {name: definition for name, definition in definitions.items() if definition.needs.effects}
    of_patterns = {name: definition for name, definition in definitions.items() if name not in of_effects}
    needs = {definition.needs for definition in of_effects.values()}
    recorder = Recorder(paths, needs) if paths and needs else None

    def scored(
        definitions: Mapping[str, Definition], of: Callable[[Definition], Attention | Effects]
    ) -> dict[str, Tensor]:
        return {name: _of_batch(definition, of(definition), parts) for name, definition in definitions.items()}

    def read(layer: int, attention: Attention) -> None:
        if layer in layers or layer >= n_layers:
            raise UnsupportedModel(
                f"{type(model).__name__} calls layer {layer} more than once in a forward pass, so one head has several "
                "attention patterns. headway measures models that call each layer once"
            )
        if recorder:
            recorder.record(layer, attention)
        together = attention.padded(padding[0]) if padding else attention
        layers[layer] = scored(of_patterns, lambda definition: together if definition.padded else attention)
        # Only later batches stop here: in the first one, a looped model is found out.
        if layer == last and found and not recorder and not also:
            raise EnoughError

    with torch.inference_mode(), reading(model, read), recorder.recording(model) if recorder else nullcontext():
        for batch in read_together(model, texts, definitions.values(), logits=also is not None):
            layers.clear()
            parts[:], padding[:] = batch.parts, _padding(batch, model.device)
            if recorder:
                recorder.begin(batch.ids)
            ids = torch.from_numpy(batch.ids).to(model.device)
            if also:
                also(batch, model(input_ids=ids, use_cache=False).logits)
            else:
                with suppress(EnoughError):
                    model.base_model(input_ids=ids, use_cache=False)
            if recorder:
                for layer, of_layer in layers.items():
                    of_layer |= scored(of_effects, partial(_effects, recorder, layer, padding[0] if padding else None))
            for name, values in _stacked(model, layers, n_layers, without_heads).items():
                found.setdefault(name, np.empty((len(texts), *values.shape[1:]), values.dtype))[batch.numbers] = values
    return found


def _effects(recorder: Recorder, layer: int, padding: Padding | None, definition: Definition) -> Effects:
    return recorder.effects(layer, definition.needs, padding if definition.padded else None)


def _of_batch(definition: Definition, of: Attention | Effects, parts: Sequence[Part]) -> Tensor:
    """A score on a batch: at once, or for the texts of each length by themselves."""
    if definition.padded:
        return definition.formula(of)
    return torch.cat([definition.formula(of.of(*part)) for part in parts])


def _padding(batch: Batch, device: torch.device) -> list[Padding]:
    """Return the padding of a batch, or None if all texts have one length."""
    if len(batch.parts) == 1:
        return []
    lengths = [n_tokens for texts, n_tokens in batch.parts for _ in range(texts.start, texts.stop)]
    return [Padding(lengths, batch.ids.shape[1], device)]


def read_together(
    model: PreTrainedModel,
    texts: Sequence[np.ndarray],
    definitions: Iterable[Definition] = (),
    *,
    logits: bool = False,
) -> Iterator[Batch]:
    """Yield the batches in which `model` reads texts for these scores.

    Short texts may always be padded. On a GPU longer ones may be, too, if all scores allow it (`Definition.padded`).
    `logits` says whether next-token logits are computed, too.
    """
    longest = attention.short_on(model.device)
    if model.device.type == "cuda" and all(definition.padded for definition in definitions):
        longest = PADDED_ON_GPU
    return batches.read_together(model, texts, padded_up_to=longest, logits=logits)


def _stacked(
    model: PreTrainedModel, layers: dict[int, dict[str, Tensor]], n_layers: int, without_heads: Sequence[int]
) -> dict[str, np.ndarray]:
    """Stack each score of a batch over layers: (texts, layers, heads)."""
    missing = [str(layer) for layer in range(n_layers) if layer not in layers and layer not in without_heads]
    if missing:
        raise UnsupportedModel(
            f"{type(model).__name__} computes no attention in layers {', '.join(missing)} of {n_layers}: "
            "headway measures layers with attention heads, and its config does not say that these have none"
        )
    for layer in without_heads:
        some = next(iter(layers.values()))
        layers[layer] = {name: torch.full_like(values, torch.nan) for name, values in some.items()}
    if len({values.shape for found in layers.values() for values in found.values()}) > 1:
        raise UnsupportedModel(f"{type(model).__name__} has layers with different numbers of heads")
    return {
        name: torch.stack([layers[layer][name] for layer in range(n_layers)], 1).cpu().numpy() for name in layers[0]
    }


def _definitions(scores: Sequence[str]) -> dict[str, Definition]:
    if isinstance(scores, str) or not scores:
        raise UsageError(f"scores must be a list of names, not {scores!r}: known are {', '.join(DEFINITIONS)}")
    for name in scores:
        if name not in DEFINITIONS:
            raise unknown_score(name)
        if DECODER not in DEFINITIONS[name].stacks:
            raise UsageError(
                f"{name} is not defined for a causal language model, which attends to earlier tokens alone"
            )
    return {name: DEFINITIONS[name] for name in scores}


def checked_texts(sequences: Sequence[np.ndarray | Sequence[int]], config: object) -> list[np.ndarray]:
    """Return the texts as int64 arrays, after checking that the model can read each of them."""
    vocab_size = getattr(config, "vocab_size", None)
    context = getattr(config, "max_position_embeddings", None)
    texts = [np.asarray(sequence) for sequence in sequences]
    if not texts:
        raise CorpusError("there is no text to measure: at least one of two tokens or more is needed")
    for number, text in enumerate(texts):
        if text.ndim != 1 or not np.issubdtype(text.dtype, np.integer):
            raise CorpusError(f"text {number} is not a list of token ids: it has shape {text.shape} of {text.dtype}")
        if len(text) < 2:
            raise CorpusError(f"text {number} has {count(len(text), 'token')}; scores need 2: leave such texts out")
        if context is not None and len(text) > context:
            raise CorpusError(f"text {number} has {len(text)} tokens; the model reads {context}: split it in windows")
    if vocab_size is not None:
        _require_known(texts, vocab_size)
    return [text.astype(np.int64, copy=False) for text in texts]


def _require_known(texts: Sequence[np.ndarray], vocab_size: int) -> None:
    # All tokens at once: a call for each text takes a hundredth of a small model's forward pass.
    tokens = np.concatenate(texts)
    if tokens.min() >= 0 and tokens.max() < vocab_size:
        return
    number, text = next(
        (number, text) for number, text in enumerate(texts) if text.min() < 0 or text.max() >= vocab_size
    )
    raise CorpusError(
        f"text {number} has token ids from {text.min()} to {text.max()}; the model knows 0 to "
        f"{vocab_size - 1}: was another model's tokenizer used?"
    )


def _require_repeated(texts: Sequence[np.ndarray], names: Sequence[str]) -> None:
    for number, text in enumerate(texts):
        first, second = np.split(text, [len(text) // 2])
        if not np.array_equal(first, second):
            raise UsageError(
                f"{' and '.join(names)} are scores of tokens repeated once, and text {number} is not such a text: "
                "`headway.corpora.repeated_random` makes them"
            )


def _require_next_token(texts: Sequence[np.ndarray], names: Sequence[str]) -> None:
    """Check that the second copy of each text has a token whose next one can be known."""
    shortest = min(range(len(texts)), key=lambda number: len(texts[number]))
    if names and (length := len(texts[shortest]) // 2) < 2:
        raise UsageError(
            f"{' and '.join(names)} needs 2 tokens or more that are repeated, and text {shortest} has {length}"
        )


def require_finite(name: str, values: np.ndarray) -> None:
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        text, layer, head = wrong[0]
        raise CheckpointError(
            f"{name} of layer {layer}, head {head} is {values[text, layer, head]} on text {text} ({len(wrong)} of "
            f"{values.size} scores are not finite): the run diverged here, the weights are damaged, or their numbers "
            "are too large for this dtype (float32 is the widest that is quick)"
        )
