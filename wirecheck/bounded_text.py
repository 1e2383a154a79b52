"""A file that the user names, read as text up to a bound: one of gigabytes, or a device, fills no memory."""

from __future__ import annotations

import errno
import io
from pathlib import Path

MOST_RECORD_BYTES = 512 << 20
"""Of a result or another record of ours: that of a thousand models has some tens of megabytes."""
MOST_WRITTEN_BYTES = 16 << 20
"""Of what a person writes: a wirecheck.toml, a list of models, claims, a template."""

_PIECE = 1 << 20


def bounded_text(path: Path, most: int = MOST_WRITTEN_BYTES) -> str:
    """As `Path.read_text` in UTF-8, of at most that many bytes; a pipe's too. Raises OSError past them, and as that."""
    held = io.BytesIO()
    with path.open("rb") as file:  # a piece at a time: what is asked for at once is set aside first
        while held.tell() <= most and (piece := file.read(min(_PIECE, most + 1 - held.tell()))):
            held.write(piece)
    if held.tell() > most:
        raise OSError(errno.EFBIG, f"it has more than the {most >> 20} MiB that are read")
    held.seek(0)
    return io.TextIOWrapper(held, encoding="utf-8").read()
