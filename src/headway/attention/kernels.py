"""Attention kernels that return each row's log-sum-exp, and a plain kernel for everything they cannot do.

Shapes: B texts, N query heads, K key and value heads (N a multiple of K), T tokens, D head_dim.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

log = logging.getLogger("headway.attention")

# Number of rows of the T x T matrix that the plain kernel holds at a time.
PLAIN_ROWS = 256


class Attended(NamedTuple):
    output: Tensor  # (B, N, T, D): sum over j of softmax(logits)[i, j] v[j]
    log_sum_exp: Tensor  # (B, N, T) of each row's logits, in float32 or wider


@dataclass(frozen=True)
class Logits:
    """The formula of the logits: cap(scale q.k) + bias, or -inf where `mask` is False.

    Attributes:
        mask: (B or 1, N or 1, T, T) booleans, True where i may attend to j; None for plain causal attention.
        bias: (B or 1, N or 1, T, T), added to the logits.
        softcap: logits become softcap * tanh(logits / softcap).
    """

    scale: float
    mask: Tensor | None = None
    bias: Tensor | None = None
    softcap: float | None = None

    @property
    def linear(self) -> bool:
        """Whether the logits are scaled products alone, without bias or cap, apart from the mask."""
        return self.bias is None and self.softcap is None

    def added(self, q: Tensor) -> Tensor | None:
        """Combine bias and mask into one tensor that fused kernels add to the scaled products: -inf if i may not attend to j.

        Args:
            q: (B, N, T, D); the result has its dtype and shape (B or 1, N or 1, T, T).

        Returns:
            None for plain causal attention, for which kernels have a faster path.
        """
        if self.mask is None and self.bias is None:
            return None
        n_tokens = q.shape[2]
        added = q.new_zeros(1, 1, n_tokens, n_tokens) if self.bias is None else self.bias.to(q.dtype)
        allowed = _causal(n_tokens, q.device) if self.mask is None else self.mask & _causal(n_tokens, q.device)
        return added.masked_fill(~allowed, -torch.inf)

    def of_head(self, head: int) -> Logits:
        """The formula of one head alone, whose mask and bias may be its own."""

        def own(added: Tensor | None) -> Tensor | None:
            return added if added is None or added.shape[1] == 1 else added[:, head : head + 1]

        return replace(self, mask=own(self.mask), bias=own(self.bias))

    def of_products(self, products: Tensor) -> Tensor:
        """The logits of q.k, before bias and mask."""
        logits = products * self.scale
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)


Kernel = Callable[[Tensor, Tensor, Tensor, Logits], Attended]


def attend(q: Tensor, k: Tensor, v: Tensor, logits: Logits) -> Attended:
    """Attention with its log-sum-exp, by the fastest kernel that is correct for these inputs.

    Args:
        q: (B, N, T, D).
        k: (B, K, T, D).
        v: (B, K, T, any).
    """
    return _choose(q, v, logits)(q, k, v, logits)


def _choose(q: Tensor, v: Tensor, logits: Logits) -> Kernel:
    if logits.softcap is not None:
        _say_plain("soft-capped logits")
        return plain
    if v.shape[-1] != q.shape[-1]:
        _say_plain("values of another size than keys")
        return plain
    if logits.bias is not None and torch.promote_types(logits.bias.dtype, q.dtype) != q.dtype:
        _say_plain(f"a bias in {logits.bias.dtype}, which {q.dtype} would round")
        return plain
    added = logits.mask is not None or logits.bias is not None
    if q.device.type == "cpu":
        kernel: Kernel = cpu_flash
    elif q.device.type != "cuda":
        _say_plain(f"{q.dtype} on {q.device.type}")
        return plain
    elif (
        q.dtype == torch.float64
    ):  # CUDA has no fused kernel for it; only the distance needs it, which takes milliseconds
        return plain
    elif q.dtype == torch.float32 or added or q.shape[-1] > 256:
        kernel = cuda_efficient
    else:
        kernel = cuda_flash
    return kernel if _is_right(kernel, q.device, q.dtype, added) else plain


@lru_cache
def _is_right(kernel: Kernel, device: torch.device, dtype: torch.dtype, added: bool) -> bool:
    """Whether the kernel runs here and agrees with the plain one, with or without `added` masks. Computed once.

    PyTorch calls these kernels itself but does not guarantee their interface, and some GPUs lack some of them.
    """
    try:
        right = all(_agrees(kernel, device, dtype, added, *shape) for shape in _TRIED)
        reason = "gives other numbers than the formula"
    except (RuntimeError, TypeError, AttributeError, NotImplementedError) as error:
        right, reason = False, str(error).partition("\n")[0]
    if not right:
        log.warning("%s cannot be used for %s on %s (%s)", kernel.__name__, dtype, device, reason)
        _say_plain(f"{dtype} on {device.type}")
    return right


# Shapes to try: heads, key and value heads, tokens, head_dim. They cover grouped heads, unaligned sizes, and texts longer than
# a kernel's block.
_TRIED = ((3, 3, 37, 8), (4, 2, 150, 64), (2, 1, 131, 22))


def _agrees(
    kernel: Kernel,
    device: torch.device,
    dtype: torch.dtype,
    added: bool,
    n_heads: int,
    n_kv_heads: int,
    n_tokens: int,
    size: int,
) -> bool:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(2, heads, n_tokens, size, generator=generator, dtype=torch.float64).to(device, dtype)
        for heads in (n_heads, n_kv_heads, n_kv_heads)
    )
    logits = Logits(scale=size**-0.5)
    if added:  # a sliding window that hides whole blocks, and a bias of whole numbers, which no dtype rounds
        distance = torch.arange(n_tokens, device=device)[:, None] - torch.arange(n_tokens, device=device)
        bias = -(distance % 5).to(dtype).expand(1, n_heads, -1, -1)
        logits = Logits(logits.scale, mask=((distance >= 0) & (distance < 9))[None, None], bias=bias)
    expected = plain(q.double(), k.double(), v.double(), logits)
    # A few roundings of numbers below 8. Log-sum-exps are in float32 even for half precision, with a less exact exp.
    eps = torch.finfo(dtype).eps
    tolerances = (8 * eps, min(32 * eps, 1e-4))
    return all(
        torch.allclose(ours.double(), theirs, rtol=tolerance, atol=tolerance)
        for ours, theirs, tolerance in zip(kernel(q, k, v, logits), expected, tolerances, strict=True)
    )


@lru_cache
def _say_plain(why: str) -> None:
    log.warning("plain attention, without a fused kernel, for %s: right, but slower", why)


def cpu_flash(q: Tensor, k: Tensor, v: Tensor, logits: Logits) -> Attended:
    added = logits.added(q)
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return Attended(*kernel(q, k, v, 0.0, added is None, attn_mask=added, scale=logits.scale))


def cuda_flash(q: Tensor, k: Tensor, v: Tensor, logits: Logits) -> Attended:
    q, k, v, size = _for_cuda(q, k, v)
    kernel = torch.ops.aten._scaled_dot_product_flash_attention
    output, log_sum_exp, *_ = kernel(q, k, v, 0.0, True, False, scale=logits.scale)
    return Attended(output[..., :size], log_sum_exp[..., : q.shape[2]])


def cuda_efficient(q: Tensor, k: Tensor, v: Tensor, logits: Logits) -> Attended:
    added = logits.added(q)
    if added is not None:
        n_tokens = q.shape[2]
        # Rows of a stride that is a multiple of 16, for aligned reads; heads and texts may share them.
        added = pad(added, (0, -n_tokens % 16))[..., :n_tokens].expand(*q.shape[:2], -1, -1)
    q, k, v, size = _for_cuda(q, k, v)
    kernel = torch.ops.aten._scaled_dot_product_efficient_attention
    output, log_sum_exp, *_ = kernel(q, k, v, added, True, 0.0, added is None, scale=logits.scale)
    return Attended(output[..., :size], log_sum_exp[..., : q.shape[2]])  # the kernel pads its rows


def _for_cuda(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
    """One key for each query head, and head sizes padded to a multiple of 8, because these kernels read aligned blocks."""
    size = q.shape[-1]
    k, v = repeated(k, q.shape[1]), repeated(v, q.shape[1])
    if size % 8:
        q, k, v = (pad(x, (0, -size % 8)) for x in (q, k, v))
    return q, k, v, size


def plain(q: Tensor, k: Tensor, v: Tensor, logits: Logits) -> Attended:
    """Compute the formula directly, some rows at a time. This supports everything that `Logits` can express."""
    v = repeated(v, q.shape[1])
    outputs, sums = [], []
    for block in rows_of_logits(q, k, logits):
        sums.append(block.logsumexp(-1))
        outputs.append(block.softmax(-1).to(v.dtype) @ v[:, :, : block.shape[-1]])
    return Attended(torch.cat(outputs, 2), torch.cat(sums, 2))


def matrix_of(q: Tensor, k: Tensor, logits: Logits, sinks: Tensor | None = None) -> Tensor:
    """Return the whole matrix A (B, N, T, T) in float32 or wider. `sinks` (N,) take their share of each row."""
    if logits.linear and logits.mask is None:
        q, k = widened(q), repeated(widened(k), q.shape[1])
        bias = _causal_bias(q.shape[2], q.dtype, q.device)
        found = torch.baddbmm(bias, q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2), alpha=logits.scale)
        found = found.view(*q.shape[:3], -1)
    else:
        (found,) = rows_of_logits(q, k, logits)
    if sinks is None:
        return found.softmax(-1)
    column = sinks.to(found.dtype).view(1, -1, 1, 1).expand(*found.shape[:3], 1)
    return torch.cat([found, column], -1).softmax(-1)[..., :-1]


@lru_cache(maxsize=4)
def _causal(n_tokens: int, device: torch.device) -> Tensor:
    return torch.ones(n_tokens, n_tokens, dtype=torch.bool, device=device).tril()


@lru_cache
def _causal_bias(n_tokens: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.full((n_tokens, n_tokens), -torch.inf, dtype=dtype, device=device).triu(1)


def rows_of_logits(q: Tensor, k: Tensor, logits: Logits) -> Iterator[Tensor]:
    """The masked logits, `PLAIN_ROWS` queries at a time: (B, N, rows, keys up to the last of these queries)."""
    q, k = widened(q), repeated(widened(k), q.shape[1])
    positions = torch.arange(q.shape[2], device=q.device)
    for start in range(0, q.shape[2], PLAIN_ROWS):
        rows = slice(start, min(start + PLAIN_ROWS, q.shape[2]))
        keys = slice(0, rows.stop)
        block = logits.of_products(q[:, :, rows] @ k[:, :, keys].transpose(-1, -2))
        if logits.bias is not None:
            block = block + logits.bias[..., rows, keys]
        allowed = positions[rows, None] >= positions[None, keys]
        if logits.mask is not None:
            allowed = allowed & logits.mask[..., rows, keys]
        yield block.masked_fill(~allowed, -torch.inf)


def widened(x: Tensor) -> Tensor:
    """Return `x` in float32, or in float64 if it is float64."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def repeated(x: Tensor, n_heads: int) -> Tensor:
    """Keys or values (B, K, T, D), repeated for each of the `n_heads` query heads: (B, N, T, D)."""
    groups = n_heads // x.shape[1]
    return x if groups == 1 else x.repeat_interleave(groups, 1)
