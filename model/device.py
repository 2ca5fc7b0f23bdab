"""Which device to compute on."""

from __future__ import annotations

import torch


def choose_device(name: str | None) -> str:
    """Return the torch device that was asked for, or the GPU where there is one.

    Args:
        name: `cpu`, `cuda`, `cuda:1` …; None for the GPU, else the processor.

    Raises:
        ValueError: no such device, or none on this machine.
    """
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as exc:
        raise ValueError(f"unknown device {name!r}: cpu, cuda or cuda:N") from exc
    if device.type == "cuda":
        count = torch.cuda.device_count()  # unlike an allocation it takes no memory of the first GPU
        if (device.index or 0) >= count:
            raise ValueError(f"there is no device {name!r}: PyTorch finds {count} GPUs on this machine")
        return name
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ImportError) as exc:
        raise ValueError(f"there is no device {name!r} on this machine") from exc
    return name
