"""A file that is there whole or not at all: written aside, then moved.

What a killed process left aside is taken away by the next one that writes the same file. Whether its writer lives is
told by a lock on it, which the system lets go of when the writer ends, and never by a clock or a process number.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from wirecheck.interrupts import holding_interrupts, undisturbed

ENDING = ".part"
_NAME = 60
"""Characters of the file's name that the one aside bears."""


@undisturbed
def put_whole(path: Path, content: str | bytes) -> None:
    """Put `content` at `path`, making its folder. Raises OSError; then nothing half-written is left.

    Ctrl-C waits for the end of it.
    """
    with Aside(path) as aside:
        aside.path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        aside.put_in_place()


class Aside:
    """An empty file beside `path`, whose folder is made, to be written and then moved there."""

    def __init__(self, path: Path) -> None:
        """Raises OSError; then nothing is left."""
        self.place = path
        with holding_interrupts() as let_come:
            path.parent.mkdir(parents=True, exist_ok=True)
            _take_away_abandoned(path)
            self._lock, self.path = _begun(path)
            self._is_there = True
        try:
            let_come()
        except BaseException:
            self.drop()  # nobody else knows of it
            raise

    def put_in_place(self) -> None:
        """Move it to its place, when all of it is on the disk. Raises OSError."""
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
        self.path.chmod(0o644)
        os.replace(self.path, self.place)  # noqa: PTH105 - one atomic move, by its own name
        self._is_there = False

    @undisturbed
    def drop(self) -> None:
        """Nothing of it is left but what was put in its place. A disk that refuses keeps it for the next writer."""
        if self._is_there:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
        self._is_there = False
        if self._lock is not None:
            with suppress(OSError):
                os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Aside:
        return self

    def __exit__(self, *_: object) -> None:
        self.drop()


def _begin_of_name(path: Path) -> str:
    return f".{path.name[:_NAME]}."


def _begun(path: Path) -> tuple[int | None, Path]:
    """A new file aside, and what holds its lock. Where another one took it for abandoned, the next."""
    while True:
        lock, name = tempfile.mkstemp(dir=path.parent, prefix=_begin_of_name(path), suffix=ENDING)
        locked(lock)
        if Path(name).exists():
            return lock, Path(name)
        os.close(lock)


def locked(file: int) -> bool:
    """Whether the lock on an open file could be had, at once."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):  # another one has it, or this platform or file system has no locks
        return False
    return True


def _take_away_abandoned(path: Path) -> None:
    """Of earlier writers of this file, who were killed; what cannot be taken away stays."""
    begin = _begin_of_name(path)
    with suppress(OSError):
        for name in os.listdir(path.parent):  # noqa: PTH208 - names alone, and no glob of a name that is not ours
            if name.startswith(begin) and name.endswith(ENDING) and "." not in name[len(begin) : -len(ENDING)]:
                _take_away(path.parent / name)


def _take_away(aside: Path) -> None:
    with suppress(OSError):
        file = os.open(aside, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
        try:
            if locked(file):
                aside.unlink(missing_ok=True)
        finally:
            os.close(file)
