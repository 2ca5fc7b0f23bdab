"""The command that is running, as a person would type it again."""

from __future__ import annotations

import shlex
import sys


def command_line() -> str:
    """Of this process, whatever its program is called."""
    return shlex.join(["entityclip", *sys.argv[1:]])
