"""Results to disk: written aside, then moved, so that a half-written file never exists under its name."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from wirecheck.bounded_text import MOST_RECORD_BYTES, bounded_text
from wirecheck.cli_console import captured_console, harmless
from wirecheck.errors import OutputNotWritten, UsageError
from wirecheck.schema import Outcome, PairResult
from wirecheck.whole_file import put_whole

if TYPE_CHECKING:
    from wirecheck.cli_reports import Reports

R = TypeVar("R", bound=BaseModel)


def write(path: Path, text: str) -> None:
    """Put `text` at `path` whole or not at all. Raises OutputNotWritten."""
    with written(path):
        put_whole(path, text)


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Inside it `path` is written: a disk that refuses is OutputNotWritten, in one line."""
    try:
        yield
    except OSError as error:
        raise OutputNotWritten(
            f"{path}: not written: {error.strerror or error}", next_step="free some space or name another place"
        ) from None


class Refusals:
    """What a disk refused while a result was put down: every other file is written all the same, the verdict is shown,
    and only then is the first refusal raised."""

    def __init__(self) -> None:
        self._told: dict[str, OutputNotWritten] = {}

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside it a refusal is kept for later."""
        try:
            yield
        except OutputNotWritten as error:
            self._told.setdefault(error.message, error)

    def write(self, path: Path, text: str | Callable[[], str]) -> None:
        """As `write`, its refusal kept for later; a text that is made only here may need the disk, too."""
        with self.held(), written(path):
            put_whole(path, text if isinstance(text, str) else text())

    def say(self, text: str) -> None:
        """As `say`, its refusal kept for later."""
        with self.held():
            say(text)

    def __enter__(self) -> Refusals:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None or not self._told:
            return
        first, *others = self._told.values()
        more = f"; neither {'was one more' if len(others) == 1 else f'were {len(others)} more'}" if others else ""
        raise OutputNotWritten(f"{first.message}{more}", next_step=first.next_step) from None


def to_json(record: BaseModel, indent: int = 2) -> str:
    """The format of every file of ours: the record, indented, with a newline at its end."""
    return record.model_dump_json(indent=indent) + "\n"


def known_endings(reports: Sequence[Path], faces: Iterable[str], what: str, next_step: str) -> None:
    """Raise UsageError where a report's name has none of the endings; `what` it is that has faces."""
    for path in reports:
        if path.suffix.lower() not in faces:
            ending = path.suffix or "(none)"
            raise UsageError(f"--report {path}: no {what} has the ending {ending}", next_step=next_step)


def read_record(path: Path, record: type[R], what: str, next_step: str | None = None) -> R:
    """A record from its file. Raises UsageError when it is none: "no `what`"."""
    try:
        return record.model_validate_json(bounded_text(path, MOST_RECORD_BYTES))
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise UsageError(f"{path}: no {what}: {first}", next_step=next_step) from None


def read_result(path: Path) -> PairResult:
    """A result from its file. Raises UsageError when it is not one."""
    try:
        return PairResult.model_validate_json(bounded_text(path, MOST_RECORD_BYTES))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", next_step="name a file made with --json") from None
    except (ValidationError, UnicodeDecodeError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise UsageError(f"{path}: not a wirecheck result: {first}", next_step="make one with --json PATH") from None


EXIT = {Outcome.COMPATIBLE: 0, Outcome.INCOMPATIBLE: 1, Outcome.UNPROVEN: 3}


def exit_code(result: PairResult) -> int:
    """The exit code of a finished result."""
    return EXIT[result.verdict.outcome]


def publish(result: PairResult, json: str | None, reports: Reports) -> None:
    """Write the files that were asked for, and show the result on stdout (or its JSON alone, for `-`).

    Every report is rendered before any is written; whatever becomes of the files, the result is shown.
    """
    put_down(result, json, reports.of(result), lambda: _on_terminal(result))


def put_down(
    record: BaseModel,
    json: str | None,
    reports: Iterable[tuple[Path, str]],
    shown: Callable[[], str],
    indent: int = 2,
) -> None:
    """Write a record as JSON and its reports, and say on stdout what is shown of it (its JSON alone, for `-`).

    Raises OutputNotWritten, when all that could be written is, and the record is shown.
    """
    with Refusals() as refused:
        try:
            if json and json != "-":
                refused.write(Path(json), to_json(record, indent))
            with refused.held():
                with written(Path("the reports")):  # pictures need a folder for matplotlib's cache
                    made = list(reports)
                for path, text in made:
                    refused.write(path, text)
        finally:
            refused.say(to_json(record, indent) if json == "-" else shown())


def _on_terminal(result: PairResult) -> str:
    from wirecheck.views.console import show

    terminal = captured_console()
    with terminal.capture() as shown:
        show(result, terminal)
    return shown.get()


def _writable(text: str) -> str:
    """The text in what stdout can hold: on a terminal of another encoding the rest is spelt out."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def say(text: str) -> None:
    """Text on stdout. Raises OutputNotWritten where stdout is a file on a disk that is full.

    On a runner of GitHub Actions, nothing in it is taken for a command.
    """
    say_as_it_is(harmless(text))


def say_as_it_is(text: str) -> None:
    """As `say`, workflow commands and all. A reader that went away (`| head`) has seen enough: no error of ours."""
    try:
        sys.stdout.write(_writable(text))
        sys.stdout.flush()
    except OSError as error:
        # What could not be written stays in the buffer, and would fail once more when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise OutputNotWritten(
                f"stdout: not written: {error.strerror or error}", next_step="free some space, or: --json PATH"
            ) from None
