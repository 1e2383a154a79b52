"""A report as one self-contained HTML page: the markdown, rendered and styled; no script, no network.

Nothing of the markdown is taken for HTML. What a page has beside it (a grid, a picture, a part that folds) comes as
*pieces*: trusted HTML by key, for which a mark stands in the report.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from mdit_py_plugins.anchors import anchors_plugin

from wirecheck.schema import PairResult
from wirecheck.views import markdown, story, templates
from wirecheck.views.faces import PageFace
from wirecheck.views.words import MARK, NOTHING, visible

NO_PIECES: Mapping[str, str] = MappingProxyType({})
LONG = 4
"""Sections from which a page has a table of contents."""
_ALONE = re.compile(rf"<p>((?:{MARK.pattern}\s*)+)</p>")


def render(result: PairResult) -> str:
    """The page of one result. Raw HTML in names and tokens is shown, never interpreted."""
    from wirecheck.views.pictures_result import of_result

    face = PageFace(of_result(result))
    return whole(result, markdown.written(result, face), face.pieces)


def whole(result: PairResult, report: str, pieces: Mapping[str, str]) -> str:
    """The page of one result, of which `report` is what it says."""
    return page(report, title=f"wirecheck: {story.names(result)}", mood=result.verdict.outcome.value, pieces=pieces)


def page(report: str, *, title: str, mood: str, pieces: Mapping[str, str] = NO_PIECES) -> str:
    """Any report in markdown as a page; `mood` is the style class of its body.

    A mark (`words.mark(key)`) anywhere in the report gives way to `pieces[key]`, as it is; a paragraph of marks alone
    loses its `<p>`. Raises ValueError for a mark without a piece.
    """
    reader = markdown_reader()
    tokens = list(_furnished(reader.parse(report)))
    body = reader.renderer.render(tokens, reader.options, {})
    frame = templates.environment().get_template("page.html.j2")
    return frame.render(title=html.escape(visible(title)), outcome=mood, body=_placed(body, pieces))


def markdown_reader() -> MarkdownIt:
    """Reads our own markdown: tables, anchors of headings, and no HTML but the comment that says nothing."""
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    reader.use(anchors_plugin, max_level=3, slug_func=_slug)
    reader.inline.ruler.before("autolink", "nothing", _skip_nothing)
    return reader


def _skip_nothing(state: StateInline, silent: bool) -> bool:  # noqa: ARG001 - markdown-it calls it so
    """`words.NOTHING` shows nothing. No stranger's text holds it, for a `<` of theirs is escaped."""
    is_there = state.src.startswith(NOTHING, state.pos)
    state.pos += len(NOTHING) * is_there
    return is_there


def _placed(body: str, pieces: Mapping[str, str]) -> str:
    """The body with its pieces in their places."""
    lost = {key for key in MARK.findall(body) if key not in pieces}
    if lost:
        raise ValueError(f"no piece for the marks {', '.join(sorted(lost))}")
    return MARK.sub(lambda found: pieces[found[1]], _ALONE.sub(r"\1", body))


def _slug(heading: str) -> str:
    """The anchor that GitHub gives a heading, so that a link within a report lands in both."""
    kept = MARK.sub("", heading).strip().lower().replace(" ", "-")
    return re.sub(r"[^\w-]", "", kept)


# --- what markdown cannot say ------------------------------------------------------------------------------------


def _furnished(tokens: list[Token]) -> Iterator[Token]:
    """The tokens with a table of contents before the first section, and tables and charts that have names.

    A name is that of the section, numbered where a section has several. Ids begin with a capital letter: no heading's
    does.
    """
    contents = _contents(tokens)
    section = "Report"
    named: Counter[str] = Counter()
    for n, token in enumerate(tokens):
        if token.type == "heading_open":
            section = _words(tokens[n + 1])
            if token.tag == "h2" and contents:
                yield _raw(contents)
                contents = ""
        if token.type == "table_open":
            named[section] += 1
            name = section if named[section] == 1 else f"{section}, table {named[section]}"
            yield from _table(token, name, named.total())
            continue
        if token.type in ("th_open", "th_close"):
            _head(token, tokens[n + 1 if token.nesting > 0 else n - 1].content)
        is_chart = token.type == "fence" and token.info == "text"
        yield _chart(token, section) if is_chart else token
        if token.type == "table_close":
            yield _raw("</div>\n")


def _table(token: Token, name: str, number: int) -> Iterator[Token]:
    """A table in a region that scrolls by itself, also by keyboard, so that the page never does."""
    yield _raw(f'<div class="table" role="group" tabindex="0" aria-labelledby="T{number}">')
    yield token
    yield _raw(f'<caption id="T{number}">{html.escape(name)}</caption>\n')


def _head(token: Token, content: str) -> None:
    """The head of a column; an empty corner is no head of anything."""
    if not content:
        token.tag = "td"
    elif token.nesting > 0:
        token.attrSet("scope", "col")


def _chart(token: Token, section: str) -> Token:
    """Lines of text that must not be wrapped."""
    name = html.escape(f"{section}, drawn as text")
    lines = html.escape(token.content)
    return _raw(f'<pre class="chart" role="group" tabindex="0" aria-label="{name}"><code>{lines}</code></pre>\n')


def _contents(tokens: list[Token]) -> str:
    """Links to the sections; nothing where they are few."""
    heads = [
        (str(token.attrGet("id")), _words(tokens[n + 1]))
        for n, token in enumerate(tokens)
        if token.type == "heading_open" and token.tag == "h2"
    ]
    if len(heads) < LONG:
        return ""
    links = "".join(f'<li><a href="#{html.escape(key)}">{html.escape(name)}</a></li>\n' for key, name in heads)
    return f'<nav aria-label="Contents"><details><summary>Contents</summary>\n<ul>\n{links}</ul></details></nav>\n'


def _words(heading: Token) -> str:
    """The words of a heading, without what stands for pieces."""
    told = "".join(child.content for child in heading.children or ())
    return MARK.sub("", told).strip()


def _raw(text: str) -> Token:
    return Token("html_block", "", 0, content=text)
