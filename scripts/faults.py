"""Faults and load, with figures: each part is run, and its table in docs/faults.md written again.

    python scripts/faults.py disks|signals|interrupts|together|findings|load [SECONDS [COMMAND ...]]

SECONDS bounds what each command of `disks`, `signals` and `interrupts` may take; of their tables only the rows of the
commands that are named are made again. FAULTS_AT_ONCE is how many of their runs are under way at a time, 3 by default.
What does not hold goes to stderr, and the exit is 1. Only Linux; nothing is asked of the network.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import partial
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


def main(part: str, seconds: float, names: Sequence[str]) -> int:
    """Run one part; 1 where something does not hold."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what is begun in the background would ignore it
    sys.path.insert(0, str(ROOT))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    os.environ["OMP_NUM_THREADS"] = "1"
    from scripts import faults_disks, faults_load

    parts: dict[str, Callable[..., Iterable[tuple[str, ...]]]] = {
        "disks": partial(faults_disks.disks, names),
        "signals": partial(faults_disks.signals, names),
        "interrupts": partial(faults_disks.interrupts, names),
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
            _write(part, rows, named=bool(names))
    return 1 if wrong else 0


def _write(part: str, rows: Sequence[tuple[str, ...]], *, named: bool) -> None:
    """The table between the part's two comments in the page; where commands were named, the others' rows stay."""
    begin, end = f"<!-- {part} -->\n", f"<!-- /{part} -->"
    text = PAGE.read_text(encoding="utf-8")
    found = re.search(f"{begin}(.*?){end}", text, flags=re.DOTALL)
    assert found is not None, f"no table of {part} in {PAGE}"
    table = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in found[1].split("\n") if line]
    kept = {row[0]: [one for one in table[2:] if one[0] == row[0]] for row in table[2:] if named}
    for name in {row[0] for row in rows}:
        kept[name] = [row for row in rows if row[0] == name]
    all_rows = (HEADS[part], ("---",) * len(HEADS[part]), *(row for own in kept.values() for row in own))
    made = "\n".join(f"| {' | '.join(cells)} |" for cells in all_rows)
    PAGE.write_text(text.replace(found[0], f"{begin}\n{made}\n\n{end}"), encoding="utf-8")


if __name__ == "__main__":
    given = sys.argv[2:]
    sys.exit(main(sys.argv[1], float(given[0]) if given else 120.0, given[1:]))
