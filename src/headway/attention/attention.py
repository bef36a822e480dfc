"""Attention A of one layer over a batch of texts, and the quantities that scores are made of.

Shapes: B texts of T tokens each, N query heads, K key and value heads, D head_dim.

The T x T matrix of a text is held in memory only up to `SHORT` tokens. There, plain products are quicker than a fused
kernel, and on a CPU the matrix is no larger than the queries and keys.

Longer texts use fused kernels, whose memory grows with T. Let l[i] be the log-sum-exp of row i's logits. A single entry is
then A[i, j] = exp(s q[i].k[j] - l[i]). The same kernel with keys or positions in place of values gives
sum_j A[i, j] k[j] and sum_j A[i, j] j, and from these each row's entropy and distance. A mask of the model's own (a
sliding window shorter than the text) is T x T, and is shared by all heads and layers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import pad

from headway.attention.kernels import Logits, attend, matrix_of, repeated, rows_of_logits, widened

# Measured for each kind of device. On an H100, fused kernels are quicker from about 150 tokens on.
SHORT = {"cpu": 64, "cuda": 128}


def short_on(device: torch.device) -> int:
    """Return the number of tokens of the longest text whose matrix is held in memory on `device`."""
    return SHORT.get(device.type, SHORT["cpu"])


class Padding:
    """The padding of a batch: the tokens after the end of each text, the same in all layers.

    Args:
        lengths: each text's number of tokens, at most T.
        n_tokens: T.
    """

    def __init__(self, lengths: Sequence[int], n_tokens: int, device: torch.device) -> None:
        self.lengths = torch.tensor(lengths, device=device)[:, None]
        self._n_tokens = n_tokens
        self._rows: dict[int, tuple[Tensor, Tensor]] = {}

    def of_last(self, n_rows: int) -> tuple[Tensor, Tensor]:
        """For the last `n_rows` of T rows: a mask of the padding (B, 1, rows), and the number of other rows (B, 1)."""
        if n_rows not in self._rows:
            first = self._n_tokens - n_rows
            row = torch.arange(first, self._n_tokens, device=self.lengths.device)
            self._rows[n_rows] = (row >= self.lengths)[:, None], self.lengths - first
        return self._rows[n_rows]


class Attention(ABC):
    """Attention whose rows sum to 1, or to less with attention sinks. Float32, or float64 if the model is.

    Attributes:
        n_tokens: T, of the longest text.
        padding: which rows of shorter texts `mean` and `total` leave out; None if all texts are of T tokens.
    """

    n_tokens: int
    padding: Padding | None = None

    @property
    def lengths(self) -> Tensor | int:
        """Each text's number of tokens: (B, 1), or T if all are of one length."""
        return self.n_tokens if self.padding is None else self.padding.lengths

    def mean(self, values: Tensor) -> Tensor:
        """Mean of `values` (B, N, rows) over the rows of each text: (B, N). The last row must be that of token T."""
        if self.padding is None:
            return values.mean(-1)
        _, count = self.padding.of_last(values.shape[-1])
        return self.total(values) / count

    def total(self, values: Tensor) -> Tensor:
        """Sum of `values` over the rows of each text, as `mean`."""
        if self.padding is None:
            return values.sum(-1)
        outside, _ = self.padding.of_last(values.shape[-1])
        return values.masked_fill(outside, 0.0).sum(-1)  # a product with 0 would keep the infinities of padding

    @property
    def choices(self) -> Tensor:
        """How many tokens each row may attend to: (T,) on the CPU, 1 .. T in causal attention."""
        return torch.arange(1, self.n_tokens + 1)

    @property
    def n_attended(self) -> int:
        """Number of tokens that are attended to: T, except in attention to another text."""
        return self.n_tokens

    @property
    @abstractmethod
    def output(self) -> Tensor:
        """The layer's output (B, N, T, D), in the model's dtype."""

    @property
    @abstractmethod
    def values(self) -> Tensor:
        """The value that each query head reads at each token: (B, N, T, D), in the model's dtype."""

    @abstractmethod
    def averaged(self, numbers: Tensor) -> Tensor:
        """sum over j of A[i, j] numbers[j], for one number per head and token: (B, N, T) to (B, N, T)."""

    @abstractmethod
    def of(self, texts: slice, n_tokens: int) -> Attention:
        """Attention of some of the texts, cut to their first tokens. Later tokens do not change it."""

    @abstractmethod
    def padded(self, padding: Padding) -> Attention:
        """The same attention, with means and totals that leave out `padding`."""

    @abstractmethod
    def back(self, distance: int) -> Tensor:
        """A[i, i - distance] for i = distance .. T-1: (B, N, T - distance)."""

    @abstractmethod
    def to(self, position: int) -> Tensor:
        """A[i, position] for i = position .. T-1: (B, N, T - position)."""

    @abstractmethod
    def matrix_of(self, head: int) -> Tensor:
        """A of one head: (B, T, T), zero above the diagonal."""

    @property
    @abstractmethod
    def mass(self) -> Tensor:
        """sum over j of A[i, j]: (B, N, T). All ones, except with attention sinks."""

    @property
    @abstractmethod
    def entropy(self) -> Tensor:
        """-sum over j of A[i, j] log A[i, j], in nats: (B, N, T)."""

    @property
    @abstractmethod
    def distance(self) -> Tensor:
        """sum over j of A[i, j] (i - j), in tokens: (B, N, T)."""


