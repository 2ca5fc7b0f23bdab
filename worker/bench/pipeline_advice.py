"""One line that says what holds the worker up, from how busy its parts were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_BUSY = 0.85
_REMEDIES = {
    "gather": "the LLM or the picture hosts hold it up: raise llm.concurrency or fetch.concurrency, or ask "
    "a quicker endpoint",
    "prepare": "decoding pictures holds it up: raise prepare.threads if cores are idle, or send smaller "
    "pictures",
    "encode": "the model is the bottleneck, as it should be: only a quicker device, a lower precision or a "
    "smaller model makes more of it",
    "index": "the store takes points too slowly: a Qdrant server on another machine, or a faster disk",
    "match": "searches hold it up: a lower match.top_k, match.rerank off, or a Qdrant server with more cores",
    "emit": "the sink acknowledges too slowly: look at the topic's brokers, or at the disk",
}


@dataclass(frozen=True, slots=True)
class Load:
    """How busy the worker was.

    Args:
        stages: share of the time in which each stage's threads worked, 0 to 1.
        rates: posts a second of each stage alone. A stage that takes what waits in larger and larger batches
            may be busy all the time and hold up nothing.
        cores: share of the machine's cores that this process took, 0 to 1.
    """

    stages: Mapping[str, float]
    rates: Mapping[str, float]
    cores: float


def advice(load: Load) -> str:
    """What to change, in one line."""
    if busy := [name for name, share in load.stages.items() if share >= _BUSY and name in load.rates]:
        slowest = min(busy, key=load.rates.__getitem__)
        return f"{slowest} is busy {load.stages[slowest]:.0%}: {_REMEDIES[slowest]}"
    most = max(load.stages, key=load.stages.__getitem__)
    share = load.stages[most]
    if load.cores >= _BUSY:
        return f"the cores are busy {load.cores:.0%} and no stage is ({most} most, {share:.0%}): more cores"
    return (
        f"nothing is busy: {most} most, {share:.0%}, the cores {load.cores:.0%}; posts come too slowly, or "
        "limits.in_flight_posts and limits.in_flight_bytes let too few in"
    )
