"""The commands that the documentation shows, and what it shows below them: read from its pages, as a reader would."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
GENERATED = {"docs/cli.md", "docs/checks.md", "docs/config.md", "docs/schema.md"}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
STATED = re.compile(r"#.*\bexit (\d+)\s*$")


@dataclass
class Step:
    """One command, the exit code that the page states, and the lines that it shows as printed."""

    command: str
    code: int = 0
    shown: list[str] = field(default_factory=list)

    @property
    def words(self) -> list[str] | None:
        """The words of a plain call of wirecheck; None for all that needs a shell."""
        words = shlex.split(self.command, comments=True)
        bare = re.sub(r"'[^']*'|\"[^\"$`]*\"", "", self.command.partition(" #")[0])
        return words[1:] if words[0] == "wirecheck" and not re.search(r"[|&;<>$`*\n]", bare) else None


def pages() -> list[str]:
    """Every page that a person wrote, as its path in the repository."""
    found = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md"))]
    written = [name for name in found if name not in GENERATED and not name.startswith("docs/checks/")]
    return ["README.md", "CONTRIBUTING.md", "examples/README.md", *written]


def text_of(page: str) -> str:
    """The page."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, *languages: str) -> list[str]:
    """What stands in the page's fences of those languages, in order."""
    return [body for language, body in FENCE.findall(text_of(page)) if language in languages]


def steps(page: str) -> list[Step]:
    """Every command of the page, in order; those of a workflow (`run:`, `script:`) among them."""
    found: list[Step] = []
    for language, body in FENCE.findall(text_of(page)):
        if language == "console":
            found += _of_console(body)
        elif language in ("sh", "bash"):
            found += [_stated(command) for command in _whole(body.splitlines())]
        elif language == "yaml":
            found += [Step(command) for command in _of_workflow(yaml.safe_load(body))]
    return found


def _stated(command: str) -> Step:
    said = STATED.search(command)
    return Step(command, int(said[1]) if said else 0)


def _of_console(body: str) -> list[Step]:
    """`$ command` and the lines below it; `$ echo $?` shows the exit code of the one before."""
    found: list[Step] = []
    lines = body.splitlines()
    while lines:
        line = lines.pop(0)
        if line == "$ echo $?":
            found[-1].code = int(lines.pop(0))
        elif line.startswith("$ "):
            command = line.removeprefix("$ ")
            assert _is_whole(command), f"in a session only the first line is copied; write it as `sh`: {command}"
            found.append(Step(command))
        else:
            found[-1].shown.append(line)
    return found


def _whole(lines: list[str]) -> Iterator[str]:
    """Commands of a script: lines, joined where a quote or a backslash leaves them open."""
    command = ""
    for line in lines:
        command = f"{command}\n{line}" if command else line
        if _is_whole(command):
            if command.strip() and not command.lstrip().startswith("#"):
                yield command
            command = ""
    assert not command, f"a command that does not end: {command}"


def _is_whole(command: str) -> bool:
    if command.endswith("\\"):
        return False
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return False
    return True


def _of_workflow(part: object) -> Iterator[str]:
    """What a workflow runs: GitHub's `run`, GitLab's `script`."""
    if isinstance(part, list):
        for below in part:
            yield from _of_workflow(below)
    elif isinstance(part, dict):
        for key, below in part.items():
            if key == "run":
                yield from _whole(below.splitlines())
            elif key == "script":
                yield from below
            else:
                yield from _of_workflow(below)


def plain(text: str) -> str:
    """The words alone: no borders of boxes, no runs of blanks, no line ends."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())


def not_printed(step: Step, printed: str) -> list[str]:
    """The lines that the page shows and the command did not print; `…` stands for what is left out."""
    all_of_it = plain(printed)
    pieces = [piece for line in step.shown for piece in line.split("…")]
    return [piece for piece in pieces if plain(piece) not in all_of_it]


INLINE = re.compile(r"`(wirecheck [a-z][^`]*)`")


def inline_commands(page: str) -> set[str]:
    """The commands that stand within a sentence of the page, in one line."""
    return {" ".join(found.split()) for found in INLINE.findall(FENCE.sub("", text_of(page)))}
