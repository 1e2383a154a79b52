"""Where text goes on this machine: on a runner of GitHub Actions, with nothing in it that is taken for a command."""

from __future__ import annotations

import os
import sys
from typing import IO, TYPE_CHECKING, Any, cast

from wirecheck.views.words import no_command

if TYPE_CHECKING:
    from rich.console import Console


def on_runner() -> bool:
    """Whether what is printed is read by a runner of GitHub Actions, or by one that acts like it."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def harmless(text: str) -> str:
    """The text as it may be printed here."""
    return no_command(text) if on_runner() else text


def stderr_console() -> Console:
    """The console of progress and errors."""
    from rich.console import Console

    return Console(file=cast("IO[str]", _Harmless(sys.stderr))) if on_runner() else Console(stderr=True)


def captured_console() -> Console:
    """A console of stdout's width and colours whose text is captured and written by another: it writes nothing itself.

    rich ends a capture by writing nothing, which an unbuffered stdout on a full disk refuses.
    """
    from rich.console import Console

    return Console(file=cast("IO[str]", _Unwritten(sys.stdout)), highlight=False)


class _Unwritten:
    """A stream that is asked what it is, and never written to."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        return None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Harmless:
    """A stream that makes harmless what is written to it."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(no_command(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
