"""A result as one self-contained HTML page: the markdown report, rendered and styled; no script, no network."""

from __future__ import annotations

import html

from markdown_it import MarkdownIt
from mdit_py_plugins.anchors import anchors_plugin

from wirecheck.schema import PairResult
from wirecheck.views import markdown, story, templates


def render(result: PairResult) -> str:
    """The page of one result. Raw HTML in names and tokens is shown, never interpreted."""
    title = f"wirecheck: {story.names(result)}"
    return page(markdown.render(result), title=title, mood=result.verdict.outcome.value)


def page(report: str, *, title: str, mood: str) -> str:
    """Any report in markdown as a page; `mood` is the style class of its body."""
    reader = MarkdownIt("commonmark", {"html": False}).enable("table").use(anchors_plugin, max_level=3)
    body = reader.render(report)
    body = body.replace("<table>", '<div class="table" tabindex="0" role="region" aria-label="table"><table>')
    body = body.replace("</table>", "</table></div>")
    frame = templates.environment().get_template("page.html.j2")
    return frame.render(title=html.escape(title), outcome=mood, body=body)
