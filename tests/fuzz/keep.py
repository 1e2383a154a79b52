"""A small corpus out of a large one: the inputs that between them go every way through the code, shortest first."""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any

from tests.fuzz.seeds import CORPUS
from tests.fuzz.targets import Target

MOST_FILES, MOST_TOTAL, MOST_EACH = 80, 60_000, 8_000
"""Per target: inputs, bytes of all, bytes of one."""
_SEEN = ("/wirecheck/", "/jinja2/", "/gguf/", "/tomllib/")

Way = tuple[str, int, int]
"""File, line before, line."""


def keep(one: Target, corpus: Path) -> str:
    """Put the small corpus in place of the one that was kept. A recorded model's own file is never kept as it is."""
    folder = CORPUS / one.name
    inputs = {path.read_bytes() for place in (folder, corpus) if place.is_dir() for path in place.iterdir()}
    inputs -= _recorded()
    known: set[Way] = set()
    kept: list[bytes] = []
    for data in sorted(inputs, key=lambda data: (len(data), data)):
        if len(data) > MOST_EACH or len(kept) == MOST_FILES or sum(map(len, kept)) + len(data) > MOST_TOTAL:
            continue
        new = _ways(one, data) - known
        if new:
            known |= new
            kept.append(data)
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for data in kept:
        (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    return f"{one.name}: {len(kept)} of {len(inputs)} inputs, {sum(map(len, kept))} bytes, {len(known)} ways"


def _recorded() -> set[bytes]:
    from tests.fuzz.seeds import RECORDED

    held = [path.read_bytes() for path in RECORDED.glob("*/*") if path.is_file() and path.stat().st_size <= MOST_EACH]
    return {*held, *(bytes([number]) + data for data in held for number in range(7))}


def _ways(one: Target, data: bytes) -> set[Way]:
    """What was gone through in reading that input; nothing where it ends otherwise than it should."""
    ways: set[Way] = set()
    last: dict[FrameType, int] = {}

    def look(frame: FrameType, event: str, _given: Any) -> Any:
        path = frame.f_code.co_filename
        if not any(part in path for part in _SEEN):
            return None
        if event == "line":
            ways.add((path, last.get(frame, 0), frame.f_lineno))
            last[frame] = frame.f_lineno
        elif event == "return":
            last.pop(frame, None)
        return look

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        one.place(data, folder)
        sys.settrace(look)
        try:
            one.read(data, folder)
        except one.errors:
            return ways
        except Exception:  # noqa: BLE001 - a finding: it belongs among the regressions
            return set()
        finally:
            sys.settrace(None)
    return ways