def attention_of(q: Tensor, k: Tensor, v: Tensor, logits: Logits, sinks: Tensor | None = None) -> Attention:
    """Return the attention of queries (B, N, T, D) to keys (B, K, T, D), with values (B, K, T, any).

    Args:
        sinks: (N,), one additional logit in each row of a head. Its attention goes to no token.
    """
    if q.shape[2] <= short_on(q.device):
        return ShortAttention(matrix_of(q, k, logits, sinks), v)
    return LongAttention(q, k, v, logits, sinks)


class ShortAttention(Attention):
    """Attention of short texts, as the matrix itself: (B, N, T, T)."""

    def __init__(self, matrix: Tensor, v: Tensor, padding: Padding | None = None) -> None:
        self.n_tokens, self.padding = matrix.shape[-1], padding
        self.matrix, self._v = matrix, v

    @property
    def output(self) -> Tensor:
        return self.matrix.to(self._v.dtype) @ self.values

    @property
    def values(self) -> Tensor:
        return repeated(self._v, self.matrix.shape[1])

    def averaged(self, numbers: Tensor) -> Tensor:
        return (self.matrix @ numbers.to(self.matrix.dtype)[..., None])[..., 0]

    def of(self, texts: slice, n_tokens: int) -> Attention:
        return ShortAttention(self.matrix[texts, :, :n_tokens, :n_tokens], self._v[texts, :, :n_tokens])

    def padded(self, padding: Padding) -> Attention:
        return ShortAttention(self.matrix, self._v, padding)

    def back(self, distance: int) -> Tensor:
        return self.matrix.diagonal(-distance, -2, -1)

    def to(self, position: int) -> Tensor:
        return self.matrix[..., position:, position]

    def matrix_of(self, head: int) -> Tensor:
        return self.matrix[:, head]

    @cached_property
    def mass(self) -> Tensor:
        return self.matrix.sum(-1)

    @cached_property
    def entropy(self) -> Tensor:
        of_each: Tensor = torch.special.entr(self.matrix)
        return of_each.sum(-1)

    @cached_property
    def distance(self) -> Tensor:
        positions = torch.arange(self.n_tokens, device=self.matrix.device, dtype=self.matrix.dtype)
        return (self.matrix * (positions[:, None] - positions)).sum(-1)


