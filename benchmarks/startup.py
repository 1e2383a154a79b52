"""How fast the commands that only talk start: each must stay under 0.4 s, which loading torch alone would break.

python benchmarks/startup.py [--repeat N]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from stopwatch import ROOT, report, wirecheck

TARGET_S = 0.4


def main() -> int:
    """Print one line per command: the best of the repeats, the target, their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
    results = sorted((ROOT / "reports").glob("*.json"))
    with tempfile.TemporaryDirectory() as folder:
        commands = [["--help"], ["explain", "TOK06"]]
        commands += (
            [["report", str(results[0])], ["report", str(results[0]), "--report", "out.html"]] if results else []
        )
        for words in commands:
            name = " ".join(Path(word).name for word in words)
            report(name, [wirecheck(*words, cwd=Path(folder)) for _ in range(repeat)], TARGET_S)
    if not results:
        print("report: not measured, reports/ holds no result: make reports")
    return 0


if __name__ == "__main__":
    sys.exit(main())
