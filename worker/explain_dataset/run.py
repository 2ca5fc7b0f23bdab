"""One run: every text that is not in the output yet is asked about once, so many at a time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from model.data.explanations import same_picture
from worker.errors import ConfigError, WorkerError
from worker.explain.answer import Answer
from worker.explain.chat import LlmError
from worker.explain.prompt import post_data
from worker.explain_dataset.asking import Asked
from worker.explain_dataset.budget import BudgetUsedUp
from worker.explain_dataset.items import Item
from worker.explain_dataset.journal import Entry, Journal
from worker.explain_dataset.patience import Patience
from worker.types import ExplanationStatus

_TRIES: Final = 5  # of a text, where the endpoint answers others meanwhile
_ALONE: Final = 8  # texts one at a time at most, until the endpoint has shown what it understands
_WAIT: Final = wait_random_exponential(multiplier=0.5, max=10.0, min=0.1)  # between two tries of a text
_AWAY: Final = ("failed", "timeout")
_ASKED: Final = (ExplanationStatus.GENERATED, ExplanationStatus.UNKNOWN)
_Key = tuple[str, tuple[str, ...], str | None]


class TextAsker(Protocol):
    """What `worker.explain_dataset.asking.Asker` does."""

    async def ask(self, data: str) -> Asked:
        """The answer about a text; LlmError where there is none now, BudgetUsedUp where none is to be."""


@dataclass(slots=True)
class _Text:
    """A text, the samples that have it, and how often asking about it failed."""

    items: list[Item]
    tries: int = 0


def check_pictures(items: Sequence[Item], journal: Journal) -> None:
    """Refuse to go on with what was written about other samples of the same ids, such as another split's.

    Raises:
        ConfigError: one of the ids stands for another picture in the journal.
    """
    images = {item.id: item.image for item in items if item.id in journal.done}
    for entry in journal.entries() if images else ():
        image = images.get(entry.id, entry.image)
        if not same_picture(image, entry.image):
            raise ConfigError(
                f"{journal.path} holds {entry.id!r} for the picture {entry.image}, not {image}: "
                "give each split and data set an --output of its own"
            )


class DatasetRun:
    """Explains items into a journal. Lives on one event loop.

    Args:
        again: ask even where the data set brings an explanation.
        opted_out: sources whose posts are never sent.

    Attributes:
        counts: samples by what became of them: `earlier` (by a run before this one), `given`, `generated`,
            `cached`, `unknown`, `none` (nothing to be sent) and `failed`.
        used_up: the budget ended the run.
        on_items: told how many samples were dealt with, each time some were.
    """

    def __init__(
        self,
        items: Sequence[Item],
        journal: Journal,
        patience: Patience,
        *,
        again: bool = False,
        opted_out: Collection[str] = (),
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.used_up = False
        self.on_items: Callable[[int], object] = lambda number: None
        self._items, self._journal, self._patience = items, journal, patience
        self._untaken = 0  # texts that nobody has begun to ask about
        self._again, self._opted_out = again, frozenset(opted_out)
        self._retrying = AsyncRetrying(wait=_WAIT, retry=retry_if_exception_type(LlmError), reraise=True)

    async def run(self, asker: TextAsker, concurrency: int) -> None:
        """Explain what is not explained yet; every answer is in the journal as soon as it is there.

        Once a run.

        Raises:
            TransientError: the LLM is away or of no use, or the disk is full; run it again.
            ConfigError: the LLM refuses the key, the model or every text.
        """
        pending = self._pending()
        self._untaken = len(pending)
        texts = iter(pending)
        try:
            for _ in range(_ALONE):
                if self._patience.answers == 0:
                    await self._work(asker, texts, 1)
            async with asyncio.TaskGroup() as group:
                for _ in range(concurrency):
                    group.create_task(self._work(asker, texts))
        except* WorkerError as errors:
            failures = errors.exceptions
        else:
            return
        raise failures[0]

    async def _work(self, asker: TextAsker, texts: Iterator[_Text], number: int | None = None) -> None:
        """Explain so many texts, or all that are left."""
        while (number is None or number > 0) and not self.used_up:
            text = next(texts, None)
            if text is None:
                return
            self._untaken -= 1
            try:
                await self._explain(asker, text)
            except BudgetUsedUp:
                self.used_up = True
            number = None if number is None else number - 1

    async def _explain(self, asker: TextAsker, text: _Text) -> None:
        data = post_data(text.items[0].post)
        if not data:
            self._note(text.items, "", ExplanationStatus.NONE)
            return
        asked: Asked | None = await self._retrying.copy()(self._try, asker, data, text)
        if asked is None:
            self._note(text.items, "", ExplanationStatus.FAILED)
            return
        self._note_answer(text.items[:1], asked.answer, cached=asked.cached)
        self._note_answer(text.items[1:], asked.answer, cached=True)

    async def _try(self, asker: TextAsker, data: str, text: _Text) -> Asked | None:
        """Ask once; None where the text is given up.

        Raises:
            LlmError: it is worth another try.
        """
        answers = self._patience.answers
        try:
            asked = await asker.ask(data)
        except LlmError as error:
            self._patience.failed(error)
            text.tries += self._is_about_the_text(error, others_go_on=self._patience.answers > answers)
            if error.result != "refused" and text.tries < _TRIES:
                raise
            self._patience.gave_up(error)
            return None
        if not asked.cached:
            self._patience.answered()
        return asked

    def _is_about_the_text(self, error: LlmError, *, others_go_on: bool) -> bool:
        """Whether it is the text that fails, or else the endpoint that is away for all."""
        if error.result in _AWAY:
            has_no_others = self._untaken == 0 and error.status is not None
            return others_go_on or has_no_others
        return error.result == "invalid"

    def _note_answer(self, items: Sequence[Item], answer: Answer, *, cached: bool) -> None:
        status = ExplanationStatus.GENERATED if answer.known else ExplanationStatus.UNKNOWN
        self._note(items, answer.text, status, "cached" if cached and answer.known else status.value)

    def _note(
        self, items: Sequence[Item], explanation: str, status: ExplanationStatus, counted_as: str = ""
    ) -> None:
        if items:
            self._journal.append([Entry(item.id, item.image, explanation, status) for item in items])
            self._count(counted_as or status.value, len(items))

    def _count(self, name: str, number: int) -> None:
        self.counts[name] += number
        self.on_items(number)

    def _pending(self) -> list[_Text]:
        """The texts to ask about, each once, after what needs no asking is noted."""
        texts: dict[_Key, _Text] = {}
        for item in self._items:
            if item.id in self._journal.done:
                self._count("earlier", 1)
            elif item.post.explanation and not self._again:
                self._note([item], item.post.explanation, ExplanationStatus.GIVEN)
            elif item.post.source in self._opted_out:
                self._note([item], "", ExplanationStatus.NONE)
            else:
                texts.setdefault(_key(item), _Text([])).items.append(item)
        for key, answer in self._answered(texts).items():
            self._note_answer(texts.pop(key).items, answer, cached=True)
        return list(texts.values())

    def _answered(self, texts: Collection[_Key]) -> dict[_Key, Answer]:
        """What the journal says about texts that came again under another id."""
        keys = {item.id: _key(item) for item in self._items if item.id in self._journal.done}
        keys = {id: key for id, key in keys.items() if key in texts}
        entries = self._journal.find(keys.keys()).values()
        return {keys[entry.id]: Answer(entry.explanation) for entry in entries if entry.status in _ASKED}


def _key(item: Item) -> _Key:
    """Everything that the prompt is made of."""
    return item.post.text, item.post.entities, item.post.lang
