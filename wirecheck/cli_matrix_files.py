"""The files of a matrix, written while its cells are made: no more than one of them is in memory. Each is there whole
or not at all: written aside, then moved.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from wirecheck.cli_output import Refusals, written
from wirecheck.cli_reports import FACES as PAIR_FACES
from wirecheck.errors import OutputNotWritten, UsageError
from wirecheck.matrix_records import Matrix, MatrixCell
from wirecheck.matrix_tally import Tally
from wirecheck.matrix_work import Pair
from wirecheck.schema import PairResult
from wirecheck.views import matrix as view
from wirecheck.whole_file import Aside, put_whole

PAGES = {".md": view.render, ".html": view.render_html}
"""Made at the end, from the sums and the best pairs."""
ROWS = (".csv", ".jsonl", ".parquet")
"""A row for each pair."""
ENDINGS = (*PAGES, *ROWS)
_GROUP = 20_000
"""Rows of a group of a Parquet file."""
_NAME = 50
"""Characters of a model's name that a file's name bears."""


class _File(ABC):
    """One file that is being written, aside."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._aside: Aside | None = None
        self._stream: Any = None
        """What rows are written to."""

    @property
    def aside(self) -> Path:
        """What is written until it is published."""
        assert self._aside is not None
        return self._aside.path

    def begin(self) -> None:
        """Open it. Raises OSError."""
        self._aside = Aside(self.path)

    @abstractmethod
    def add(self, cell: MatrixCell) -> None:
        """One row more. Raises OSError."""

    @abstractmethod
    def end(self, head: Matrix) -> None:
        """Write what is left. Raises OSError."""

    def publish(self) -> None:
        """Move it to its place. Raises OSError."""
        assert self._aside is not None
        self._aside.put_in_place()

    def drop(self) -> None:
        """Nothing of it is left but what was published."""
        with suppress(OSError):
            if self._stream is not None:
                self._stream.close()
        if self._aside is not None:
            self._aside.drop()


class _Lines(_File):
    """CSV and JSON Lines."""

    def begin(self) -> None:
        """Open it. Raises OSError."""
        super().begin()
        self._stream = self.aside.open("w", encoding="utf-8", newline="\n")
        self._is_csv = self.path.suffix.lower() == ".csv"
        if self._is_csv:
            self._stream.write(view.csv_line(view.COLUMNS))

    def add(self, cell: MatrixCell) -> None:
        """One row more. Raises OSError."""
        self._stream.write(view.csv_line(view.row(cell)) if self._is_csv else f"{cell.model_dump_json()}\n")

    def end(self, head: Matrix) -> None:  # noqa: ARG002 - rows alone
        """Write what is left. Raises OSError."""
        self._stream.close()


class _Record(_File):
    """The whole record as JSON, its cells last, one on each line."""

    def begin(self) -> None:
        """Open it. Raises OSError."""
        super().begin()
        self._stream = tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n", dir=self.path.parent)  # noqa: SIM115
        self._any = False

    def add(self, cell: MatrixCell) -> None:
        """One row more. Raises OSError."""
        self._stream.write(f"{',' if self._any else ''}\n  {cell.model_dump_json()}")
        self._any = True

    def end(self, head: Matrix) -> None:
        """Write what is left. Raises OSError."""
        self._stream.seek(0)
        with self.aside.open("w", encoding="utf-8", newline="\n") as file:
            file.write(head.model_dump_json(indent=1, exclude={"cells"}).removesuffix("\n}"))
            file.write(',\n "cells": [')
            shutil.copyfileobj(self._stream, file)
            file.write("\n ]\n}\n" if self._any else "]\n}\n")


