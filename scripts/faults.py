"""Faults and load, with figures: each part is run, and its table in docs/faults.md written again.

    python scripts/faults.py disks|signals|interrupts|together|findings|load [SECONDS]

SECONDS bounds what each command of `disks`, `signals` and `interrupts` may take. What does not hold goes to stderr, and
the exit is 1. Only Linux; nothing is asked of the network.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "faults.md"
HEADS = {
    "disks": ("command", "writes", "the disk is", "runs", "exit codes", "wrong"),
    "signals": ("command", "signal", "runs", "exit codes", "longest to its end, s", "wrong"),
    "interrupts": ("command", "signal", "runs", "exit codes", "longest to its end, s", "wrong"),
    "together": ("what", "processes", "exit codes", "wrong"),
    "findings": ("view", "10,000 findings: s", "MB", "peak, MB", "100 MB of claims: s", "MB", "peak, MB"),
    "load": (
        "gates at once",
        "caches, depth",
        "exit codes",
        "wall, s",
        "peak of all, MB",
        "requests",
        "most of one file",
        "wrong",
    ),
}


def main(part: str, seconds: float) -> int:
    """Run one part; 1 where something does not hold."""
    sys.path.insert(0, str(ROOT))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    os.environ["OMP_NUM_THREADS"] = "1"
    from scripts import faults_disks, faults_load

    parts: dict[str, Callable[..., Iterable[tuple[str, ...]]]] = {
        "disks": faults_disks.disks,
        "signals": faults_disks.signals,
        "interrupts": faults_disks.interrupts,
        "together": faults_load.together,
        "findings": faults_load.findings,
        "load": faults_load.load,
    }
    wrong: list[str] = []

    def told(line: str) -> None:
        wrong.append(line)
        sys.stderr.write(f"{line}\n")

    rows = []
    with tempfile.TemporaryDirectory(prefix="faults-") as place:
        for row in parts[part](Path(place), seconds, told):
            rows.append(row)
            sys.stdout.write(f"{' | '.join(row)}\n")
            sys.stdout.flush()
            _write(part, rows)
    return 1 if wrong else 0


def _write(part: str, rows: Iterable[tuple[str, ...]]) -> None:
    """The table between the part's two comments in the page."""
    lines = [f"| {' | '.join(cells)} |" for cells in (HEADS[part], ["---"] * len(HEADS[part]), *rows)]
    begin, end = f"<!-- {part} -->\n", f"<!-- /{part} -->"
    table = "\n".join(lines)
    text = PAGE.read_text(encoding="utf-8")
    made = re.sub(f"{begin}.*?{end}", lambda _: f"{begin}\n{table}\n\n{end}", text, flags=re.DOTALL)
    PAGE.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    given = sys.argv[2:]
    sys.exit(main(sys.argv[1], float(given[0]) if given else 120.0))
