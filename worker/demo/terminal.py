"""The demo's report on a terminal."""

from __future__ import annotations

from worker.cli.progress import summary_lines
from worker.demo.facts import DemoFacts, context_line, next_steps, share_percent
from worker.demo.judge import Judgement, Verdict
from worker.page import score_percent
from worker.printable import one_line
from worker.tables import Column, print_heading, print_table

_MOST_ROWS = 30


def print_report(facts: DemoFacts) -> None:
    """Print matches, dead letters, how good they are and what to do next."""
    _print_matches(facts)
    _print_dead_letters(facts)
    print_heading("Result")
    for line in summary_lines(facts.summary):
        print(line)
    if facts.judgement is not None:
        print(judgement_line(facts.judgement))
    for group, judgement in facts.groups.items():
        print(f"    {group} looks: {judgement_line(judgement)}")
    if facts.context is not None:
        print(context_line(facts.context))
    print(f"model {facts.model} ({facts.model_id}); {facts.seconds:.1f} s in all")


def print_next(facts: DemoFacts) -> None:
    """Print what to do next."""
    print_heading("Next")
    for text, command in next_steps(facts):
        print(f"{one_line(text)}:\n    {one_line(command)}")


def judgement_line(judgement: Judgement) -> str:
    """Precision and recall, with what they are counted over."""
    matches = judgement.right + judgement.wrong
    found = judgement.pairs - len(judgement.missed)
    return (
        f"precision {share_percent(judgement.precision)} ({judgement.right} of {matches} matches are right), "
        f"recall {share_percent(judgement.recall)} ({found} of {judgement.pairs} pairs found)"
    )


def _print_matches(facts: DemoFacts) -> None:
    judged = facts.answer is not None
    columns = [Column("score", "right"), Column("entity"), Column("text post"), Column("picture")]
    columns += [Column("verdict")] if judged else []
    rows = []
    for match in facts.matches[:_MOST_ROWS]:
        name = one_line(", ".join(match.entities), 26)
        ids = [one_line(post_id, 24) for post_id in (match.text_post_id, match.image_post_id)]
        row = [score_percent(match.score), name, *ids]
        verdict = facts.verdict(match)
        row += [verdict.value + (", out of context" if match.out_of_context else "")] if judged else []
        shown = facts.entity_of(match.image_post_id) if verdict is Verdict.WRONG else ""
        rows.append([*row, f"shows {shown}: {match.text}" if shown else match.text])
    print_heading(f"Matches (score of at least {score_percent(facts.threshold)})")
    if not rows:
        print("none")
        return
    print_table([*columns, Column("text", wide=True)], rows)
    if facts.matches_seen > len(rows):
        print(f"… and {facts.matches_seen - len(rows)} more")


def _print_dead_letters(facts: DemoFacts) -> None:
    if not facts.refused:
        return
    print_heading("Dead letters")
    shown = facts.dead_letters[:_MOST_ROWS]
    rows = [(letter.reason, str(letter.offset + 1), letter.detail) for letter in shown]
    print_table((Column("reason"), Column("line", "right"), Column("why", wide=True)), rows)
    if facts.refused > len(rows):
        print(f"… and {facts.refused - len(rows)} more")
