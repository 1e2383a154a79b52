"""Folders for what a child process writes meanwhile; those of a run that was killed are taken away by the next run.

Whether the run lives is told by a lock on the folder, as in `whole_file`, and never by a clock or a process number.
"""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from wirecheck.errors import CouldNotCheck
from wirecheck.interrupts import holding_interrupts, undisturbed
from wirecheck.whole_file import locked

PREFIX = "wirecheck-scratch-"


class Scratch:
    """A new folder under the system's temporary one, locked until it is dropped."""

    def __init__(self) -> None:
        """Raises CouldNotCheck where there can be none."""
        with holding_interrupts() as let_come:
            try:
                _take_away_abandoned(tempfile.gettempdir())
                self._lock, self.path = _begun()
            except OSError as error:
                raise CouldNotCheck(
                    f"{error.filename or 'the temporary folder'}: not written: {error.strerror}",
                    next_step="free some space, or name a folder that can be written: TMPDIR",
                ) from None
        try:
            let_come()
        except BaseException:
            self.drop()  # nobody else knows of it
            raise

    @undisturbed
    def drop(self) -> None:
        """Nothing of it is left; what a disk does not let go of, the next run takes away."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.drop()


def _begun() -> tuple[int | None, Path]:
    """A new folder and what holds its lock. Where another run took it for abandoned meanwhile, the next."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX))
        lock = _opened(path)
        if lock is not None:
            locked(lock)
        if path.exists():
            return lock, path
        if lock is not None:
            os.close(lock)


def _opened(path: Path) -> int | None:
    """The folder itself, no link to one; None where it is none, is gone, or the platform does not open folders."""
    try:
        return os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return None


@functools.cache
def _take_away_abandoned(place: str) -> None:
    """Of this user's runs that were killed: once in a process."""
    if not hasattr(os, "geteuid"):
        return
    with suppress(OSError):
        for path in [path for path in Path(place).iterdir() if path.name.startswith(PREFIX)]:
            lock = _opened(path)
            if lock is None:
                continue
            try:
                if os.fstat(lock).st_uid == os.geteuid() and locked(lock):
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)
