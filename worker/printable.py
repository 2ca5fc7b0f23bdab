"""Foreign text made fit to be shown: on a terminal, in a table cell, on a page.

A post may hold anything: terminal escape sequences, line breaks, lone surrogates, half a megabyte.
"""

from __future__ import annotations

import unicodedata

_ELLIPSIS = "…"
_UNSHOWN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})  # controls, bidirectional marks, surrogates, unassigned
_JOINERS = frozenset("\u200c\u200d")  # Persian and many emoji are wrong without them


def one_line(text: str, limit: int = 0) -> str:
    """The text on one line, without anything that could steer a terminal or reverse the line.

    Args:
        limit: most characters, the ellipsis included; 0 for no limit.
    """
    beginning = text[: 4 * limit + 64] if limit else text  # a long text costs what is shown of it
    shown = "".join(char if _is_shown(char) else " " for char in beginning)
    line = " ".join(shown.split())
    if limit and len(line) > limit:
        return line[: limit - 1].rstrip() + _ELLIPSIS
    return line


def excerpt(data: bytes, limit: int = 120) -> str:
    """The beginning of raw bytes on one line; what is not UTF-8 is shown as U+FFFD."""
    return one_line(data[: 4 * limit + 64].decode("utf-8", "replace"), limit)


def _is_shown(char: str) -> bool:
    return char in _JOINERS or unicodedata.category(char) not in _UNSHOWN
