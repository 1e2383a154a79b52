"""What a report is written for: GitHub's markdown, or the page, which places HTML of its own where marks stand."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from markupsafe import Markup

from wirecheck.views.words import mark, markdown_text

if TYPE_CHECKING:
    from wirecheck.views.pictures import Picture


class Face(Protocol):
    """What a template asks of the face it is rendered for. All of it is text to place as it is."""

    def anchor(self, name: str) -> str:
        """A place that `[words](#name)` leads to."""

    def fold(self, summary: str) -> str:
        """Begins a part that is folded away under `summary`, our own words; a block of its own."""

    def unfold(self) -> str:
        """Ends the part that was begun last; a block of its own."""

    def picture(self, name: str) -> str:
        """The picture of that name, a block of its own; empty where there is none."""


@dataclass(frozen=True)
class MarkdownFace:
    """GitHub's markdown. `pictures`: name -> (text alternative, where the file lies as seen from the report)."""

    pictures: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def anchor(self, name: str) -> str:
        """An element that GitHub keeps."""
        return f'<a id="{name}"></a>'

    def fold(self, summary: str) -> str:
        """`<details>`, whose content GitHub reads as markdown after an empty line."""
        return f"<details>\n<summary>{html.escape(summary)}</summary>"

    def unfold(self) -> str:
        """The end of `<details>`."""
        return "</details>"

    def picture(self, name: str) -> str:
        """An image, where the picture is a file."""
        if name not in self.pictures:
            return ""
        alt, place = self.pictures[name]
        return f"![{markdown_text(alt)}]({place})"


MARKDOWN = MarkdownFace()
SPARSE = re.compile(r"\n{3,}")
"""Empty lines where a part of a report has nothing to say: one is enough."""


class HtmlFace:
    """A user's own HTML, in which all but this is escaped."""

    def __init__(self, pictures: Iterable[Picture] = ()) -> None:
        self._pictures = {picture.name: picture for picture in pictures}

    def anchor(self, name: str) -> str:
        """An element with that id."""
        return Markup('<a id="{}"></a>').format(name)

    def fold(self, summary: str) -> str:
        """`<details>`, closed."""
        return Markup("<details><summary>{}</summary>").format(summary)

    def unfold(self) -> str:
        """The end of `<details>`."""
        return Markup("</details>")

    def picture(self, name: str) -> str:
        """The drawing itself."""
        if name not in self._pictures:
            return ""
        from wirecheck.views.pictures import inline

        return Markup(inline(self._pictures[name]))  # noqa: S704  # our own drawing, whose words are escaped


class PageFace:
    """The page: marks in the report, and the pieces of HTML that `html.page` puts in their places."""

    def __init__(self, pictures: Iterable[Picture] = ()) -> None:
        self._html = HtmlFace(pictures)
        self.pieces: dict[str, str] = {}

    def anchor(self, name: str) -> str:
        """An element with that id."""
        return self._piece(f"at-{name}", self._html.anchor(name))

    def fold(self, summary: str) -> str:
        """`<details>`, closed."""
        return self._piece(f"fold-{len(self.pieces)}", self._html.fold(summary))

    def unfold(self) -> str:
        """The end of `<details>`."""
        return self._piece("unfold", self._html.unfold())

    def picture(self, name: str) -> str:
        """The drawing itself."""
        drawn = self._html.picture(name)
        return self._piece(f"picture-{name}", drawn) if drawn else ""

    def _piece(self, key: str, made: str) -> str:
        self.pieces[key] = made
        return mark(key)
