"""A result as GitHub-flavoured markdown: same input, same bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from wirecheck.schema import PairResult
from wirecheck.views import templates
from wirecheck.views.faces import Face, MarkdownFace
from wirecheck.views.tellers import tellers

NO_PICTURES: Mapping[str, tuple[str, str]] = MappingProxyType({})
MOST_REASONS = 8
"""Of a verdict, that the summary gives; the rest stands among what is not proven."""


def render(result: PairResult, pictures: Mapping[str, tuple[str, str]] = NO_PICTURES) -> str:
    """The report of one result. Raises nothing of its own: every PairResult has a report.

    `pictures`: name -> (text alternative, where the file lies as seen from the report).
    """
    return written(result, MarkdownFace(pictures))


def written(result: PairResult, face: Face) -> str:
    """The report as markdown for that face, whose marks are in it."""
    text = templates.environment().get_template("pair.md.j2").render(**variables(result, face))
    return re.sub(r"\n{3,}", "\n\n", text)  # where a part of it has nothing to say


def variables(result: PairResult, face: Face) -> dict[str, Any]:
    """What a template of a result can name; docs/templates.md lists them."""
    return {"result": result, "face": face, "most": MOST_REASONS, **tellers()}
