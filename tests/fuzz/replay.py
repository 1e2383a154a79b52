"""Kept inputs through the contract, without a fuzzer, in a process of its own: `python -m tests.fuzz.replay [TARGET…]`.

Prints one JSON object: of each target how its inputs ended, and every breach.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from tests.fuzz.contract import Breach, Watch, confine, held
from tests.fuzz.targets import TARGETS, Target


def replay(one: Target, inputs: tuple[Path, ...], watch: Watch) -> dict[str, Any]:
    """How the inputs ended, and which broke the contract, by name."""
    endings: Counter[str] = Counter()
    broken: dict[str, str] = {}
    for path in inputs:
        data = path.read_bytes()
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            one.place(data, folder)
            try:
                endings[held(lambda: one.read(data, folder), one.errors, one.bounds, watch, exact=True)] += 1  # noqa: B023
            except Breach as breach:
                broken[path.name] = str(breach)
    return {"endings": dict(endings), "broken": broken}


def main(names: list[str]) -> int:
    """The exit code: 1 where an input broke the contract."""
    from tests.fuzz.seeds import kept

    sys.dont_write_bytecode = True
    asked = [one for one in TARGETS if not names or one.name in names]
    for one in asked:
        _warm(one, kept(one.name)[:3])
    watch, told = Watch(), {}
    confine(max((one.bounds for one in asked), key=lambda bounds: bounds.memory_bytes))
    for one in asked:
        told[one.name] = replay(one, kept(one.name), watch)
    json.dump(told, sys.stdout)
    return int(any(one["broken"] for one in told.values()))


def _warm(one: Target, inputs: tuple[Path, ...]) -> None:
    """Import what reading imports, so that no input is blamed for it."""
    for path in inputs:
        folder = Path(tempfile.mkdtemp())
        try:
            one.place(path.read_bytes(), folder)
            one.read(path.read_bytes(), folder)
        except Exception:  # noqa: BLE001 - read again below, under the contract
            continue
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
