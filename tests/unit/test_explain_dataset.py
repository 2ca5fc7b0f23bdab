"""What is to be explained, what it may cost, and when a run had better stop."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.datasets import write_n24news
from worker.errors import ConfigError, TransientError
from worker.explain.chat import LlmError
from worker.explain_dataset.budget import BudgetUsedUp, CallBudget, Spending
from worker.explain_dataset.items import read_items
from worker.explain_dataset.patience import Patience
from worker.observe.metrics import Metrics

AWAY = LlmError("no connection", "failed", again=True)


def test_the_captions_of_a_data_set_are_read_with_what_explains_them(tmp_path: Path) -> None:
    fixture = write_n24news(tmp_path)
    found = read_items(fixture.spec, "val")
    assert len(found.items) == fixture.read["val"]
    assert sum(bool(item.post.explanation) for item in found.items) == fixture.explained["val"]
    assert found.left_out.total() == fixture.left_out["val"].total()


def test_a_limit_takes_the_first(tmp_path: Path) -> None:
    fixture = write_n24news(tmp_path)
    whole = read_items(fixture.spec, "train").items
    assert read_items(fixture.spec, "train", 3).items == whole[:3]


def test_posts_are_read_and_bad_ones_are_counted_by_reason(tmp_path: Path) -> None:
    posts = [
        {"id": "a", "text": "A text.", "entities": ["Lyon"], "images": [{"path": "a.jpg"}]},
        {"id": "a", "text": "The same id."},
        {"id": "b"},
        {"id": "c", "text": "Explained.", "explanation": "A grey-haired man."},
    ]
    lines = "".join(json.dumps(post) + "\n" for post in posts) + "\nno JSON\n"
    (tmp_path / "posts.jsonl").write_text(lines)
    found = read_items(f"posts:{tmp_path / 'posts.jsonl'}", "train")
    assert [(item.id, item.image, item.post.entities) for item in found.items] == [
        ("a", "a.jpg", ("Lyon",)),
        ("c", "", ()),
    ]
    assert found.items[1].post.explanation == "A grey-haired man."
    assert found.left_out == {"repeated_id": 1, "empty_post": 1, "invalid_json": 1}


def test_posts_that_are_not_there_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"posts.jsonl cannot be read: No such file"):
        read_items(f"posts:{tmp_path / 'posts.jsonl'}", "train")


def spend(metrics: Metrics, *, calls: int = 1, tokens: int = 0, result: str = "explained") -> None:
    metrics.llm_calls.labels(result).inc(calls)
    metrics.llm_tokens.labels("prompt").inc(tokens)


def allowed(metrics: Metrics, max_calls: int | None, max_tokens: int | None, *, tokens: int = 10) -> int:
    """How many of 100 concurrent calls, each of so many tokens, get through."""

    async def run() -> int:
        budget = CallBudget(Spending(metrics), max_calls, max_tokens)

        async def call() -> bool:
            try:
                async with budget.call(tokens):
                    await asyncio.sleep(0)
                    spend(metrics, tokens=tokens)
            except BudgetUsedUp:
                return False
            return True

        return sum(await asyncio.gather(*(call() for _ in range(100))))

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("max_calls", "max_tokens", "expected"), [(None, None, 100), (7, None, 7), (0, None, 0), (None, 75, 7)]
)
def test_calls_at_once_keep_to_the_budget(
    max_calls: int | None, max_tokens: int | None, expected: int
) -> None:
    assert allowed(Metrics(), max_calls, max_tokens) == expected


def test_a_call_that_cost_nothing_leaves_its_room_to_another() -> None:
    metrics = Metrics()

    async def run() -> None:
        budget = CallBudget(Spending(metrics), 1, None)
        entered, leave = asyncio.Event(), asyncio.Event()

        async def free() -> None:
            async with budget.call(10):
                entered.set()
                await leave.wait()

        first = asyncio.create_task(free())
        await entered.wait()
        second = asyncio.create_task(free())  # has to wait for what the first one costs
        await asyncio.sleep(0.01)
        assert not second.done()
        leave.set()
        await asyncio.gather(first, second)

    asyncio.run(run())


def test_calls_that_were_refused_cost_nothing() -> None:
    metrics = Metrics()
    spend(metrics, calls=5, result="refused")
    spend(metrics, calls=2, result="timeout")
    assert Spending(metrics).calls == 2


def test_tokens_are_estimated_where_the_endpoint_does_not_count_them() -> None:
    metrics = Metrics()

    async def run() -> int:
        budget = CallBudget(Spending(metrics), None, 25)
        for number in range(5):
            try:
                async with budget.call(10):
                    spend(metrics)
            except BudgetUsedUp:
                return number
        return -1

    assert asyncio.run(run()) == 2


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def patience(clock: Clock) -> Patience:
    return Patience("http://llm/v1", 600.0, clock)


def test_an_endpoint_that_never_answered_is_given_up_soon(patience: Patience, clock: Clock) -> None:
    patience.failed(AWAY)
    clock.now_s = 21
    with pytest.raises(TransientError, match=r"http://llm/v1 gave no answer for 21 s \(no connection\)"):
        patience.failed(AWAY)


def test_an_endpoint_that_answered_once_is_waited_for(patience: Patience, clock: Clock) -> None:
    patience.answered()
    patience.failed(AWAY)
    clock.now_s = 599
    patience.failed(AWAY)
    clock.now_s = 601
    with pytest.raises(TransientError, match="no answer for 601 s"):
        patience.failed(AWAY)


def test_a_busy_endpoint_is_there(patience: Patience, clock: Clock) -> None:
    busy = LlmError("HTTP status 429", "rate_limited", again=True, status=429)
    patience.failed(busy)
    clock.now_s = 300
    patience.failed(busy)
    patience.failed(AWAY)


def test_each_answer_begins_the_patience_anew(patience: Patience, clock: Clock) -> None:
    for _ in range(5):
        patience.answered()
        patience.failed(AWAY)
        clock.now_s += 400
    patience.answered()
    clock.now_s += 4000  # of cached answers
    patience.failed(AWAY)


def test_a_refused_key_stops_at_once_even_in_mid_run(patience: Patience) -> None:
    patience.answered()
    with pytest.raises(ConfigError, match="refuses the key"):
        patience.failed(LlmError("HTTP status 401", "refused", status=401))


@pytest.mark.parametrize("status", [403, 404])
def test_a_wrong_address_or_model_stops_at_once(patience: Patience, status: int) -> None:
    error = LlmError(f"HTTP status {status}", "refused", status=status)
    with pytest.raises(ConfigError, match=r"see llm.base_url and llm.model"):
        patience.failed(error)


def test_one_text_that_is_refused_in_mid_run_stops_nothing(patience: Patience) -> None:
    patience.answered()
    error = LlmError("HTTP status 403", "refused", status=403)
    patience.failed(error)
    patience.gave_up(error)


def test_texts_that_are_refused_one_after_the_other_stop_the_run(patience: Patience) -> None:
    error = LlmError("HTTP status 400", "refused", status=400)
    patience.answered()
    for _ in range(19):
        patience.gave_up(error)
    with pytest.raises(ConfigError, match="refuses 20 texts one after the other"):
        patience.gave_up(error)


def test_nothing_usable_from_the_start_stops_the_run_soon(patience: Patience) -> None:
    error = LlmError("an answer that is not of the protocol", "invalid", again=True)
    patience.gave_up(error)
    patience.gave_up(error)
    with pytest.raises(TransientError, match="nothing usable for 3 texts"):
        patience.gave_up(error)


def test_an_endpoint_that_wants_money_stops_the_run(patience: Patience) -> None:
    with pytest.raises(TransientError, match="asks to be paid"):
        patience.failed(LlmError("HTTP status 402", "refused", status=402))
