"""The machine that numbers come from: they mean nothing without it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import msgspec

_CPU_INFO = Path("/proc/cpuinfo")
_CPU_NAMES = ("model name", "Hardware", "cpu model")


class Machine(msgspec.Struct, frozen=True):
    """Facts for the head of a report.

    Args:
        cpu: as the system names it.
        cores: that this process may use.
        memory_bytes: of the machine; 0 where the system does not say.
        torch_threads: of one operation on the CPU.
        bf16: whether the CPU computes in bf16, or only emulates it.
        device: where the model ran: `cpu`, or the GPU's name.
    """

    cpu: str
    cores: int
    memory_bytes: int
    python: str
    torch: str
    torch_threads: int
    bf16: bool
    device: str

    def lines(self) -> list[str]:
        """For a person, two lines."""
        memory = f"{self.memory_bytes / (1 << 30):.0f} GiB"
        return [
            f"{self.cpu}, {self.cores} cores{' with bf16' if self.bf16 else ''}, {memory}; "
            f"model on {self.device}",
            f"Python {self.python}, torch {self.torch} with {self.torch_threads} threads",
        ]


def this_machine(device: str = "cpu") -> Machine:
    """Look at the machine; imports torch.

    Args:
        device: torch device that the model runs on.
    """
    import torch

    on_gpu = torch.device(device).type == "cuda"
    return Machine(
        cpu=_cpu_name(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=_memory_bytes(),
        python=platform.python_version(),
        torch=str(torch.__version__),  # a class of its own that no encoder knows
        torch_threads=torch.get_num_threads(),
        bf16="bf16" in _cpu_flags(),
        device=torch.cuda.get_device_name(device) if on_gpu else device,
    )


def _cpu_facts(*names: str) -> str:
    """The first value behind one of the names in the system's description of the CPU."""
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    pairs = [line.split(":", 1) for line in lines if ":" in line]
    return next((value.strip() for name, value in pairs if name.strip() in names), "")


def _cpu_name() -> str:
    return _cpu_facts(*_CPU_NAMES) or platform.processor() or platform.machine()


def _cpu_flags() -> str:
    return _cpu_facts("flags", "Features")


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):  # no such system call, or no such name
        return 0
