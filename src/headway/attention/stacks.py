"""Read the attention of models with an encoder: BERT, and encoder-decoders such as T5 and BART.

Every module that computes attention hands out its matrix, from the model's own eager attention, and a hook takes it away
at once: no more than one layer's matrices are held. That is slower than `headway.attention.reading`.

Which stack a module belongs to follows from its place: in the encoder, in the decoder, or in the decoder under a name that
says that it attends to the encoder. Layers are counted in the order of their calls.

Texts of a batch have one length, because rows of an encoder would see padding. The encoder of an encoder-decoder reads the
text. Its decoder reads the same text, shifted by one: the start token, then the text without its last token, as in training
(teacher forcing). Row i of the decoder predicts token i, so `cross` attention A[i, i] goes to the token that is predicted.

The encoder of Whisper reads audio: silence, once for all texts. Its decoder reads the text as above, and is measured alone.

Shapes: B texts, N heads, T tokens that attend, S tokens that are attended to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from headway.attention.handed_out import MatrixAttention, say_slower
from headway.attention.kernels import widened
from headway.attention.reading import EnoughError, running_as
from headway.attention.scores import Definition
from headway.attention.silence import projected_once, silence_heard
from headway.errors import UnsupportedModel
from headway.known_scores import CROSS, DECODER, ENCODER
from headway.models import batches
from headway.models.stacks import (
    attends_to_encoder,
    half_of,
    layers_and_heads,
    measured_stacks,
    reads_audio,
    stacks_of,
    start_of_decoder,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Rows of softmax sum to 1 within a few roundings of float16.
_ROUNDING = 0.01

Reader = Callable[[str, int, MatrixAttention], None]


class WholeAttention(MatrixAttention):
    """A matrix (B, N, T, S) whose rows may attend to every token, also to later ones."""

    @property
    def choices(self) -> Tensor:
        rows, tokens = self.matrix.shape[-2:]
        return torch.full((rows,), tokens)

    @property
    def n_attended(self) -> int:
        return self.matrix.shape[-1]

    def to(self, position: int) -> Tensor:
        return self.matrix[..., position]

    @property
    def distance(self) -> Tensor:
        rows, tokens = (torch.arange(n, device=self.matrix.device) for n in self.matrix.shape[-2:])
        return (self.matrix * (rows[:, None] - tokens).abs()).sum(-1)


def stack_scores(
    model: PreTrainedModel, texts: Sequence[np.ndarray], definitions: Mapping[str, Definition]
) -> dict[str, dict[str, np.ndarray]]:
    """Score every head of every measured stack on every text. The model is left unchanged.

    Args:
        model: with an encoder. Its base model is enough.
        texts: token ids of each text, with the special tokens that the model expects.
        definitions: by name. A score is left out in stacks that it is not defined for.

    Returns:
        For each stack, and each score that it has, (texts, layers, heads).

    Raises:
        UnsupportedModel: the model hands out no attention, or not of every layer.
    """
    sizes = {stack: layers_and_heads(model.config, stack) for stack in measured_stacks(model.config)}
    n_layers = {stack: count for stack, (count, _) in sizes.items()}
    found: dict[str, dict[str, np.ndarray]] = {}
    layers: dict[tuple[str, int], dict[str, Tensor]] = {}

    def read(stack: str, layer: int, attention: MatrixAttention) -> None:
        if attention.matrix.shape[1] != sizes[stack][1]:
            raise _refusal(
                model, f"{attention.matrix.shape[1]} heads in the {stack}, where its config has {sizes[stack][1]}"
            )
        own = {name: one for name, one in definitions.items() if stack in one.stacks}
        layers[stack, layer] = {name: one.formula(attention) for name, one in own.items()}
        if found and len(layers) == sum(n_layers.values()):
            raise EnoughError

    audio = reads_audio(model.config)
    with torch.inference_mode(), handing_out(model, read), projected_once(model) if audio else nullcontext():
        heard = silence_heard(model) if audio else None
        for batch in batches.read_together(model, texts, padded_up_to=0):
            layers.clear()
            with suppress(EnoughError):
                run(model, torch.from_numpy(batch.ids).to(model.device), heard)
            _require_all(model, layers, n_layers)
            for stack, count in n_layers.items():
                for name in layers[stack, 0]:
                    values = torch.stack([layers[stack, layer][name] for layer in range(count)], 1).cpu().numpy()
                    of_stack = found.setdefault(stack, {})
                    of_stack.setdefault(name, np.empty((len(texts), *values.shape[1:]), values.dtype))[
                        batch.numbers
                    ] = values
    return found


def run(model: PreTrainedModel, ids: Tensor, heard: Tensor | None = None) -> None:
    """Run the model on texts (B, T) of one length, as this module's docstring says.

    Args:
        heard: what `silence_heard` returned, of a model with an encoder of audio.
    """
    if DECODER not in stacks_of(model.config):
        model(input_ids=ids)
    elif heard is None:
        model(input_ids=ids, decoder_input_ids=decoder_ids(model, ids), use_cache=False)
    else:
        read = BaseModelOutput(last_hidden_state=heard.expand(len(ids), -1, -1))
        model(encoder_outputs=read, decoder_input_ids=decoder_ids(model, ids), use_cache=False)


def decoder_ids(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """What the decoder reads of texts (B, T): the start token, then the text without its last token.

    Whisper's tokenizer puts the start token before a text. It is read once.
    """
    start = start_of_decoder(model.config)
    if reads_audio(model.config) and bool((ids[:, 0] == start).all()):
        return ids[:, :-1]
    return torch.cat([ids.new_full((len(ids), 1), start), ids[:, :-1]], 1)


def _require_all(model: PreTrainedModel, layers: Mapping[tuple[str, int], Any], n_layers: Mapping[str, int]) -> None:
    expected = {(stack, layer) for stack, count in n_layers.items() for layer in range(count)}
    if layers.keys() != expected:
        there = {stack: sum(one == stack for one, _ in layers) for stack in n_layers}
        told = ", ".join(f"{there[stack]} of {count} layers of the {stack}" for stack, count in n_layers.items())
        raise _refusal(model, f"a matrix of all pairs of tokens in {told}")


def _refusal(model: PreTrainedModel, what: str) -> UnsupportedModel:
    return UnsupportedModel(
        f"{type(model).__name__} hands out {what}: its scores would be wrong, so it is not measured"
    )


@contextmanager
def handing_out(model: PreTrainedModel, reader: Reader) -> Iterator[None]:
    """While the block runs, pass each matrix that `model` computes to `reader`, with its stack and layer.

    Raises:
        UnsupportedModel: no module computes attention.
    """
    places = _places(model)
    if not places:
        raise _refusal(model, "no attention: none of its modules is called so")
    say_slower(type(model).__name__, "has an encoder")
    measured = measured_stacks(model.config)
    called: dict[str, int] = {}
    n_tokens = [0]

    def without(output: Any, place: int, nothing: Tensor | None = None) -> Any:
        return type(output)([*output[:place], nothing, *output[place + 1 :]])

    def start(module: nn.Module, args: Any, kwargs: Any) -> None:
        called.clear()
        n_tokens[0] = kwargs["input_ids" if "input_ids" in kwargs else "decoder_input_ids"].shape[1]

    def taking(stack: str) -> Callable[[nn.Module, Any, Any], Any]:
        def take(module: nn.Module, args: Any, output: Any) -> Any:
            band = _place_of_band(output, module)
            place = _place_of_matrix(output, n_tokens[0] if stack in measured else None) if band is None else band
            if place is None:
                return output
            if stack not in measured:
                return without(output, place)
            matrix = widened(output[place]) if band is None else matrix_of_band(widened(output[place]), n_tokens[0])
            if matrix.min() < 0 or matrix.sum(-1).max() > 1 + _ROUNDING:
                raise _refusal(model, f"numbers in the {stack} that are no attention: below 0, or with sums above 1")
            causal = stack == DECODER
            if causal and matrix.triu(1).any():
                raise _refusal(model, "attention of its decoder to later tokens")
            reader(stack, called.get(stack, 0), MatrixAttention(matrix) if causal else WholeAttention(matrix))
            called[stack] = called.get(stack, 0) + 1
            # Longformer's code looks at the shape of what is handed out.
            return without(output, place, None if band is None else matrix.new_empty((0, 0, 0, 0)))

        return take

    handles = [model.register_forward_pre_hook(start, with_kwargs=True)]
    handles += [module.register_forward_hook(taking(stack), prepend=True) for module, stack in places]
    try:
        with running_as(model, "eager", output_attentions=True):
            yield
    finally:
        for handle in handles:
            handle.remove()


def _places(model: PreTrainedModel) -> list[tuple[nn.Module, str]]:
    """The modules that compute attention, with their stacks: those called attention that hold no other such module."""

    def is_attention(module: nn.Module) -> bool:
        return "attention" in type(module).__name__.lower()

    stacks = stacks_of(model.config)
    encoder = set(half_of(model, ENCODER)[1].modules()) if DECODER in stacks else set()
    found = []
    for name, module in model.named_modules():
        inner = (one for one in module.modules() if one is not module)
        if not is_attention(module) or any(map(is_attention, inner)):
            continue
        stack = stacks[0]
        if module in encoder:
            stack = ENCODER
        elif DECODER in stacks and attends_to_encoder(f"{name} {type(module).__name__}"):
            stack = CROSS
        found.append((module, stack))
    return found


def _place_of_matrix(output: Any, n_tokens: int | None) -> int | None:
    """The place of the attention matrix (B, N, T, T) in a module's output: the last, because T5 has its biases before it.

    Args:
        n_tokens: T; None for a matrix of any size.
    """
    if not isinstance(output, tuple | list):
        return None
    matrices = [
        at
        for at, part in enumerate(output)
        if at
        and isinstance(part, Tensor)
        and part.dim() == 4
        and (not n_tokens or part.shape[-2:] == (n_tokens, n_tokens))
    ]
    return matrices[-1] if matrices else None


def _place_of_band(output: Any, module: nn.Module) -> int | None:
    """The place of attention in a window (B, T', N, W + 1) in the output of Longformer's and LED's modules."""
    reach = getattr(module, "one_sided_attn_window_size", None)
    if reach is None or not isinstance(output, tuple | list) or len(output) < 2:
        return None
    return 1 if output[1].shape[-1] == 2 * reach + 1 else None  # wider if some tokens attend to all


def matrix_of_band(band: Tensor, n_tokens: int) -> Tensor:
    """The matrix (B, N, T, T) of attention in a window (B, T', N, W + 1).

    Entry w of row i goes to token i + w - W/2. Rows are padded to T', a number of whole windows. No attention goes to padding.
    """
    texts, _, heads, width = band.shape
    rows, reach = band[:, :n_tokens].transpose(1, 2), width // 2
    wide = rows.new_zeros(texts, heads, n_tokens, n_tokens + 2 * reach)
    places = torch.arange(n_tokens, device=band.device)[:, None] + torch.arange(width, device=band.device)
    wide.scatter_(3, places.expand(texts, heads, -1, -1), rows)
    return wide[..., reach : reach + n_tokens]
