"""What a finished demo knows, for the terminal and for the page."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from worker.demo.collect import Lone, Refused
from worker.demo.judge import ContextJudgement, Judgement, Verdict, verdict
from worker.demo.stream import Answer
from worker.flow.pipeline import Summary
from worker.types import Match


@dataclass(frozen=True, slots=True)
class DemoFacts:
    """Everything that is shown.

    Args:
        answer: None for posts of the user's own.
        matches: the best, best first; `matches_seen` counts all of them.
        seconds: of the whole demo, drawing and loading included.
        store: folder or URL, if it is kept.
        groups: the judgement apart for seen and unseen looks, where the stream has both.
        context: how posts with text and picture were told apart.
        held_out: looks of one fold are left out because the model never saw them.
    """

    summary: Summary
    matches: tuple[Match, ...]
    matches_seen: int
    lone: tuple[Lone, ...]
    lone_dropped: int
    dead_letters: tuple[Refused, ...]
    answer: Answer | None
    judgement: Judgement | None
    groups: Mapping[str, Judgement]
    context: ContextJudgement | None
    model: str
    model_id: str
    threshold: float
    seconds: float
    store: str | None
    held_out: bool = False

    @property
    def refused(self) -> int:
        """Dead letters in all."""
        return sum(self.summary.dead_lettered.values())

    @property
    def lone_posts(self) -> int:
        """Stored posts without a partner."""
        return len(self.lone) + self.lone_dropped

    def verdict(self, match: Match) -> Verdict:
        """Whether a match is right, as far as it is known."""
        return Verdict.UNKNOWN if self.answer is None else verdict(match, self.answer)

    def entity_of(self, post_id: str) -> str:
        """What a post's picture shows or else its text names, empty where that is not known."""
        if self.answer is None:
            return ""
        return self.answer.picture.get(post_id) or self.answer.text.get(post_id, "")

    def missed_partner(self, post_id: str) -> str:
        """The post that it should have been matched with, empty if there is none."""
        partner_of = {} if self.judgement is None else self.judgement.partner_of_missed
        return partner_of.get(post_id, "")


def share_percent(share: float | None) -> str:
    """`86 %`, or a dash where there is nothing to divide by."""
    return "–" if share is None else f"{round(100 * share)} %"


def context_line(context: ContextJudgement) -> str:
    """How many swapped posts were noticed, and how many others were taken for one."""
    return (
        f"out of context: {context.flagged_swapped} of {context.swapped} swapped and "
        f"{context.flagged_whole} of {context.whole} other posts with text and picture"
    )


def next_steps(facts: DemoFacts) -> tuple[tuple[str, str], ...]:
    """(what for, command) of what to do after the demo."""
    store = facts.store or "entityclip-store"
    model = "" if facts.model == "tiny" else f" --model {shlex.quote(facts.model)}"
    entity = next((name for match in facts.matches for name in match.entities), "Saint Lucia")
    ask = f'entityclip query "{entity}" --store {shlex.quote(store)}{model}'
    if facts.store is None:
        query = ("Keep the store, and ask it", f"entityclip demo --store {store}{model} && {ask}")
    else:
        query = (f"Ask what is stored about {entity}", ask)
    return (
        query,
        (
            "Match posts of your own: one JSON object a line, or a folder of images with captions",
            f"entityclip run --source file:posts.jsonl --sink file:matches.jsonl --store my-store{model}",
        ),
        (
            "Use a model that knows the world: the tiny one knows flags. Any checkpoint folder "
            "will do, such as a published EntityCLIP",
            "entityclip convert epoch_best.pt --output news && entityclip demo --model news",
        ),
    )
