"""How what a query's text names looks: as given, or asked of the LLM."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from worker.config import Config
from worker.query.question import Query
from worker.types import Explanation, ExplanationStatus, Post

_WHY_NONE = {
    ExplanationStatus.FAILED: "the LLM gave no explanation in time",
    ExplanationStatus.UNKNOWN: "the LLM knows no named entity in the text",
}


@dataclass(frozen=True, slots=True)
class Explained:
    """The explanation that a query was asked with.

    Args:
        status: where it is from.
        note: one line for a person, empty where there is nothing to be said.
    """

    text: str = ""
    status: ExplanationStatus = ExplanationStatus.NONE
    note: str = ""


def explained(query: Query, config: Config, *, is_read: bool, ask_llm: bool = True) -> Explained:
    """The query's explanation; blocks for `llm.deadline_s` at most.

    Args:
        is_read: whether model or calibration look at explanations; if not, nobody is asked for one.
        ask_llm: whether the configured LLM may be asked.

    Raises:
        ConfigError: the LLM's address cannot be used.
    """
    if given := query.explanation.strip():
        if not is_read:
            return Explained(note="this model does not read explanations: --explanation changes nothing")
        return Explained(given, ExplanationStatus.GIVEN)
    if not (is_read and ask_llm and config.llm.base_url and query.text.strip()):
        return Explained()
    answer = asyncio.run(_ask(query.text, config))
    note = _WHY_NONE.get(answer.status, "")
    return Explained(answer.text, answer.status, f"{note}: asked without one" if note else "")


async def _ask(text: str, config: Config) -> Explanation:
    from worker.coordination.breaker import Breaker
    from worker.explain.explainer import open_explainer  # openai takes a second to import
    from worker.observe.metrics import Metrics

    async with open_explainer(config.llm, config.redis, Metrics(), Breaker("Redis")) as explainer:
        return await explainer.explain(Post("query", text=text))
