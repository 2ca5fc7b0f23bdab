"""Whether it is worth going on: an endpoint that is away is waited for, one that refuses is not."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from worker.errors import ConfigError, TransientError
from worker.explain.chat import LlmError

_FIRST_S: Final = 20.0  # for a sign of life at the start: a wrong address should not cost ten minutes
_IN_A_ROW: Final = 20  # texts given up one after the other, until that says something about the endpoint
_FIRST_IN_A_ROW: Final = 3
_NO_KEY: Final = 401
_NO_CREDIT: Final = 402
_NOT_THERE: Final = (403, 404)
_ANSWERS: Final = ("invalid", "refused")  # results of an endpoint that is there


class Patience:
    """Hears of every call; raises when the run has to stop. One event loop.

    Args:
        endpoint: its address, for a person.
        patience_s: how long the endpoint may be away.
        clock: seconds, monotonic.

    Attributes:
        answers: good ones so far.
    """

    def __init__(self, endpoint: str, patience_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.answers = 0
        self._endpoint, self._patience_s, self._clock = endpoint, patience_s, clock
        self._away_since_s: float | None = None  # the first failure after the last answer
        self._heard = False  # whether anything answers there
        self._lost = 0  # texts given up since the last answer

    def answered(self) -> None:
        """A call gave an answer."""
        self.answers += 1
        self._away_since_s, self._heard, self._lost = None, True, 0

    def failed(self, error: LlmError) -> None:
        """A call gave none.

        Raises:
            ConfigError: the endpoint refuses the key, or does not know what is asked for.
            TransientError: no credit is left, or it has been away for too long.
        """
        self._heard = self._heard or error.status is not None or error.result in _ANSWERS
        if error.status == _NO_KEY:
            raise ConfigError(f"the LLM at {self._endpoint} refuses the key ({error}): set llm.api_key")
        if error.status == _NO_CREDIT:
            raise TransientError(f"the LLM at {self._endpoint} asks to be paid ({error})")
        if error.status in _NOT_THERE and not self.answers:
            raise ConfigError(
                f"the LLM at {self._endpoint} has no such thing ({error}): see llm.base_url and llm.model"
            )
        if self._away_since_s is None:
            self._away_since_s = self._clock()
        away_s = self._clock() - self._away_since_s
        limit_s = self._patience_s if self._heard else min(self._patience_s, _FIRST_S)
        if error.result not in _ANSWERS and away_s >= limit_s:
            raise TransientError(f"the LLM at {self._endpoint} gave no answer for {away_s:.0f} s ({error})")

    def gave_up(self, error: LlmError) -> None:
        """A text is left without an answer.

        Raises:
            ConfigError: the endpoint refuses one text after the other.
            TransientError: what it answers is of no use, for one text after the other.
        """
        self._lost += 1
        if self._lost < (_IN_A_ROW if self.answers else _FIRST_IN_A_ROW):
            return
        texts = f"{self._lost} texts one after the other"
        if error.result == "refused":
            raise ConfigError(f"the LLM at {self._endpoint} refuses {texts} ({error}): see llm.model")
        raise TransientError(f"the LLM at {self._endpoint} gave nothing usable for {texts} ({error})")
