"""A disk that fails: the n-th time a process would change a file, it is refused, and from then on once or always.

What a process writes goes through os.open, os.write, os.replace and their like (`_pyio` stands for the interpreter's
own files, whose writes cannot be seen), or through SQLite. All of these are counted, in the process and in its forks.
What a library writes in C, and what it prints, is not. And a clock that jumps.
"""

from __future__ import annotations

import _pyio
import builtins
import ctypes
import datetime
import errno
import io
import itertools
import mmap
import os
import shutil
import sqlite3
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FULL, READ_ONLY, BROKEN = errno.ENOSPC, errno.EROFS, errno.EIO
ALLOWED_WHEN_FULL = ("os.unlink", "os.remove", "os.rmdir", "os.chmod", "os.fsync", "os.utime")
"""What a full disk lets pass: it frees, or takes no block."""
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_SQLITE = {
    FULL: "database or disk is full",
    READ_ONLY: "attempt to write a readonly database",
    BROKEN: "disk I/O error",
}


@dataclass
class Disk:
    """How the disk fails, and what was asked of it."""

    at: int | None = None
    """The call that fails, from 1; None: none does."""
    error: int = FULL
    lasts: bool = False
    """Whether the later ones fail, too, as on a disk that is full."""
    log: Path | None = None
    """Where each call is noted: number, name, path."""
    only: tuple[str, ...] = ("",)
    """What the paths begin with that are counted at all."""

    clock_jumps: float | None = None
    """Years, beside the disk."""
    answers: Path | None = None
    """Where `answered` keeps what children say, if it is to."""

    def __post_init__(self) -> None:
        self._count = ctypes.c_long.from_buffer(mmap.mmap(-1, 8))  # shared with forks
        self._paths: dict[int, str] = {}
        self._write, self._open = os.write, os.open
        self._ours = {os.fstat(number).st_ino for number in (1, 2)}
        self._log = None if self.log is None else os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._log_file = None if self._log is None else os.fstat(self._log).st_ino

    def strikes(self, name: str, path: object) -> bool:
        """Count a call; whether it fails."""
        told = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else str(path)
        if not told.startswith(self.only):
            return False
        self._count.value += 1
        now = self._count.value
        fails = self.at is not None and (now >= self.at if self.lasts else now == self.at)
        fails = fails and not (self.error == FULL and name in ALLOWED_WHEN_FULL)
        if self._log is not None and self._is_open():
            self._write(self._log, f"{now}\t{name}\t{told}\t{'FAILS' if fails else ''}\n".encode())
        return fails

    def _is_open(self) -> bool:
        """Whether the log still has its number: a child that let go of the parent's files counts, and notes nothing."""
        try:
            return os.fstat(self._log or 0).st_ino == self._log_file
        except OSError:
            return False

    def strike(self, name: str, path: object) -> None:
        """Count a call. Raises the error where it fails."""
        if self.strikes(name, path):
            raise OSError(self.error, os.strerror(self.error), str(path))

    def install(self) -> None:
        """From now on, in this process and its forks."""
        os.open, os.write = self._opened, self._written
        for name in ("mkdir", "unlink", "remove", "rmdir", "chmod", "truncate", "utime"):
            setattr(os, name, self._guarded(f"os.{name}", getattr(os, name), 0))
        for name in ("replace", "rename", "link", "symlink"):
            setattr(os, name, self._guarded(f"os.{name}", getattr(os, name), 1))
        for name in ("fsync", "fdatasync", "ftruncate"):
            setattr(os, name, self._of_number(f"os.{name}", getattr(os, name)))
        shutil._USE_CP_SENDFILE = False  # so that copies are writes
        plain = io.open

        def opened(file: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
            writes = set(mode) & set("wax+")
            return (_pyio.open if writes and not self._is_pipe(file) else plain)(file, mode, *rest, **named)

        io.open = builtins.open = opened
        self._watch_sqlite()
        if self.clock_jumps is not None:
            jump_clock(self.clock_jumps)
        if self.answers is not None:
            from tests import answered

            answered.install(self, self.answers)

    @property
    def count(self) -> int:
        """Calls until now."""
        return self._count.value

    @count.setter
    def count(self, calls: int) -> None:
        self._count.value = calls

    def put_aside(self, path: Path, content: bytes) -> None:
        """A file that is no write of the run's."""
        number = self._open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        while content:
            content = content[self._write(number, content) :]
        os.close(number)

    def _is_pipe(self, file: Any) -> bool:
        return isinstance(file, int) and not stat.S_ISREG(os.fstat(file).st_mode)

    def _opened(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & _WRITES and os.fsdecode(path) != os.devnull:
            self.strike("os.open", path)
        number = self._open(path, flags, mode, dir_fd=dir_fd)
        self._paths[number] = os.fsdecode(path)
        return number

    def _written(self, number: int, data: Any) -> int:
        seen = os.fstat(number)
        if stat.S_ISREG(seen.st_mode) and seen.st_ino not in self._ours:
            where = self._paths.get(number, f"#{number}")
            if self.strikes("os.write", where):
                self._write(number, bytes(data)[: len(data) // 2])  # a disk refuses in the middle
                raise OSError(self.error, os.strerror(self.error))
        return self._write(number, data)

    def _guarded(self, name: str, call: Callable[..., Any], which: int) -> Callable[..., Any]:
        def guarded(*words: Any, **named: Any) -> Any:
            self.strike(name, words[which] if which < len(words) else next(iter(named.values())))
            return call(*words, **named)

        return guarded

    def _of_number(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(number: Any, *rest: Any) -> Any:
            self.strike(name, self._paths.get(number, f"#{number}"))
            return call(number, *rest)

        return guarded

    def _watch_sqlite(self) -> None:
        connect, watched = sqlite3.connect, _watched(self)

        def connected(where: str, *rest: Any, **named: Any) -> Any:
            path = where.removeprefix("file://").partition("?")[0]
            if "mode=rwc" in where and self.strikes("sqlite.connect", path):
                raise sqlite3.OperationalError("unable to open database file")
            made = connect(where, *rest, factory=watched, **named)
            made.where = path
            return made

        sqlite3.connect = connected


def _watched(disk: Disk) -> type[sqlite3.Connection]:
    class Watched(sqlite3.Connection):
        where = ""

        def execute(self, sql: str, *rest: Any) -> Any:
            if sql.split(maxsplit=1)[0] in ("create", "insert", "begin"):
                self._strike("execute")
            return super().execute(sql, *rest)

        def executemany(self, sql: str, *rest: Any) -> Any:
            self._strike("executemany")
            return super().executemany(sql, *rest)

        def __exit__(self, *error: Any) -> Any:
            if error[0] is None and self.in_transaction and disk.strikes("sqlite.commit", self.where):
                self.rollback()
                raise sqlite3.OperationalError(_SQLITE[disk.error])
            return super().__exit__(*error)

        def _strike(self, name: str) -> None:
            if disk.strikes(f"sqlite.{name}", self.where):
                raise sqlite3.OperationalError(_SQLITE[disk.error])

    return Watched


def jump_clock(years: float) -> None:
    """From now on the wall clock of this process is wrong: by so many years, forwards and backwards by turns."""
    true, turns = time.time, itertools.cycle((years, -years, 0.0))

    def jumping() -> float:
        return true() + next(turns) * 31_557_600

    class Jumping(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return datetime.datetime.fromtimestamp(jumping(), tz)

    time.time = jumping
    datetime.datetime = Jumping  # type: ignore[misc]
