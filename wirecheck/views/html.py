"""A report as one self-contained HTML page: the markdown, rendered and styled; no script, no network.

Nothing of the markdown is taken for HTML. What a page has beside it (a grid, a picture, a part that folds) comes as
*pieces*: trusted HTML by key, for which a mark stands in the report.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from types import MappingProxyType

from markdown_it import MarkdownIt
from mdit_py_plugins.anchors import anchors_plugin

from wirecheck.schema import PairResult
from wirecheck.views import markdown, story, templates
from wirecheck.views.faces import PageFace
from wirecheck.views.words import MARK, visible

NO_PIECES: Mapping[str, str] = MappingProxyType({})
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
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    reader.use(anchors_plugin, max_level=3, slug_func=_slug)
    body = reader.render(report)
    body = body.replace("<table>", '<div class="table" tabindex="0" role="region" aria-label="table"><table>')
    body = body.replace("</table>", "</table></div>")
    frame = templates.environment().get_template("page.html.j2")
    return frame.render(title=html.escape(visible(title)), outcome=mood, body=_placed(body, pieces))


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
