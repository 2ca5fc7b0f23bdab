"""The demo's report as a page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from worker.demo.collect import Lone
from worker.demo.facts import DemoFacts, next_steps, share_percent
from worker.demo.judge import Verdict
from worker.page import Badge, Card, DeadLetterRow, DemoPage, LonePost, Step, Tile, post_text, score_percent
from worker.printable import one_line
from worker.types import Match

_MOST_CARDS = 120
_MOST_LONE = 60

Thumbnail = Callable[[str], bytes | None]
LoneThumbnail = Callable[[Lone], bytes | None]


def demo_page(facts: DemoFacts, thumbnail: Thumbnail, lone_thumbnail: LoneThumbnail) -> DemoPage:
    """Put the page together.

    Args:
        thumbnail: the JPEG of a picture by its content hash.
        lone_thumbnail: the JPEG of a post without a partner.
    """
    cards = tuple(_card(facts, match, thumbnail) for match in facts.matches[:_MOST_CARDS])
    pictures = [post for post in facts.lone if post.has_picture][:_MOST_LONE]
    texts = [post for post in facts.lone if not post.has_picture][:_MOST_LONE]
    return DemoPage(
        title="Pictures and texts, matched by entity",
        lede=_lede(facts),
        tiles=tuple(_tiles(facts)),
        matches=cards,
        matches_left_out=facts.matches_seen - len(cards),
        lone_pictures=_lone_posts(facts, pictures, lone_thumbnail),
        lone_texts=_lone_posts(facts, texts, lambda post: None),
        lone_left_out=facts.lone_posts - len(pictures) - len(texts),
        dead_letters=tuple(
            DeadLetterRow(
                letter.reason, letter.detail, letter.raw, f"line {letter.offset + 1}, {letter.stage}"
            )
            for letter in facts.dead_letters
        ),
        dead_letters_left_out=facts.refused - len(facts.dead_letters),
        next_steps=tuple(Step(text, one_line(command)) for text, command in next_steps(facts)),
        footer=_footer(facts),
    )


def _lede(facts: DemoFacts) -> str:
    if facts.answer is None:
        return (
            "Your own posts through the real pipeline: fetched, encoded, stored and matched on this machine."
        )
    looks = ", all of them looks that the model was trained on" if facts.held_out else ""
    if facts.answer.unseen:
        looks = (
            f", {len(facts.answer.unseen)} of them looks that the model was never trained on: only the "
            "explanation of such a text says what to look for"
        )
    return (
        "A made-up stream of news posts in which texts and pictures of the same story arrive separately. "
        "The texts name a place and never say what it looks like; somewhere in each picture flies a flag"
        f"{looks}. A post with text and picture may show something else than it names. "
        "Drawn on the spot and run through the real pipeline."
    )


def _tiles(facts: DemoFacts) -> list[Tile]:
    summary = facts.summary
    rate = summary.posts / summary.seconds if summary.seconds > 0 else 0.0
    tiles = [
        Tile("Posts", f"{summary.posts:,}", f"{rate:.0f} a second"),
        Tile("Matches", f"{facts.matches_seen:,}", f"score ≥ {score_percent(facts.threshold)}"),
        Tile("Without partner", f"{facts.lone_posts:,}", "kept, waiting"),
        Tile("Dead letters", f"{facts.refused:,}", f"{len(summary.dead_lettered)} reasons"),
    ]
    judged = facts.judgement
    if judged is not None:
        found = judged.pairs - len(judged.missed)
        right = f"{judged.right} of {judged.right + judged.wrong} right"
        tiles.append(Tile("Precision", share_percent(judged.precision), right))
        if not facts.groups:
            tiles.append(Tile("Recall", share_percent(judged.recall), f"{found} of {judged.pairs} pairs"))
    for group, part in facts.groups.items():
        note = f"of {part.pairs} pairs; precision {share_percent(part.precision)}"
        tiles.append(Tile(f"Recall, {group}", share_percent(part.recall), note))
    if facts.context is not None:
        noticed = f"{facts.context.flagged_swapped} of {facts.context.swapped}"
        wrongly = f"swapped posts; {facts.context.flagged_whole} of {facts.context.whole} others"
        tiles.append(Tile("Out of context", noticed, wrongly))
    return tiles


def _card(facts: DemoFacts, match: Match, thumbnail: Thumbnail) -> Card:
    verdict = facts.verdict(match)
    return Card(
        heading=one_line(", ".join(match.entities), 60) or one_line(match.text_post_id, 60),
        text=post_text(match.text),
        score=match.score,
        score_text=score_percent(match.score),
        score_name="match",
        meta=_meta(match),
        explanation=post_text(match.explanation),
        picture_id=one_line(match.image_post_id, 60),
        thumbnail=thumbnail(match.image_hash),
        badge=_badge(verdict, facts.entity_of(match.image_post_id)),
        facts=tuple(_evidence(facts, match)),
    )


def _evidence(facts: DemoFacts, match: Match) -> Iterator[tuple[str, str]]:
    """What the score is made of, and what it says of the two posts."""
    yield "cosine", f"{match.cosine:.3f}"
    if match.margin is not None:
        yield "ahead of its rivals by", f"{match.margin:.3f}"
    if match.explanation_similarity is not None:
        yield "explanation", f"{match.explanation_similarity:.3f}"
    if match.entity_overlap is not None:
        yield "entities", share_percent(match.entity_overlap)
    if match.itm_probability is not None:
        yield "matching head", score_percent(match.itm_probability)
    if match.text_own_score is not None:
        yield "text's own picture", _own_pair(facts, match, match.text_post_id, match.text_own_score)
    if match.image_own_score is not None:
        yield "picture's own text", _own_pair(facts, match, match.image_post_id, match.image_own_score)


def _own_pair(facts: DemoFacts, match: Match, post_id: str, score: float) -> str:
    if post_id not in match.out_of_context:
        return score_percent(score)
    said = f"{score_percent(score)}, out of context"
    if facts.answer is None or post_id not in facts.answer.both:
        return said
    return f"{said} ({'right' if post_id in facts.answer.swapped else 'wrong'})"


def _badge(verdict: Verdict, shown: str) -> Badge | None:
    if verdict is Verdict.RIGHT:
        return Badge("correct", "right")
    return Badge(f"wrong: shows {shown}", "wrong") if verdict is Verdict.WRONG else None


def _meta(match: Match) -> str:
    ids = f"text {one_line(match.text_post_id, 60)} · picture {one_line(match.image_post_id, 60)}"
    return f"{ids} · {match.direction.value}"


def _lone_posts(facts: DemoFacts, posts: Sequence[Lone], thumbnail: LoneThumbnail) -> tuple[LonePost, ...]:
    return tuple(
        LonePost(
            one_line(post.post_id, 60),
            post.text,
            thumbnail(post),
            _lone_note(facts, post.post_id),
            _lone_badge(facts, post.post_id),
        )
        for post in posts
    )


def _lone_note(facts: DemoFacts, post_id: str) -> str:
    partner = facts.missed_partner(post_id)
    entity = facts.entity_of(post_id)
    return f"{entity}; belongs to {partner}" if partner else entity


def _lone_badge(facts: DemoFacts, post_id: str) -> Badge | None:
    if facts.answer is None:
        return None
    return Badge("missed", "missed") if facts.missed_partner(post_id) else Badge("has none", "right")


def _footer(facts: DemoFacts) -> tuple[str, ...]:
    scope = (
        "This model was trained on drawn flags alone, to show the mechanism; it is no stand-in for a model "
        "of real news photographs."
    )
    facts_line = (
        f"Model {facts.model} ({facts.model_id}) · {facts.seconds:.1f} s in all · made by entityclip demo"
    )
    return (facts_line, scope) if facts.model == "tiny" else (facts_line,)
