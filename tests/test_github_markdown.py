"""GitHub's own renderer, and ours, show a stranger's text as it is: every table whole, no element made of it.

What GitHub finds after its renderer (mentions, references, emoji, formulas) is in neither: the text is parted where
these would begin, which `test_what_github_joins_is_parted` holds. Hashes of commits are left alone: a link to a commit
of the very repository is no harm, and the commits of models stand in code.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

import cmarkgfm
import pytest
from cmarkgfm.cmark import Options
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strangers import faces
from wirecheck.views.html import markdown_reader
from wirecheck.views.words import NOTHING, markdown_block, markdown_code, markdown_span, markdown_text, visible

PIECES = (
    *("www.x.yz", "http://a.b/c", "ftp://x.y", "joe@x.com", "mailto:j@x.yz", "xmpp:a@b.cd/e", "@name", "#12", ":+1:"),
    *("[^1]", "[^1]: x", "~~a~~", "- [ ] x", "* ", "1. ", "2) ", "+ ", "- ", "---", "===", "# ", "> ", "    ", "\n"),
    *("`", "``", "```", "|", "\\", "<!--", "-->", NOTHING, "<script>", "</details>", "<b>", "&lt;", "&#36;", "$a$"),
    *("$$", "$`", "![a](b)", "[a](b)", "[a]: b", "\t", "\x1b[1m", "\u202e", "\ue000grid\ue001", "é", " ", "  "),
    *("_a_", "__", "*a*", "**", *"{!aZ9.:;@#/w\"'=-+~"),
)
strangers = st.lists(st.sampled_from(PIECES), min_size=1, max_size=9).map("".join)
"""Example: '- [ ] x|www.x.yz'"""


def github(text: str) -> str:
    """As GitHub renders it, its sanitizer left out, which is kinder than no sanitizer would be."""
    return cmarkgfm.github_flavored_markdown_to_html(
        text, options=Options.CMARK_OPT_UNSAFE | Options.CMARK_OPT_FOOTNOTES
    )


def ours(text: str) -> str:
    return markdown_reader().render(text)


class Read(HTMLParser):
    """What a reader gets: the elements in their order with their attributes, the text, the rows of each table."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.tables: list[list[int]] = []
        self.feed(page)
        self.close()

    @property
    def tags(self) -> list[str]:
        return [tag for tag, _ in self.elements]

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append(0)
        elif tag in ("td", "th"):
            self.tables[-1][-1] += 1

    def handle_data(self, data):
        self.text += data


TABLE = ["table", "thead", "tr", "th", "th", "tbody", "tr", "td", "td"]
PLACES = {
    "a paragraph": ("{}\n", ["p"], "{}"),
    "a cell": ("| a | b |\n|---|---|\n| {} | 3 |\n", TABLE, "ab{}3"),
    "an item": ("- {}\n", ["ul", "li"], "{}"),
    "strong": ("- **{}**: z\n", ["ul", "li", "strong"], "{}: z"),
    "two lines": ("- a: {}\n  b {}\n", ["ul", "li"], "a: {}b {}"),
    "a heading": ("# {}\n", ["h1"], "{}"),
}


@pytest.mark.parametrize("render", [github, ours])
@pytest.mark.parametrize("place", PLACES)
@settings(max_examples=120, deadline=None)
@given(text=strangers)
def test_text_reads_as_it_is(render, place, text):
    around, tags, shown = PLACES[place]
    read = Read(render(around.replace("{}", markdown_text(text))))
    assert read.tags == tags
    assert read.text.replace("\n", "") == shown.replace("{}", visible(text))


@pytest.mark.parametrize("render", [github, ours])
@pytest.mark.parametrize("place", ["a paragraph", "a cell", "an item"])
@settings(max_examples=120, deadline=None)
@given(text=strangers)
def test_code_reads_as_it_is(render, place, text):
    around, tags, shown = PLACES[place]
    read = Read(render(around.replace("{}", (markdown_code if place == "a cell" else markdown_span)(text))))
    assert [tag for tag in read.tags if tag != "code"] == tags
    assert read.tags.count("code") == 1
    blank = "" if visible(text).strip(" ") else "␠"
    assert read.text.replace("\n", "") == shown.replace("{}", visible(text) + blank)


@pytest.mark.parametrize("render", [github, ours])
@settings(max_examples=60, deadline=None)
@given(text=strangers)
def test_no_line_of_a_block_ends_it(render, text):
    read = Read(render(f"a\n\n{markdown_block(text, 'sh')}\n\n# z\n"))
    assert read.tags == ["p", "pre", "code", "h1"]
    assert "".join(map(visible, text.split("\n"))) in read.text.replace("\n", "")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("ask @name", f"ask @{NOTHING}name"),
        ("joe@x.com", f"joe@{NOTHING}x.com"),
        ("org/name@main", "org/name@main"),
        ("a#1", f"a\\#{NOTHING}1"),
        ("GH-1", f"GH-{NOTHING}1"),
        ("a :smile: b", f"a :{NOTHING}smile: b"),
        (":100:", f":{NOTHING}100:"),
        ("12:30:45", "12:30:45"),
        ("$x$", f"&#36;{NOTHING}x&#36;{NOTHING}"),
        ("https://www.x.y", "https\\://www\\.x.y"),
        ("0123456789abcdef0123456789abcdef01234567", "0123456789abcdef0123456789abcdef01234567"),
    ],
)
def test_what_github_joins_is_parted(text, written):
    assert markdown_text(text) == written


def shape(read: Read) -> list[str]:
    """The elements but for code, of which an absent value has none; where a summary or figure is told is the same."""
    return [tag for tag in read.tags if tag != "code"]


@settings(max_examples=25, deadline=None)
@given(text=strangers)
def test_every_report_has_its_tables_whole_and_no_element_of_a_stranger(text):
    for name, face in faces(text).items():
        read = Read(github(face.markdown))
        assert shape(read) == MILD[name], name
        assert all(len(set(rows)) == 1 for rows in read.tables), name
        assert visible(text).strip() in read.text, name


MILD = {name: shape(Read(github(face.markdown))) for name, face in faces("mild").items()}
"""What the reports are made of where no name means harm."""


def test_the_reports_have_tables_at_all():
    assert {name: tags.count("table") > 1 for name, tags in MILD.items() if tags.count("table") <= 1} == {}


PLANTED = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)' x='",
    "javascript:alert(1)",
    "[click](javascript:alert(1)) <javascript:alert(1)>",
    "</title></style></head><script>alert(1)</script>",
    "--><svg onload=alert(1)>",
    "\ue000grid\ue001",
)


@pytest.mark.parametrize("text", PLANTED)
def test_what_is_planted_stays_text_on_every_page(text):
    mild = {name: Read(face.html).elements for name, face in faces("mild").items()}
    for name, face in faces(text).items():
        read = Read(face.html)
        assert [tag for tag, _ in read.elements if tag != "code"] == [t for t, _ in mild[name] if t != "code"], name
        for (tag, given_), (_, harmless) in zip(
            [one for one in read.elements if one[0] != "code"], [o for o in mild[name] if o[0] != "code"], strict=True
        ):
            assert given_.keys() == harmless.keys(), (name, tag)
        assert not {"script", "img", "iframe", "object", "link", "base", "form"} & set(read.tags), name
        targets = [attributes.get(key) or "" for _, attributes in read.elements for key in ("href", "src")]
        assert all(re.match(r"#|$", target) for target in targets), name
        assert not any(key.startswith("on") for _, attributes in read.elements for key in attributes), name
        assert visible(text) in read.text, name
