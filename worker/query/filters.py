"""A source, language or entity that no post has is a mistake, not an empty answer."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from worker.index import VectorIndex
from worker.printable import one_line
from worker.query.question import Query
from worker.store.points import Where

_FIELD = {"source": "source", "lang": "lang", "entity": "entities"}
_LOOKED_AT = 1000  # values among which a nearest one is looked for
_NAMED = 5


class UnknownValue(ValueError):
    """A filter names a value that no point holds."""


def check_values(query: Query, index: VectorIndex) -> None:
    """Look each value up; one short request a value.

    Raises:
        UnknownValue: with the nearest known values, or else the commonest.
        TransientError, FatalError: as the store's.
    """
    for option, values in query.choices.items():
        for value in values:
            if not index.count(where=_one(option, value)):
                known = index.facet(_FIELD[option], limit=_LOOKED_AT)
                raise UnknownValue(
                    f"no post has the {option} {one_line(value, 60)!r}: {_others(value, known)}"
                )


def _one(option: str, value: str) -> Where:
    values = (value,)
    match option:
        case "source":
            return Where(sources=values)
        case "lang":
            return Where(langs=values)
    return Where(entities=values)


def _others(value: str, known: Mapping[str, int]) -> str:
    if not known:
        return "none of them says which"
    folded = {name.casefold(): name for name in known}
    near = [folded[name] for name in difflib.get_close_matches(value.casefold(), folded, _NAMED)]
    names = near or sorted(known, key=lambda name: (-known[name], name))[:_NAMED]
    shown = ", ".join(repr(one_line(name, 60)) for name in names)
    return f"{'did you mean' if near else 'there are'} {shown}{'?' if near else ''}"
