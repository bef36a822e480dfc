"""Where a model runs."""

from __future__ import annotations

from headway.errors import UsageError


def choose_device(device: str) -> str:
    """The torch device for `cpu`, `cuda`, `cuda:1` or `auto`, which is a GPU where there is one.

    Raises:
        UsageError: it is another word, or a GPU that is not there.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise UsageError(f"unknown device {device!r}: use cpu, cuda, cuda:NUMBER or auto")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise UsageError(f"device {device!r} is not there: torch sees {torch.cuda.device_count()} GPUs")
    return device
