"""Circuits written by hand into the weights of models of transformers, and suites in which they arise at chosen steps.

The model has two layers and no MLPs. Its residual stream has three copies of the vocabulary, `token`, `before` and `out`,
and one constant direction, all orthonormal and in a random basis. A token is embedded as itself and the constant; the
unembedding reads `out`. Norms are neutral: their epsilon is so large that they divide by a constant, which gains undo.

* `previous` (layer 0) attends one token back by its rotary dimensions, and writes that token to `before`.
* `induction` (layer 1) attends to tokens that stand after its own token, because keys read `before`; it writes them to
  `out`. This is K-composition with `previous` (Elhage et al. 2021).
* `decoy` has the pattern of `induction` and writes nothing.
* `copying` attends evenly and writes to `out`.
* `suppressing` attends to tokens that are equal to its own, and writes them to `out` with the opposite sign.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

WORDS = [f"w{number}" for number in range(23)]
N, HEADS, HIDDEN = len(WORDS), 4, 128
CERTAIN = 30.0  # logits of attention between where a head attends and elsewhere: e^-30 is below float32's rounding
LOGIT = 10.0  # that a head adds to the logit of a token which it attends to fully, and copies
PLACES = {"previous": (0, 1), "induction": (1, 0), "decoy": (1, 1), "copying": (1, 2), "suppressing": (1, 3)}
EVERY = tuple(PLACES)
_NEUTRAL = 1e4  # norms divide by it: the root of their epsilon


class Rows(NamedTuple):
    """The rows of one head: (D, HIDDEN) each."""

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    o: np.ndarray


class Shape(NamedTuple):
    """Where a head of an architecture has dimensions that turn, with their frequencies, and ones that keep still."""

    head_dim: int
    turning: list[tuple[int, int, float]]
    still: list[int]


# A quarter of the dimensions turns: pairs (d, d + 4).
NEOX = Shape(32, [(d, d + 4, 16 ** (-d / 4)) for d in range(4)], list(range(8, 32)))
# All turn, in pairs (d, d + 32), but the last ones by less than 1e-5 of a turn in a text.
LLAMA = Shape(64, [(d, d + 32, 1e12 ** (-d / 32)) for d in range(4)], [*range(16, 32), *range(48, 64)])


def basis(seed: int) -> dict[str, np.ndarray]:
    """Orthonormal rows of the residual stream, all with mean 0, so that a layer norm changes none of them."""
    random = np.random.default_rng([seed, 1])
    drawn = random.normal(size=(3 * N + 1, HIDDEN))
    rows = np.linalg.qr((drawn - drawn.mean(1, keepdims=True)).T)[0].T
    return {"token": rows[:N], "before": rows[N : 2 * N], "out": rows[2 * N : 3 * N], "constant": rows[3 * N :]}


def _matching(shape: Shape, query: np.ndarray, key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Queries and keys (D, HIDDEN) of a head that attends where the key's token is the query's."""
    q, k = np.zeros((2, shape.head_dim, HIDDEN))
    strength = np.sqrt(CERTAIN) * shape.head_dim**0.25  # attention divides by the root of head_dim
    q[shape.still[:N]], k[shape.still[:N]] = strength * query, strength * key
    return q, k


