"""A file that the user names, read as text up to a bound: one of gigabytes, or a device, fills no memory."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

MOST_RECORD_BYTES = 512 << 20
"""Of a result or another record of ours: that of a thousand models has some tens of megabytes."""
MOST_WRITTEN_BYTES = 16 << 20
"""Of what a person writes: a wirecheck.toml, a list of models, claims, a template."""


def bounded_text(path: Path, most: int = MOST_WRITTEN_BYTES) -> str:
    """As `Path.read_text` in UTF-8, of at most that many bytes; a pipe's too. Raises OSError past them, and as that."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size  # what is asked for is set aside first; a pipe has no size
        content = file.read(min(size or most, most) + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than the {most >> 20} MiB that are read")
    return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8").read()
