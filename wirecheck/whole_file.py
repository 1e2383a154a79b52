"""A file that is there whole or not at all: written aside, then moved."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def put_whole(path: Path, content: str | bytes) -> None:
    """Put `content` at `path`, making its folder. Raises OSError; then nothing half-written is left."""
    aside: Path | None = None
    try:
        aside = begin_aside(path)
        aside.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        put_in_place(aside, path)
    finally:
        if aside is not None:
            aside.unlink(missing_ok=True)


def begin_aside(path: Path) -> Path:
    """An empty file beside `path`, whose folder is made, to be written and then moved there. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:60]}.", suffix=".part")
    os.close(handle)
    return Path(name)


def put_in_place(aside: Path, path: Path) -> None:
    """Move what was written aside to `path`, when all of it is on the disk. Raises OSError."""
    with aside.open("rb+") as file:
        os.fsync(file.fileno())
    aside.chmod(0o644)
    os.replace(aside, path)  # noqa: PTH105 - one atomic move, by its own name