def _one_back(shape: Shape, constant: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Queries and keys of a head that attends one token back: products are largest where angles agree there."""
    q, k = np.zeros((2, shape.head_dim, HIDDEN))
    nearest = sum(1 - np.cos(angle) for *_, angle in shape.turning)  # what the next best distance loses
    strength = np.sqrt(CERTAIN / nearest) * shape.head_dim**0.25
    for one, other, angle in shape.turning:
        q[one] = strength * constant[0]
        k[one], k[other] = strength * np.cos(angle) * constant[0], strength * np.sin(angle) * constant[0]
    return q, k


def circuit(name: str, shape: Shape, of: Mapping[str, np.ndarray]) -> Rows:
    """The rows of one of the planted heads."""
    v, o = np.zeros((2, shape.head_dim, HIDDEN))
    v[:N] = of["token"]
    o[:N] = {"previous": of["before"], "suppressing": -of["out"], "decoy": 0 * of["out"]}.get(name, of["out"])
    if name == "previous":
        return Rows(*_one_back(shape, of["constant"]), v, o)
    q, k = _matching(shape, of["token"], of["before"] if name in ("induction", "decoy") else of["token"])
    return Rows(0 * q, 0 * k, v, o) if name == "copying" else Rows(q, k, v, o)


def planted(
    architecture: str, circuits: Collection[str] = EVERY, *, seed: int = 0, noise: float = 0.0, step: int = 0
) -> PreTrainedModel:
    """A model of `gpt_neox` or `llama` with some of the circuits.

    Args:
        seed: of the basis and the noise.
        noise: standard deviation of the weights of a model without circuits, which is added to them.
        step: a tenth of the noise is drawn anew for each step.
    """
    of, shape = basis(seed), NEOX if architecture == "gpt_neox" else LLAMA
    model = _neox() if architecture == "gpt_neox" else _llama()
    fixed, drifting = np.random.default_rng([seed, 2]), np.random.default_rng([seed, 3, step])

    def noisy(rows: np.ndarray) -> np.ndarray:
        return rows + noise * (fixed.normal(size=rows.shape) + 0.1 * drifting.normal(size=rows.shape))

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(_NEUTRAL if "norm" in name and name.endswith("weight") else 0.0)
        _fill(model.get_input_embeddings().weight, noisy(of["token"] + of["constant"]))
        _fill(model.get_output_embeddings().weight, noisy(LOGIT * of["out"]))
        for layer in range(2):
            heads = [Rows(*np.zeros((4, shape.head_dim, HIDDEN))) for _ in range(HEADS)]
            for name in circuits:
                if PLACES[name][0] == layer:
                    heads[PLACES[name][1]] = circuit(name, shape, of)
            kinds = {kind: np.stack([getattr(head, kind) for head in heads]) for kind in Rows._fields}
            _write(model, layer, {kind: noisy(rows) for kind, rows in kinds.items()})
    return model.eval()


def _fill(weight: torch.Tensor, values: np.ndarray) -> None:
    assert weight.shape == values.shape
    weight.copy_(torch.from_numpy(values))


def _neox() -> PreTrainedModel:
    config = GPTNeoXConfig(
        vocab_size=N, hidden_size=HIDDEN, num_hidden_layers=2, num_attention_heads=HEADS, intermediate_size=8,
        max_position_embeddings=64, layer_norm_eps=_NEUTRAL**2, rotary_pct=0.25, rotary_emb_base=16,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return GPTNeoXForCausalLM(config)


def _llama() -> PreTrainedModel:
    """Two heads share each key and value: in layer 1 those with equal ones are together."""
    config = LlamaConfig(
        vocab_size=N, hidden_size=HIDDEN, num_hidden_layers=2, num_attention_heads=HEADS, num_key_value_heads=2,
        head_dim=LLAMA.head_dim, intermediate_size=8, max_position_embeddings=64, rms_norm_eps=_NEUTRAL**2,
        rope_parameters={"rope_type": "default", "rope_theta": 1e12}, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def _write(model: PreTrainedModel, layer: int, kinds: Mapping[str, np.ndarray]) -> None:
    """Write the rows (heads, D, HIDDEN) of each kind into a layer, in the architecture's own order."""
    o = kinds["o"].reshape(-1, HIDDEN).T
    if model.config.model_type == "gpt_neox":
        own = model.gpt_neox.layers[layer].attention
        _fill(own.query_key_value.weight, np.stack([kinds[kind] for kind in "qkv"], 1).reshape(-1, HIDDEN))
        _fill(own.dense.weight, o)
        return
    attention = model.model.layers[layer].self_attn
    _fill(attention.q_proj.weight, kinds["q"].reshape(-1, HIDDEN))
    _fill(attention.o_proj.weight, o)
    for kind in "kv":
        # Of two heads that share, one may be without a circuit: the larger rows are those of the circuit.
        pairs = kinds[kind].reshape(2, 2, -1, HIDDEN)
        largest = np.abs(pairs).sum((2, 3)).argmax(1)
        _fill(getattr(attention, f"{kind}_proj").weight, pairs[np.arange(2), largest].reshape(-1, HIDDEN))


def planted_suite(
    folder: Path, runs: Mapping[str, Mapping[str, int]], steps: Collection[int], architecture: str = "gpt_neox"
) -> Path:
    """A folder suite whose runs have each circuit from a step on, with the corpus `texts.txt` beside it.

    Args:
        runs: by the run's name, the first step of each of its circuits.
    """
    for seed, (run, starts) in enumerate(runs.items()):
        for step in steps:
            circuits = [name for name, start in starts.items() if step >= start]
            model = planted(architecture, circuits, seed=seed, noise=0.02, step=step)
            model.save_pretrained(folder / "suite" / run / f"step{step}")
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "suite" / "tokenizer.json"))
    random = np.random.default_rng(0)
    (folder / "texts.txt").write_text("\n".join(" ".join(random.choice(WORDS, 20)) for _ in range(8)))
    return folder
