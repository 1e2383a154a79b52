"""A user's own template of a report: jinja in a sandbox, in a child process with bounds on time, memory and output.

A template is often somebody else's: it reads the result and says what it likes, and can do nothing else. It may extend
or include the shipped templates, whose names are `pair.md.j2` and so on, and no other file.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wirecheck.schema import PairResult

Kind = Literal["page", "text"]
CPU_S = 20
WALL_S = 60.0
MEMORY_BYTES = 2 * 1024**3
"""Of address space, beside what the interpreter has."""
MOST_CHARS = 16_000_000
"""Of what a template writes."""
_REFUSED = 3
"""Exit status of a child whose template is at fault: its last line of stderr says how."""


@dataclass(frozen=True)
class TemplateRefused(Exception):
    """The template is at fault, and how: one line, with the line of the template where it is known."""

    why: str


def render(template: Path, result: PairResult, *, kind: Kind) -> str:
    """What the template makes of the result. Raises TemplateRefused, and OSError where the file cannot be read.

    `kind`: "page" where what comes out is a page of HTML and the template is written in markdown; "text": as it is.
    """
    with template.open("rb"):  # said here, where the error has its file's name
        pass
    words = [sys.executable, "-P", "-m", "wirecheck.views.own_template", str(template), kind]
    try:
        ran = subprocess.run(  # noqa: S603  # this very module
            words, input=result.model_dump_json().encode(), capture_output=True, timeout=WALL_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise TemplateRefused(f"it was not done after {WALL_S:g} s") from None
    if ran.returncode == 0:
        return ran.stdout.decode()
    said = ran.stderr.decode(errors="replace").strip().splitlines()
    if ran.returncode == _REFUSED and said:
        raise TemplateRefused(said[-1])
    if ran.returncode < 0:
        raise TemplateRefused(f"it took more than {CPU_S} s of CPU time or {MEMORY_BYTES // 1024**3} GiB of memory")
    raise TemplateRefused(said[-1] if said else f"its process ended with status {ran.returncode}")


# --- in the child ------------------------------------------------------------------------------------------------


def _bound() -> None:
    """The bounds that the platform can hold."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        if sys.platform == "linux":
            taken = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY_BYTES, taken + MEMORY_BYTES))


def _child(template: Path, kind: str) -> int:
    """Reads a result on stdin, writes the report to stdout."""
    from wirecheck.views import html, markdown, templates
    from wirecheck.views.faces import MarkdownFace, PageFace
    from wirecheck.views.pictures_result import of_result

    result = PairResult.model_validate_json(sys.stdin.buffer.read())
    source = template.read_text(encoding="utf-8")
    page = PageFace(of_result(result)) if kind == "page" else None
    given = markdown.variables(result, page or MarkdownFace())
    _bound()
    try:
        made = templates.render_own(template.name, source, given, most=MOST_CHARS)
    except templates.Fault as fault:
        sys.stderr.write(f"{fault}\n")
        return _REFUSED
    if page is not None:
        made = html.whole(result, made, page.pieces)
    sys.stdout.buffer.write(made.encode())
    return 0


if __name__ == "__main__":
    sys.exit(_child(Path(sys.argv[1]), sys.argv[2]))
