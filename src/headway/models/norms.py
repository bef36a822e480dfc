"""Layer norms and RMS norms as linear maps, once the scale that they divide by is known.

Shapes: M hidden_size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from headway.errors import UnsupportedModel

if TYPE_CHECKING:
    from torch import Tensor, nn

_OLMO_EPS = 1e-5  # OlmoLayerNorm has no attribute for it


@dataclass(frozen=True)
class Norm:
    """y = gain · (x - mean of x) / scale(x) + bias, where only a layer norm subtracts the mean. The bias is left out.

    Attributes:
        gain: (M,), or None if there is none.
        centred: whether the mean of x is subtracted.
        eps: added to the mean square.
    """

    gain: Tensor | None
    centred: bool
    eps: float

    def scale(self, x: Tensor) -> Tensor:
        """Return what `x` (..., M) is divided by: (...), in float32 or wider."""
        x = self._centre(x.to(torch.promote_types(x.dtype, torch.float32)))
        return (x.square().mean(-1) + self.eps).sqrt()

    def before(self, rows: Tensor) -> Tensor:
        """Fold the norm into `rows` (..., M) that read its output: rows that read x / scale instead."""
        return self._centre(self._gained(rows))

    def after(self, rows: Tensor) -> Tensor:
        """Fold the norm into `rows` (..., M) that write its input: rows that write scale · y instead."""
        return self._gained(self._centre(rows))

    def _gained(self, rows: Tensor) -> Tensor:
        return rows if self.gain is None else rows * self.gain.to(rows.dtype)

    def _centre(self, rows: Tensor) -> Tensor:
        return rows - rows.mean(-1, keepdim=True) if self.centred else rows


def norm_of(module: nn.Module) -> Norm:
    """Return the norm that `module` computes.

    Raises:
        UnsupportedModel: it is neither a layer norm nor an RMS norm of transformers.
    """
    name, own = type(module).__name__, _attributes(module)
    if isinstance(module, torch.nn.LayerNorm):
        return Norm(own["weight"], True, own["eps"])
    if name == "OlmoLayerNorm":
        return Norm(None, True, _OLMO_EPS)
    eps = own["eps"] if own["eps"] is not None else own["variance_epsilon"]
    if name.endswith("RMSNorm") and own["weight"] is not None and eps is not None:
        # Gemma stores gains as differences from 1.
        gain = own["weight"] + 1 if name.startswith("Gemma") else own["weight"]
        return Norm(gain, False, eps)
    raise UnsupportedModel(
        f"headway does not know what the norm {name} computes: describe it in headway/models/norms.py"
    )


def _attributes(module: nn.Module) -> dict[str, Any]:
    return {name: getattr(module, name, None) for name in ("weight", "eps", "variance_epsilon")}