class LongAttention(Attention):
    """Attention of long texts: single entries from queries, keys and log-sum-exps, sums over rows from fused attention."""

    def __init__(self, q: Tensor, k: Tensor, v: Tensor, logits: Logits, sinks: Tensor | None) -> None:
        self.n_tokens = q.shape[2]
        self._q, self._k, self._v, self._logits = q, k, v, logits
        output, self._log_sum_exp = attend(q, k, v, logits)
        self._share: Tensor | None = None  # of each row's attention that goes to tokens: (B, N, T)
        if sinks is not None:
            total = torch.logaddexp(self._log_sum_exp, sinks.to(self._log_sum_exp.dtype).view(1, -1, 1))
            self._share = (self._log_sum_exp - total).exp()
            self._log_sum_exp = total
            output = output * self._share[..., None].to(output.dtype)
        self._output = output
        self._back: dict[int, Tensor] = {}  # several scores share these

    @property
    def output(self) -> Tensor:
        return self._output

    @property
    def values(self) -> Tensor:
        return repeated(self._v, self._q.shape[1])

    def averaged(self, numbers: Tensor) -> Tensor:
        # Fused kernels want values as wide as keys. All columns are the same.
        values = numbers.to(self._wide_q.dtype)[..., None].expand(*self._wide_q.shape).contiguous()
        averages = attend(self._wide_q, self._keys_of_queries, values, self._logits).output[..., 0]
        return averages if self._share is None else self._share * averages

    def of(self, texts: slice, n_tokens: int) -> Attention:
        return self  # scores that are read by length get unpadded batches, in which all texts have one length

    def padded(self, padding: Padding) -> Attention:
        self.padding = padding
        return self

    def back(self, distance: int) -> Tensor:
        if distance not in self._back:
            q, k = self._wide_q[:, :, distance:], self._keys_of_queries[:, :, : self.n_tokens - distance]
            self._back[distance] = self._probability(
                (q * k).sum(-1), distance, lambda matrix: matrix.diagonal(-distance, -2, -1)
            )
        return self._back[distance]

    def to(self, position: int) -> Tensor:
        products = (self._wide_q[:, :, position:] * self._keys_of_queries[:, :, position, None]).sum(-1)
        return self._probability(products, position, lambda matrix: matrix[..., position:, position])

    def matrix_of(self, head: int) -> Tensor:
        # Some rows at a time, and of one head: the logits of all heads may not fit.
        group = self._q.shape[1] // self._k.shape[1]
        one, kv = slice(head, head + 1), slice(head // group, head // group + 1)
        logits = self._logits.of_head(head)
        rows: list[Tensor] = []
        log_sum_exp = self._log_sum_exp[:, one, :, None]
        for block in rows_of_logits(self._q[:, one], self._k[:, kv], logits):
            first = sum(row.shape[2] for row in rows)
            part = (block - log_sum_exp[:, :, first : first + block.shape[2]]).exp()
            rows.append(pad(part, (0, self.n_tokens - part.shape[-1])))
        return torch.cat(rows, 2)[:, 0]

    def _probability(self, products: Tensor, first_row: int, entries: Callable[[Tensor], Tensor]) -> Tensor:
        """exp(logit - l) for the rows from `first_row` on. `entries` picks the same entries from a T x T matrix."""
        logits = self._logits.of_products(products)
        if self._logits.bias is not None:
            logits = logits + entries(self._logits.bias)
        if self._logits.mask is not None:
            # Masked before exp: l covers the allowed keys only, so exp of another key's logit can be infinite.
            logits = logits.masked_fill(~entries(self._logits.mask), -torch.inf)
        return (logits - self._log_sum_exp[:, :, first_row:]).exp()

    @cached_property
    def mass(self) -> Tensor:
        return torch.ones_like(self._log_sum_exp) if self._share is None else self._share

    @cached_property
    def entropy(self) -> Tensor:
        among_tokens = self._fused_entropy() if self._logits.linear else self._plain_entropy()
        entropy = among_tokens.clamp_min(0.0)  # rounding may put a row that attends to one token below 0
        return entropy if self._share is None else self._share * entropy + torch.special.entr(self._share)

    def _fused_entropy(self) -> Tensor:
        # -sum a log a = l - sum a (s q.k) = l - s q.(sum a k). Moving all keys by one vector changes no attention,
        # and with keys around 0 the two terms stay small, so that their difference keeps its digits.
        keys = widened(self._k)
        keys = keys - keys.mean(2, keepdim=True)
        mean_key, log_sum_exp = attend(self._wide_q, keys, keys, self._logits)
        return log_sum_exp - self._logits.scale * (self._wide_q * mean_key).sum(-1)

    def _plain_entropy(self) -> Tensor:
        blocks = (block.softmax(-1) for block in rows_of_logits(self._q, self._k, self._logits))
        return torch.cat([torch.special.entr(block).sum(-1) for block in blocks], 2)

    @cached_property
    def distance(self) -> Tensor:
        # In float64: a head that attends to the token before has a distance of 1, left of positions in the thousands.
        positions = torch.arange(self.n_tokens, device=self._q.device, dtype=torch.float64)
        values = positions[:, None].repeat(1, self._q.shape[-1]).expand(*self._k.shape)
        mean_position = attend(self._q.double(), self._k.double(), values, self._logits).output[..., 0]
        distance = (positions - mean_position).clamp_min(0.0).to(self._wide_q.dtype)
        return distance if self._share is None else self._share * distance

    @cached_property
    def _wide_q(self) -> Tensor:
        return widened(self._q)

    @cached_property
    def _keys_of_queries(self) -> Tensor:
        return repeated(widened(self._k), self._q.shape[1])
