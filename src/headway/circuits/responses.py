"""What heads do with the same tokens, in a form that compares heads of different runs: their attention and their outputs.

**Attention.** The entries A[i, j] - 1/(i + 1), j <= i, of all texts, as one vector of norm 1. The product of two heads' vectors is
the cosine of how their attention differs from an even one.

**Outputs.** Runs of different seeds write in different bases, so outputs are compared by the similarities of tokens among each
other: K = Z W_O W_O' Z' of n tokens, whose outputs before the projection are Z. The U-centred K without its diagonal, as a vector of
norm 1, makes the product of two heads' vectors their centred kernel alignment, with linear kernels and the unbiased estimate of HSIC
(Kornblith et al. 2019, "Similarity of Neural Network Representations Revisited"; Song et al. 2012, "Feature Selection via Dependence
Maximization", theorem 5). It is 0 on average for unrelated heads, however many dimensions they have.

Shapes: L layers, N query heads, D head_dim, M hidden_size, n tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from headway.attention.patterns import patterns_of
from headway.errors import CheckpointError
from headway.models.anatomy import recording
from headway.models.paths import Paths

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOKENS = 96  # whose outputs are compared, evenly spaced over all texts
Floats = NDArray[np.float64]
Unit = NDArray[np.float32]


def attention_vectors(model: PreTrainedModel, texts: Sequence[NDArray[np.integer]]) -> dict[tuple[int, int], Unit]:
    """How each head's attention differs from an even one on all texts: vectors of norm 1, by (layer, head).

    Raises:
        UnsupportedModel: the model's attention cannot be read.
        CheckpointError: an entry is not finite.
    """
    config = model.config.get_text_config()
    heads = [(layer, head) for layer in range(config.num_hidden_layers) for head in range(config.num_attention_heads)]
    parts: dict[tuple[int, int], list[Floats]] = {head: [] for head in heads}
    for text in texts:
        rows, columns = np.tril_indices(len(text))
        for head, matrix in patterns_of(model, text, heads).items():
            parts[head].append(matrix[rows, columns] - 1 / (rows + 1))
    return {head: unit(np.concatenate(own)) for head, own in parts.items()}


@torch.inference_mode()
def output_vectors(
    paths: Paths, model: PreTrainedModel, texts: Sequence[NDArray[np.integer]]
) -> dict[tuple[int, int], Unit]:
    """Each head's U-centred similarities of tokens' outputs: vectors of norm 1, by (layer, head).

    Raises:
        UnsupportedModel: the output projection is unknown.
        CheckpointError: an output is not finite.
    """
    n_layers = paths.geometry.n_layers
    chosen = evenly(sum(map(len, texts)), TOKENS)
    outputs: dict[int, list[torch.Tensor]] = {layer: [] for layer in range(n_layers)}
    with recording(model, outputs) as recorded:
        for text in texts:
            ids = torch.as_tensor(np.asarray(text, dtype=np.int64))[None].to(model.device)
            model.base_model(input_ids=ids, use_cache=False)
            for layer, own in outputs.items():
                own.append(recorded[layer][0].double())  # (T, N, D)
    found = {}
    for layer, own in outputs.items():
        z = torch.cat(own)[chosen].transpose(0, 1)  # (N, n, D)
        rows = paths.writes(layer).double()
        kernels = (z @ (rows @ rows.mT) @ z.mT).cpu().numpy()
        for head, kernel in enumerate(kernels):
            if not np.isfinite(kernel).all():
                raise CheckpointError(
                    f"the outputs of layer {layer}, head {head} are not finite: the run diverged here"
                )
            found[layer, head] = unit(centred_pairs(kernel))
    return found


def evenly(n: int, most: int) -> NDArray[np.int64]:
    """At most `most` of the numbers below `n`, evenly spaced."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(np.int64))


def centred_pairs(kernel: Floats) -> Floats:
    """The pairs (n (n - 1) / 2,) above the diagonal of a U-centred kernel (n, n).

    Twice the product of two of these vectors, over n (n - 3), is the unbiased estimate of HSIC.
    """
    n = len(kernel)
    k = kernel - np.diag(np.diag(kernel))
    means = k.sum(0) / (n - 2)
    centred: Floats = k - means[:, None] - means + k.sum() / ((n - 1) * (n - 2))
    return centred[np.triu_indices(n, 1)]


def unit(vector: Floats) -> Unit:
    """The vector over its norm, or zeros if it has none."""
    norm = np.linalg.norm(vector)
    return (vector / norm if norm > 0 else vector).astype(np.float32)
