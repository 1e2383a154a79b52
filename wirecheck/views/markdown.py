"""A result as GitHub-flavoured markdown: same input, same bytes."""

from __future__ import annotations

from wirecheck.schema import PairResult
from wirecheck.views import story, templates, wire


def render(result: PairResult) -> str:
    """The report of one result. Raises nothing of its own: every PairResult has a report."""
    return templates.environment().get_template("pair.md.j2").render(result=result, story=story, wire=wire)
