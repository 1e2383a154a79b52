"""Which report of a gate a file's name asks for, by its longest ending that is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from wirecheck.baseline import Since
from wirecheck.errors import UsageError
from wirecheck.gate_records import GateResult
from wirecheck.views import badge, code_quality
from wirecheck.views import gate as view
from wirecheck.views.whereabouts import Whereabouts

Face = Callable[[GateResult, Whereabouts, Since | None], str]

FACES: dict[str, Face] = {
    ".md": lambda found, _, since: view.render(found, since),
    ".html": lambda found, _, since: view.render_html(found, since),
    ".xml": lambda found, _, since: view.render_junit(found, since),
    ".sarif": lambda found, _, since: view.render_sarif(found, since),
    ".codequality.json": code_quality.render,
    ".badge.svg": lambda found, _, __: badge.render_svg(found),
    ".badge.json": lambda found, _, __: badge.render_json(found),
}


def face(path: Path) -> Face:
    """The view that a file's name asks for. Raises UsageError on an unknown ending."""
    fitting = [ending for ending in FACES if path.name.lower().endswith(ending)]
    if not fitting:
        raise UsageError(
            f"--report {path}: no report has the ending {path.suffix or '(none)'}",
            next_step=f"use one of {', '.join(FACES)}",
        )
    return FACES[max(fitting, key=len)]
