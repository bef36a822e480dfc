"""The device on which a model runs, and the cores that there are."""

from __future__ import annotations

import os

from headway.errors import UsageError


def cores() -> int:
    """The cores that this process may use: a scheduler may have allotted fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_device(device: str) -> str:
    """Return the torch device for `cpu`, `cuda`, `cuda:1` or `auto`. `auto` is a GPU if there is one.

    Raises:
        UsageError: the name is unknown, or this machine has no such GPU.
    """
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda", "auto") or (number and not number.isdigit()) or device.startswith("auto:"):
        raise UsageError(f"unknown device {device!r}: use cpu, cuda, cuda:NUMBER or auto")
    if kind == "cpu":
        return device  # torch takes two seconds to import

    import torch

    if kind == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if int(number or 0) >= torch.cuda.device_count():
        raise UsageError(f"device {device!r} is not there: torch sees {torch.cuda.device_count()} GPUs")
    return device
