"""A file that is there whole or not at all: written aside, then moved."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def put_whole(path: Path, text: str) -> None:
    """Put `text` at `path`, making its folder. Raises OSError; then nothing half-written is left."""
    aside: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:60]}.", suffix=".part")
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(aside).chmod(0o644)
        os.replace(aside, path)  # noqa: PTH105 - one atomic move, by its own name
    finally:
        if aside is not None:
            Path(aside).unlink(missing_ok=True)
