"""A gate inside GitHub Actions: its annotations, the summary of its step, and the file's path as CI names it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from wirecheck.baseline import Since
from wirecheck.cli_console import on_runner, stderr_console
from wirecheck.cli_output import say_as_it_is
from wirecheck.gate_records import GateResult
from wirecheck.views import annotations as commands
from wirecheck.views import gate as view
from wirecheck.views.whereabouts import Whereabouts

_ROOTS = ("GITHUB_WORKSPACE", "CI_PROJECT_DIR")
"""Variables that name the folder a CI service checks a repository out to."""


def annotate(found: GateResult, where: Whereabouts, since: Since | None, *, to_stderr: bool) -> None:
    """On a runner, print the gate's annotations (to stderr where stdout holds JSON) and append its step summary.

    Raises OutputNotWritten where stdout is refused.
    """
    if not on_runner():
        return
    told = commands.render(found, where, since)
    if to_stderr:
        sys.stderr.write(told)
    else:
        say_as_it_is(told)
    name = os.environ.get("GITHUB_STEP_SUMMARY")
    if name:
        _append(Path(name), view.render(found, since))


def _append(path: Path, report: str) -> None:
    """Put the report behind what the step has written. A disk that takes nothing is told, and changes no exit code."""
    try:
        size = path.stat().st_size if path.exists() else 0
        begin = "\n" if size else ""
        text = commands.summary(report, commands.MOST_SUMMARY_BYTES - size - len(begin))
        if text:
            with path.open("a", encoding="utf-8", newline="\n") as file:
                file.write(begin + text)
    except OSError as error:
        stderr_console().print(f"warning: the step's summary was not written: {error.strerror or error}", markup=False)


def path_in_repository(file: Path) -> str:
    """The file from the root of its repository, as CI services name files; as it was typed where no root is known."""
    whole = file.parent.resolve() / file.name
    marked = next((folder for folder in whole.parents if (folder / ".git").exists()), None)
    named = [Path(os.environ[key]).resolve() for key in _ROOTS if os.environ.get(key)]
    for root in ([marked] if marked else []) + named:
        if whole.is_relative_to(root):
            return whole.relative_to(root).as_posix()
    return file.as_posix()
