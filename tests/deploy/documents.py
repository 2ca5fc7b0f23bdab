"""What the documents and the files of deploy/ say, for the test that they agree."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
README, GUIDE, RUNBOOK = ROOT / "README.md", DEPLOY / "README.md", DEPLOY / "RUNBOOK.md"
DOCUMENTS = (README, GUIDE, RUNBOOK)
_SKIPPED = ("__pycache__",)
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`([^`\n]+)`")
# A command stands where a shell or a pod takes one, or after what runs it in a pod (`in_worker`, `in_job`).
_COMMAND = re.compile(r"(?:^|&&|\||;|\$|--|\bjob/\S+|\bin_(?:worker|job))\s*entityclip\s+([^|&;#\n]*)")
_DIRECTIVE = re.compile(r"^([A-Z]+)\s+(.*)$")


@dataclass(frozen=True, slots=True)
class Call:
    """One `entityclip …` of a document: its words after the name."""

    document: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.document}: entityclip {' '.join(self.words)}"


def files() -> Iterator[Path]:
    """Every text file of deploy/."""
    for path in sorted(DEPLOY.rglob("*")):
        if path.is_file() and not any(part in _SKIPPED for part in path.parts):
            yield path


def calls(document: Path) -> Iterator[Call]:
    """The commands of a document, in code blocks and within lines."""
    yield from calls_in(document.read_text(encoding="utf-8"), str(document.relative_to(ROOT)))


def calls_in(text: str, name: str) -> Iterator[Call]:
    """The commands of a text of that name."""
    for code in _code(text):
        for found in _COMMAND.finditer(code):
            words = shlex.split(found[1].split("  #")[0], comments=True)
            if words and re.fullmatch(r"[a-z-]+|--\w+", words[0]):
                yield Call(name, tuple(words))


def yaml_blocks(document: Path) -> Iterator[dict[str, Any]]:
    """The fenced YAML of a document."""
    for language, text in _FENCE.findall(document.read_text(encoding="utf-8")):
        if language == "yaml":
            yield from yaml.safe_load_all(text)


def inline_code(document: Path) -> list[str]:
    """What stands in backticks within lines."""
    return _INLINE.findall(_FENCE.sub("", document.read_text(encoding="utf-8")))


def shell_lines(document: Path) -> list[str]:
    """The lines of its indented and fenced code that are no YAML."""
    return [
        line.strip() for code in _blocks(document.read_text(encoding="utf-8")) for line in code.splitlines()
    ]


def dockerfile(path: Path) -> Iterator[tuple[str, str]]:
    """The instructions of a Dockerfile, continued lines joined and comments left out."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if found := _DIRECTIVE.match(line.strip()):
            yield found[1], found[2]


def _blocks(text: str) -> Iterator[str]:
    """Fenced blocks that are no YAML, and indented ones, a line at a time."""
    for language, code in _FENCE.findall(text):
        if language != "yaml":
            yield code
    for line in _FENCE.sub("", text).splitlines():
        if line.startswith("    "):
            yield line.strip()


def _code(text: str) -> Iterator[str]:
    yield from _blocks(text)
    yield from _INLINE.findall(_FENCE.sub("", text))