class _Parquet(_File):
    """Columns as view.COLUMNS, in groups of rows."""

    def begin(self) -> None:
        """Open it. Raises OSError."""
        super().begin()
        import pyarrow as pa
        import pyarrow.parquet as pq

        text, whole = pa.string(), pa.int64()
        types = (text, text, text, text, whole, whole, pa.float64(), whole, text, text, pa.float64(), pa.bool_())
        self._schema = pa.schema(list(zip(view.COLUMNS, types, strict=True)))
        self._stream = pq.ParquetWriter(self.aside, self._schema)
        self._rows: list[list[object]] = []

    def add(self, cell: MatrixCell) -> None:
        """One row more. Raises OSError."""
        self._rows.append(view.row(cell))
        if len(self._rows) >= _GROUP:
            self._flush()

    def end(self, head: Matrix) -> None:  # noqa: ARG002 - rows alone
        """Write what is left. Raises OSError."""
        self._flush()
        self._stream.close()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._rows:
            columns = [list(column) for column in zip(*self._rows, strict=True)]
            self._stream.write_table(pa.table(columns, schema=self._schema))
            self._rows = []


def check_endings(reports: Sequence[Path], json: str | None = None) -> None:
    """Raise UsageError where a file cannot be made, before anything is run."""
    for path in [*reports, *([Path(json)] if json and json != "-" else [])]:
        if path.is_dir():
            raise UsageError(f"{path}: is a folder", next_step="name a file")
    for path in reports:
        ending = path.suffix.lower()
        if ending not in ENDINGS:
            raise UsageError(
                f"--report {path}: no matrix has the ending {path.suffix or '(none)'}",
                next_step=f"use one of {', '.join(ENDINGS)}",
            )
        if ending == ".parquet":
            _check_parquet(path)


def _check_parquet(path: Path) -> None:
    try:
        import pyarrow.parquet  # noqa: F401 - whether it is there
    except ImportError:
        raise UsageError(
            f"--report {path}: Parquet is written by pyarrow, which is not installed",
            next_step="pip install 'wirecheck[parquet]', or ask for a .csv or a .jsonl",
        ) from None


class MatrixFiles:
    """The row files of one matrix, open."""

    def __init__(self, json: Path | None, reports: Sequence[Path]) -> None:
        self._refused = Refusals()
        rows = [path for path in reports if path.suffix.lower() in ROWS]
        self._files: list[_File] = [_Record(json)] if json else []
        self._files += [_Parquet(path) if path.suffix.lower() == ".parquet" else _Lines(path) for path in rows]

    def add(self, cell: MatrixCell) -> None:
        """One cell more, in every file; one that is refused is given up, and keeps no other from going on."""
        for file in list(self._files):
            with self._tried(file):
                file.add(cell)

    def publish(self, head: Matrix) -> None:
        """Put every file in its place; one that cannot be keeps no other from it. Raises OutputNotWritten."""
        with self._refused:
            for file in list(self._files):
                with self._tried(file):
                    file.end(head)
                    file.publish()

    @contextmanager
    def _tried(self, file: _File) -> Iterator[None]:
        with self._refused.held():
            try:
                with written(file.path):
                    yield
            except OutputNotWritten:
                self._files.remove(file)
                file.drop()
                raise

    def __enter__(self) -> MatrixFiles:
        with ExitStack() as stack:
            for file in self._files:
                stack.callback(file.drop)
                with written(file.path):
                    file.begin()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def write_pages(reports: Sequence[Path], head: Matrix, tally: Tally, links: dict[Pair, Path]) -> None:
    """The markdown and the page; `links` says where pairs have reports of their own. Raises OutputNotWritten."""
    with Refusals() as refused:
        for path in reports:
            ending = path.suffix.lower()
            if ending in PAGES:
                own = {pair: _link(path, to.with_suffix(ending)) for pair, to in links.items()}
                refused.write(path, partial(PAGES[ending], head, tally, own))


def _link(page: Path, to: Path) -> str:
    return quote(Path(os.path.relpath(to, page.parent)).as_posix())


def write_pair(folder: Path, pair: Pair, result: PairResult, taken: set[str]) -> Path:
    """A pair's report, as markdown and as a page; the name both have, without an ending. Raises OutputNotWritten."""
    base = "+".join(re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:_NAME].strip(".") or "model" for name in pair)
    name, n = base, 2
    while name.lower() in taken:
        name, n = f"{base}.{n}", n + 1
    taken.add(name.lower())
    for ending in PAGES:
        with written(folder / f"{name}{ending}"):
            put_whole(folder / f"{name}{ending}", PAIR_FACES[ending](result))
    return folder / f"{name}.md"
