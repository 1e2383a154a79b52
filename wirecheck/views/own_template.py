"""A user's own template of a report: jinja in a sandbox, in a child process with bounds on time, memory and output.

A template is often somebody else's: it reads the result and says what it likes, and can do nothing else. It may extend
or include the shipped templates, whose names are `pair.md.j2` and so on, and no other file.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wirecheck.schema import PairResult

Kind = Literal["page", "html", "text"]
"""What comes out: a page from markdown; HTML as it is, its values escaped; any text as it is."""
_HTML = (".html", ".htm")
CPU_S = 20
WALL_S = 60.0
MEMORY_BYTES = 2 * 1024**3
"""Of address space, beside what the interpreter has; counted on Linux."""
MOST_CHARS = 16_000_000
"""Of what a template writes."""
_REFUSED = 3
"""Exit status of a child whose template is at fault: its last line of stderr says how."""


@dataclass(frozen=True)
class TemplateRefused(Exception):
    """The template is at fault, and how: one line, with the line of the template where it is known."""

    why: str


def render(
    template: Path, result: PairResult, ending: str, pictures: Mapping[str, tuple[str, str]] | None = None
) -> str:
    """What the template makes of the result. Raises TemplateRefused, and OSError where the file cannot be read.

    `ending` of the report: a template in markdown makes a page of `.html`. `pictures`: as `markdown.render` takes them.
    """
    with template.open("rb"):  # said here, where the error has its file's name
        pass
    told = template.name.removesuffix(".j2").lower()
    kind: Kind = "page" if told.endswith(".md") and ending == ".html" else "html" if told.endswith(_HTML) else "text"
    words = [sys.executable, "-P", "-m", "wirecheck.views.own_template", str(template), kind]
    asked = json.dumps({"result": result.model_dump(mode="json"), "pictures": pictures or {}})
    try:
        ran = subprocess.run(  # noqa: S603  # this very module
            words, input=asked.encode(), capture_output=True, timeout=WALL_S, check=False
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
    """Reads a result, and where its pictures lie, on stdin; writes the report to stdout."""
    from wirecheck.views import html, markdown, templates
    from wirecheck.views.faces import HtmlFace, MarkdownFace, PageFace
    from wirecheck.views.pictures_result import of_result

    asked = json.loads(sys.stdin.buffer.read())
    result = PairResult.model_validate(asked["result"])
    source = template.read_text(encoding="utf-8")
    page = PageFace(of_result(result)) if kind == "page" else None
    face = page or (HtmlFace(of_result(result)) if kind == "html" else MarkdownFace(asked["pictures"]))
    given = markdown.variables(result, face)
    _bound()
    try:
        made = templates.render_own(source, given, escaped=kind == "html", most=MOST_CHARS)
        if page is not None:
            made = html.whole(result, made, page.pieces)
    except (templates.Fault, ValueError) as fault:  # a mark that a name holds, and the template did not escape
        sys.stderr.write(f"{fault}\n")
        return _REFUSED
    sys.stdout.buffer.write(made.encode())
    return 0


if __name__ == "__main__":
    sys.exit(_child(Path(sys.argv[1]), sys.argv[2]))
