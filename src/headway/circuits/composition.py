"""Composition between heads, from folded weights, beside random heads of the same spectra.

A head a of an earlier layer writes what a later head b reads. With W_OV = W_O W_V of a and the circuits W_QK = W_Q' W_K and
W_OV of b, composition is (Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits")

    Q: ‖W_QK' W_OV‖ / (‖W_QK‖ ‖W_OV‖)    K: ‖W_QK W_OV‖ / (‖W_QK‖ ‖W_OV‖)    V: ‖W_OV(b) W_OV(a)‖ / (‖W_OV(b)‖ ‖W_OV(a)‖)

with Frobenius norms. These M × M matrices have rank D, and are never made. The norm of A'B is that of (A A')^½ B, so that
each side becomes D rows of the residual stream: R (reading) and W (writing). Composition is ‖R W'‖ / (‖R‖ ‖W‖), and all
pairs of two layers are one product of (N D, M) with (M, N D).

Gains and centring of norms are folded into the weights. Scales, biases and positions are left out: rotary positions are
those of a token that attends to itself. A mean that all readers subtract is taken out of what heads write, too.

**Null.** Random heads of the same spectra: R and W keep their singular values, and their directions are uniform in the d
dimensions that are read. The square of composition is then tr(A H B H') with a random orthogonal H, and A = R'R and B = W'W of
trace 1. Zonal polynomials give its moments (James 1964, Annals of Mathematical Statistics 35, 475-501; Muirhead 1982,
"Aspects of Multivariate Statistical Theory", theorem 7.2.5): E C_κ(A H B H') = C_κ(A) C_κ(B) / C_κ(I). With A₀ = A - I/d
and p_k = tr A₀^k

    mean      1 / d
    variance  2 p₂(A) p₂(B) / ((d - 1) (d + 2))
    third     p₃(A) p₃(B) / d · (64/15 / ((d + 2)(d + 4)) + 12/5 / ((d + 2)(d - 1)) + 4/3 / ((d - 1)(d - 2)))

exactly. p is the upper tail of the shifted gamma distribution with these three moments (Pearson's type III). Far out its tail is
too light if a few singular values dominate. For p below 0.001 it is that of the sum of chi-squares a_i b_j χ², to which the
null tends for large d, at the same number of standard deviations (saddlepoint approximation: Kuonen 1999, Biometrika 86, 929-935).

Shapes: L layers, N query heads, D head_dim, M hidden_size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from headway.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

    from headway.models.paths import Paths

Floats = NDArray[np.float64]
KINDS = ("q", "k", "v")
_PRODUCTS = 2**22  # held at a time: 16 MiB in float32
_FAR, _BEYOND = 1e-3, 1e-15  # the tail between is computed by a saddlepoint; below it, no decision depends on p
_LEAST_SKEWNESS = (
    1e-3  # below it a gamma distribution is a normal one, and its shape too large for the incomplete gamma function
)


class Side(NamedTuple):
    """One side of all heads of a layer.

    Attributes:
        rows: (N, D, M), of norm 1 for each head; zero for a head without weights.
        second, third: p₂ and p₃ of each head: (N,).
        spectrum: eigenvalues of each head's A, the largest first, as means of groups: (N, groups).
    """

    rows: Tensor
    second: Floats
    third: Floats
    spectrum: Floats


@dataclass(frozen=True)
class Compositions:
    """Composition of every pair of heads whose layers are in order, one number a pair, in the order of the places.

    Attributes:
        kind: q, k or v.
        from_layer, from_head, layer, head: the writing head and the reading one.
        composition: 0 to 1; NaN if one of the heads has no weights.
        chance: the root of the mean square of random heads.
        z: how far the square lies above that of random heads, in standard deviations.
        p: share of random heads with at least this composition.
    """

    kind: NDArray[np.str_]
    from_layer: NDArray[np.int64]
    from_head: NDArray[np.int64]
    layer: NDArray[np.int64]
    head: NDArray[np.int64]
    composition: Floats
    chance: Floats
    z: Floats
    p: Floats


@torch.inference_mode()
def compositions(paths: Paths) -> Compositions:
    """Return Q-, K- and V-composition of all pairs of heads.

    Attention of a layer does not see what heads of the same layer write, so the writing head is of a strictly earlier one. Where
    query heads share a key or value, each pair has the one that its query head uses.

    Raises:
        UnsupportedModel: headway does not know the model's weights, or they do not say what heads read.
        CheckpointError: a weight is not finite.
    """
    written: list[Side] = []
    parts: list[dict[str, NDArray[np.generic]]] = []
    for layer in range(paths.geometry.n_layers):
        centred = paths.centred(layer)
        dimensions = paths.geometry.hidden_size - centred
        weights = {kind: paths.reads(kind, layer).float() for kind in KINDS}
        weights["o"] = paths.writes(layer).float()
        _require_finite(layer, weights)
        if written:
            for kind in KINDS:
                reading = side(weights[kind], weights[_OTHER[kind]], dimensions)
                parts.append(_of_layer(kind, layer, reading, written, dimensions))
        rows = weights["o"] - weights["o"].mean(-1, keepdim=True) if centred else weights["o"]
        written.append(side(rows, weights["v"], dimensions))
    if not parts:  # one layer alone
        return Compositions(*(np.empty(0, dtype) for dtype in (np.str_, *[np.int64] * 4, *[np.float64] * 4)))
    return Compositions(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def _require_finite(layer: int, weights: dict[str, Tensor]) -> None:
    for kind, rows in weights.items():
        if not rows.isfinite().all():
            raise CheckpointError(
                f"weights {kind} of layer {layer} are not finite: the run diverged, or they are damaged"
            )


_OTHER = {"q": "k", "k": "q", "v": "o"}  # what the reading rows of a circuit are multiplied with


def side(rows: Tensor, others: Tensor, dimensions: int) -> Side:
    """One side of the circuits others' rows: the rows, weighted by the other side, for heads (N, D, M).

    ‖others' X‖ = ‖(others others')^½ X‖, whatever X is.

    Args:
        dimensions: d, in which directions are random under the null.
    """
    grams = (others @ others.mT).double()
    values, vectors = torch.linalg.eigh(grams)
    roots = (vectors * values.clamp_min(0).sqrt()[:, None]) @ vectors.mT
    weighted = roots.float() @ rows
    norms = weighted.double().flatten(1).norm(dim=1)
    weighted = weighted / torch.where(norms > 0, norms, 1).float()[:, None, None]
    return Side(weighted, *_moments(weighted, dimensions))


def _moments(rows: Tensor, dimensions: int) -> tuple[Floats, Floats, Floats]:
    """tr A₀² and tr A₀³ of A = rows' rows with trace 1, and A's eigenvalues in groups."""
    values = torch.linalg.eigvalsh((rows @ rows.mT).double()).clamp_min(0).flip(-1).cpu().numpy()
    second, third = (values**2).sum(-1), (values**3).sum(-1)
    d = float(dimensions)
    sizes = group_sizes(values.shape[-1])
    grouped = np.add.reduceat(values, np.cumsum([0, *sizes[:-1]]), axis=-1) / sizes
    return second - 1 / d, third - 3 * second / d + 2 / d**2, grouped


def group_sizes(n: int) -> list[int]:
    """How many eigenvalues of `n` are averaged, from the largest on: single ones first, then more and more."""
    sizes: list[int] = []
    while sum(sizes) < n:
        sizes.append(min(2 ** max(0, len(sizes) // 2 - 1), n - sum(sizes)))
    return sizes


def _of_layer(
    kind: str, layer: int, reading: Side, written: list[Side], dimensions: int
) -> dict[str, NDArray[np.generic]]:
    """All pairs of the heads of one reading layer with those of the layers before it."""
    squares = _squares(
        reading.rows, torch.cat([one.rows for one in written])
    )  # (pairs of layers · N, N), writing first
    second = np.concatenate([one.second for one in written])
    third = np.concatenate([one.third for one in written])
    n_heads = len(reading.rows)
    from_layer, from_head, head = np.indices((len(written), n_heads, n_heads)).reshape(3, -1)
    empty = (np.concatenate([_empty(one) for one in written])[:, None] | _empty(reading)).ravel()
    null = moments(np.outer(second, reading.second).ravel(), np.outer(third, reading.third).ravel(), dimensions)
    square = np.where(empty, np.nan, squares.ravel())
    p = upper_tail(square, null)
    far = np.flatnonzero((p < _FAR) & (p > _BEYOND))
    if len(far):
        spectra = np.concatenate([one.spectrum for one in written])[far // n_heads], reading.spectrum[far % n_heads]
        p[far] = far_tail((square[far] - null.mean[far]) / null.sd[far], *spectra, group_sizes(reading.rows.shape[1]))
    return {
        "kind": np.full(square.shape, kind),
        "from_layer": from_layer,
        "from_head": from_head,
        "layer": np.full(square.shape, layer),
        "head": head,
        "composition": np.sqrt(square),
        "chance": np.full(square.shape, dimensions**-0.5),
        "z": (square - null.mean) / null.sd,
        "p": p,
    }


def _empty(one: Side) -> NDArray[np.bool_]:
    largest: Floats = one.rows.flatten(1).abs().amax(1).cpu().numpy()
    empty: NDArray[np.bool_] = largest == 0
    return empty


def _squares(reading: Tensor, writing: Tensor) -> Floats:
    """‖R W'‖² of each pair: (writing heads, reading heads)."""
    n_reading, n_rows = reading.shape[:2]
    found = []
    flat = reading.flatten(0, 1)
    at_once = max(1, _PRODUCTS // (len(flat) * writing.shape[1]))
    for some in writing.split(at_once):
        products = some.flatten(0, 1) @ flat.T
        of_rows = products.square_().view(len(some), -1, n_reading, n_rows).sum(1)  # over the rows of the writing head
        found.append(of_rows.sum(-1).double().cpu())
    return torch.cat(found).numpy()


class Null(NamedTuple):
    """Moments of the square of composition of random heads: mean, standard deviation, and skewness."""

    mean: Floats
    sd: Floats
    skewness: Floats


def moments(second: Floats, third: Floats, dimensions: int) -> Null:
    """The null's moments, from products of p₂ and of p₃ of the two sides."""
    d = float(dimensions)
    variance = 2 * second / ((d - 1) * (d + 2))
    weight = 64 / 15 / ((d + 2) * (d + 4)) + 12 / 5 / ((d + 2) * (d - 1)) + 4 / 3 / ((d - 1) * (d - 2))
    sd = np.sqrt(np.maximum(variance, 1e-30))  # above 0 for a head that reads all dimensions alike
    return Null(np.full(second.shape, 1 / d), sd, third * weight / d / sd**3)


def upper_tail(square: Floats, null: Null) -> Floats:
    """P(X >= square) of the shifted gamma distribution with the moments of `null`; of a normal one without skewness."""
    from scipy.special import gammaincc, ndtr

    z = (square - null.mean) / null.sd
    skewed = np.where(null.skewness > _LEAST_SKEWNESS, null.skewness, 1.0)
    shape = 4 / skewed**2
    p = gammaincc(shape, np.maximum(shape + z * np.sqrt(shape), 0.0))
    found: Floats = np.where(null.skewness > _LEAST_SKEWNESS, p, ndtr(-z))
    return found


def far_tail(z: Floats, reading: Floats, writing: Floats, sizes: list[int]) -> Floats:
    """P(Z >= z), where Z is sum w χ² with w = a_i b_j, standardised.

    The formula is Barndorff-Nielsen's form of the saddlepoint approximation, P = Φ(-r - log(v / r) / r).

    Args:
        z: (pairs,), well above 0.
        reading, writing: eigenvalues of both sides in groups: (pairs, groups).
        sizes: how many eigenvalues each group stands for.
    """
    from scipy.special import ndtr

    weights = (reading[:, :, None] * writing[:, None]).reshape(len(z), -1)
    weights = weights / weights.max(1, keepdims=True)
    times = np.outer(sizes, sizes).ravel()  # degrees of freedom of each weight
    at = (weights * times).sum(1) + z * np.sqrt(2 * (weights**2 * times).sum(1))
    low, high = np.zeros(len(z)), np.full(len(z), 0.5)  # K is infinite at t = 1 / (2 max w)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = (times * weights / (1 - 2 * weights * middle[:, None])).sum(1) < at  # K'(t) grows with t
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    t = (low + high) / 2
    left = 1 - 2 * weights * t[:, None]
    k, curvature = -0.5 * (times * np.log(left)).sum(1), (2 * times * (weights / left) ** 2).sum(1)
    r, v = np.sqrt(2 * (t * at - k)), t * np.sqrt(curvature)
    found: Floats = ndtr(-r - np.log(v / r) / r)
    return found


_HALVINGS = 30  # of the interval of t: t is known to 5e-10
