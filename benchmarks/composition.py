"""Composition of all pairs of heads: how long it takes, and how often random heads are called an edge.

Untrained models have random heads, so that every edge in them is a false one. Their singular values fall as those of trained
heads do by `decay`: with the last of 64 at 1 / 500 of the first, a head has an effective rank of about 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

import table
from headway.circuits.composition import compositions
from headway.models.paths import Paths
from headway.stats.corrections import holm

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SIZES = {"160m": (12, 12, 768, 5), "410m": (24, 16, 1024, 30)}  # layers, heads, hidden size, seconds that it may take
DECAYS = (0.0, 0.1)
LEVELS = (0.05, 0.01, 0.001)


def random_model(layers: int, heads: int, hidden: int, seed: int, decay: float = 0.0) -> PreTrainedModel:
    """An untrained GPT-NeoX without MLPs to speak of."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(seed)
    config = GPTNeoXConfig(
        vocab_size=7, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=8,
        max_position_embeddings=8,
    )  # fmt: skip
    model = GPTNeoXForCausalLM(config).eval()
    size = hidden // heads
    scale = torch.exp(-decay * torch.arange(float(size)))
    with torch.no_grad():
        for layer in model.gpt_neox.layers:
            layer.attention.query_key_value.weight.mul_(scale.repeat(3 * heads)[:, None])
            layer.attention.dense.weight.mul_(scale.repeat(heads))
    return model


def rows(quick: bool) -> Iterator[table.Row]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for name, (layers, heads, hidden, aim) in SIZES.items():
            yield timed(name, layers // 6 if quick else layers, heads, hidden, aim)
        for decay in DECAYS:
            yield from false_edges(decay, 1 if quick else 40)
    finally:
        torch.set_num_threads(before)


def timed(name: str, layers: int, heads: int, hidden: int, aim: int) -> table.Row:
    model = random_model(layers, heads, hidden, 0)
    compositions(Paths(random_model(2, 2, 64, 0)))  # libraries start
    found = []
    took = table.seconds(lambda: found.append(compositions(Paths(model))))
    return table.Row(
        f"composition of a {name}-shaped checkpoint with its null, two cores ({layers} layers of {heads} heads)",
        f"{took:.1f} s",
        aim=f"{aim} s",
        note=f"{len(found[0].p):,} pairs and kinds",
    )


def false_edges(decay: float, n_models: int) -> Iterator[table.Row]:
    """The share of random pairs that p calls an edge, and of models with an edge after Holm's correction."""
    p = [compositions(Paths(random_model(4, 8, 256, seed, decay))).p for seed in range(n_models)]
    pooled = np.concatenate(p)
    what = f"false edges of {n_models} untrained models, singular values falling by {decay:g}"
    for level in LEVELS:
        yield table.Row(
            f"{what}: p ≤ {level:g}", f"{(pooled <= level).mean():.3g}", aim=f"{level:g}", note=f"{len(pooled):,} pairs"
        )
    models = sum(holm(one).min() <= 0.05 for one in p)
    yield table.Row(f"{what}: models with an edge after Holm", f"{models} of {n_models}", aim="5%")


if __name__ == "__main__":
    table.main(rows, __doc__)
