"""Texts kept by key in one SQLite file under the user's cache: crash-safe, one writer at a time, nothing lost but time.

A store that cannot be read or written is as good as none: whoever asks it makes the answer again. One that is damaged
is moved aside. The rollback journal is used, not the write-ahead log, which network file systems do not bear.
"""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

FORMAT = 1
"""Of the file, in its `user_version`."""
BUSY_S = 10.0
"""How long another process's writing is waited for."""
_TABLE = """
create table if not exists kept (
    key text primary key, kind text not null, text blob not null, made real not null
) without rowid
"""


class OtherFormat(Exception):
    """The file was made by a version of wirecheck that keeps other tables."""


@dataclass(frozen=True)
class Held:
    """What a store holds of one kind."""

    kind: str
    count: int
    size: int
    """Bytes, compressed."""


@dataclass(frozen=True)
class Store:
    """One file. No connection outlives a call, so that a forked child inherits none."""

    path: Path

    def get(self, key: str) -> str | None:
        """The text of a key; None where there is none, or it cannot be read."""
        return dict(self.get_many([key])).get(key)

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, str]]:
        """The texts of those keys that are there."""
        with self._open(write=False) as database:
            for key in keys:
                row = self._one(database, key)
                if row is not None:
                    yield key, row

    def put(self, key: str, kind: str, text: str) -> None:
        """Keep a text; where the disk refuses, it is not kept."""
        self.put_many([(key, kind, text)])

    def put_many(self, rows: Iterable[tuple[str, str, str]]) -> bool:
        """Keep all of them, or none; whether they are kept."""
        now = time.time()
        packed = [(key, kind, zlib.compress(text.encode(), 3), now) for key, kind, text in rows]
        with self._open(write=True) as database:
            if database is None:
                return False
            try:
                with database:
                    database.executemany("insert or replace into kept values (?, ?, ?, ?)", packed)
            except sqlite3.OperationalError:  # full, read-only, or locked for too long
                return False
            return True

    def held(self) -> tuple[Held, ...]:
        """What is there, by kind. Raises OtherFormat."""
        with self._open(write=False, strict=True) as database:
            if database is None:
                return ()
            rows = database.execute("select kind, count(*), sum(length(text)) from kept group by kind order by kind")
            return tuple(Held(*row) for row in rows)

    def trouble(self) -> str | None:
        """Why nothing can be kept in it, in one line; None where it can, or another process is writing just now."""
        try:
            with self._open(write=True, strict=True):  # what is damaged is moved aside, and the next one is whole
                pass
            with self._open(write=True, strict=True) as database:
                if database is None:
                    return f"{self.path}: cannot be opened to write, so nothing is kept"
                database.execute("begin immediate")
                database.rollback()
        except OtherFormat as error:
            return f"{error}, so nothing is kept; next: wirecheck cache --clear"
        except sqlite3.OperationalError as error:
            return None if "locked" in str(error) else f"{self.path}: {error}, so nothing is kept"
        return None

    def clear(self) -> None:
        """Take everything away. Raises OSError."""
        for ending in ("", "-journal", ".damaged"):
            self.path.with_name(self.path.name + ending).unlink(missing_ok=True)

    # --- inside ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _open(self, *, write: bool, strict: bool = False) -> Iterator[sqlite3.Connection | None]:
        """A connection; None where there is none to be had."""
        try:
            database = self._connected(write=write)
        except OtherFormat:
            if strict:
                raise
            database = None
        except (sqlite3.DatabaseError, OSError) as error:
            if _is_damage(error):
                self._set_aside()
            database = None
        if database is None:
            yield None
            return
        with closing(database):
            yield database

    def _connected(self, *, write: bool) -> sqlite3.Connection | None:
        if not write and not self.path.is_file():
            return None
        if write:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        mode = "rwc" if write else "ro"
        database = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode={mode}", uri=True, timeout=BUSY_S)
        try:
            (found,) = database.execute("pragma user_version").fetchone()
            if found not in (0, FORMAT):
                raise OtherFormat(f"{self.path}: made in format {found}, and this wirecheck keeps {FORMAT}")
            if write and found == 0:
                with database:
                    database.execute(_TABLE)
                    database.execute(f"pragma user_version = {FORMAT}")
            if found == 0 and not write:
                database.close()
                return None
        except BaseException:
            database.close()
            raise
        return database

    def _one(self, database: sqlite3.Connection | None, key: str) -> str | None:
        if database is None:
            return None
        try:
            row = database.execute("select text from kept where key = ?", (key,)).fetchone()
            return None if row is None else zlib.decompress(row[0]).decode()
        except (zlib.error, UnicodeDecodeError):
            return None
        except sqlite3.DatabaseError as error:
            if _is_damage(error):
                self._set_aside()
            return None

    def _set_aside(self) -> None:
        try:
            self.path.replace(self.path.with_name(f"{self.path.name}.damaged"))
        except OSError:
            return


def _is_damage(error: Exception) -> bool:
    """Whether the file is no whole database, as against one that cannot be had now."""
    return isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
