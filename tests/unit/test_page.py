"""Pages and tables: everything foreign is shown as text, nothing is fetched, nothing is cut silently."""

from __future__ import annotations

import io
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.page import (
    Badge,
    Card,
    DeadLetterRow,
    DemoPage,
    HitsPage,
    LonePost,
    Section,
    Step,
    Tile,
    render_demo,
    render_hits,
    score_percent,
    write_page,
)
from worker.printable import excerpt, one_line
from worker.tables import Column, print_table

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)> \"' & {{ 7*7 }} {% raw %}"
JPEG = b"\xff\xd8\xff\xe0 not really"


class Tags(HTMLParser):
    """What a browser would see: tags, attributes, text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def card(text: str = "A text", **changes: object) -> Card:
    made = Card(text, text, 0.93, "93 %", "match", text, explanation=text, picture_id=text, thumbnail=JPEG)
    return replace(made, **changes)  # type: ignore[arg-type]


def page(text: str = "A text") -> DemoPage:
    return DemoPage(
        title=text,
        lede=text,
        tiles=(Tile(text, text, text),),
        matches=(card(text, badge=Badge(text, "wrong")),),
        lone_pictures=(LonePost(text, text, JPEG, text, Badge(text, "missed")),),
        lone_texts=(LonePost(text, text, None, text),),
        dead_letters=(DeadLetterRow(text, text, text, text),),
        next_steps=(Step(text, text),),
        footer=(text,),
        matches_left_out=3,
    )


def test_hostile_text_stays_text_wherever_it_stands() -> None:
    html = render_demo(page(HOSTILE))
    seen = Tags(html)
    assert "script" not in seen.tags
    assert not [name for name, _ in seen.attributes if name.startswith("on")]
    assert "<script" not in html
    assert "{{ 7*7 }}" in seen.text


@given(st.text(max_size=200))
def test_any_text_gives_the_same_tags_as_a_harmless_one(text: str) -> None:
    assert Tags(render_demo(page(text or "x"))).tags == Tags(render_demo(page())).tags


def test_nothing_is_fetched() -> None:
    seen = Tags(render_demo(page("https://example.org/x.png")))
    assert not {"script", "link", "iframe", "object", "a", "form"} & set(seen.tags)
    sources = [value for name, value in seen.attributes if name in ("src", "href", "srcset", "action")]
    assert sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert "default-src 'none'" in dict(seen.attributes)["content"] or "default-src 'none'" in str(
        seen.attributes
    )


def test_the_style_refers_to_nothing_outside() -> None:
    html = render_demo(page())
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "prefers-color-scheme: dark" in style


def test_a_missing_thumbnail_is_said() -> None:
    section = Section("Pictures", "", (card(thumbnail=None),))
    assert "no thumbnail" in Tags(render_hits(HitsPage("t", "l", (section,), ()))).text


def test_a_text_hit_has_no_place_for_a_picture() -> None:
    section = Section("Texts", "", (card(has_picture=False, thumbnail=None),))
    seen = Tags(render_hits(HitsPage("t", "l", (section,), ())))
    assert "img" not in seen.tags
    assert "no thumbnail" not in seen.text


def test_empty_sections_say_so() -> None:
    empty = replace(page(), matches=(), matches_left_out=0, lone_pictures=(), lone_texts=(), dead_letters=())
    text = Tags(render_demo(empty)).text
    assert "No pair scored above the threshold" in text
    assert "Every post found one" in text
    assert "Dead letters" not in text


def test_what_is_left_out_is_counted() -> None:
    assert "3 more with lower scores" in Tags(render_demo(page())).text


@pytest.mark.parametrize(
    ("score", "shown"), [(0.0, "0 %"), (0.934, "93 %"), (0.9999, "99 %"), (1.0, "100 %")]
)
def test_only_certainty_is_100_percent(score: float, shown: str) -> None:
    assert score_percent(score) == shown


@pytest.mark.parametrize(("score", "width"), [(-0.4, 0), (0.5, 50), (1.7, 100)])
def test_the_bar_stays_in_its_bounds(score: float, width: int) -> None:
    assert card(score=score).bar_percent == width


def test_a_page_replaces_the_old_one_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("old")
    write_page(path, "new \ud800")
    assert path.read_text() == "new ?"
    assert list(tmp_path.iterdir()) == [path]


@given(st.text(), st.integers(min_value=1, max_value=60))
def test_one_line_is_printable_and_short(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert len(line) <= limit
    assert not any(char in line for char in "\n\r\t\x00\x1b\x9b\u202e\u2066")
    line.encode()  # no lone surrogates


def test_one_line_keeps_what_scripts_need() -> None:
    persian = "می\u200cخواهم"
    assert one_line(persian) == persian


def test_one_line_does_not_read_a_text_of_megabytes() -> None:
    assert one_line("word " * 1_000_000, 20) == "word word word word…"


def test_an_excerpt_of_broken_utf8_is_shown() -> None:
    assert excerpt(b"\xff\xfe{\x00abc", 10) == "��{ abc"


def test_a_table_is_cut_to_its_width_and_never_wraps() -> None:
    file = io.StringIO()
    print_table(
        (Column("a"), Column("n", "right"), Column("text", wide=True)), [("key", "7", "x" * 500)], file=file
    )
    lines = file.getvalue().splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= 120
    assert lines[2].split()[:2] == ["key", "7"]
    assert lines[2].rstrip().endswith("…")


def test_a_table_shows_markup_and_escapes_as_text() -> None:
    file = io.StringIO()
    print_table((Column("a"),), [("[red]not markup[/red] \x1b[31mno colour",)], file=file)
    assert "[red]not markup[/red] [31mno colour" in file.getvalue()


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="2 cells"):
        print_table((Column("a"), Column("b")), [("only one",)])
