"""The Dockerfile as its instructions, for tests."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DOCKERFILE = Path(__file__).parents[2] / "deploy" / "Dockerfile"


@dataclass(frozen=True, slots=True)
class Instruction:
    """Such as `USER` and `10001:10001`."""

    name: str
    argument: str


def instructions() -> Sequence[Instruction]:
    """All of them in order, comments gone and continued lines joined."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [Instruction(*line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def last(name: str) -> str:
    """The argument of the last instruction of this name, which is the one that holds."""
    return next(each.argument for each in reversed(instructions()) if each.name == name)


def environment() -> dict[str, str]:
    """Every variable that some ENV of the application's stage or a later one sets."""
    found = instructions()
    start = next(
        i for i, each in enumerate(found) if each.name == "FROM" and each.argument.endswith(" application")
    )
    pairs = (pair for each in found[start:] if each.name == "ENV" for pair in shlex.split(each.argument))
    return dict(pair.split("=", 1) for pair in pairs)


def health_check() -> list[str]:
    """The command of the HEALTHCHECK."""
    command: list[str] = json.loads(last("HEALTHCHECK").partition(" CMD ")[2])
    return command
