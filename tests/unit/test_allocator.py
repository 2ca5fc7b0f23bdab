"""Freed memory stays with a process that asked for it."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_CHURN = """
import resource, sys
from model.serving.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    small, large = b"x" * (24 << 20), b"x" * (48 << 20)
    del small, large
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt: run it on Linux with glibc"
)
def test_blocks_that_come_again_are_not_cleared_by_the_kernel_each_time() -> None:
    faults = {
        name: int(
            subprocess.run([sys.executable, "-c", _CHURN, name], capture_output=True, check=True).stdout
        )
        for name in ("keep", "default")
    }
    assert faults["keep"] < faults["default"] / 3
