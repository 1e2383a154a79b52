"""The planted-fault corpus: run all of it, and write docs/soundness.md or compare with what is committed.

    python scripts/soundness.py             write the page
    python scripts/soundness.py --check     exit 1 where the committed page is not what a run gives now
    python scripts/soundness.py --only WGT  run one family (or `harmless`) and print what is not as it should be

Exit 1, too, where recall is below 99 %, a harmless change raises an alarm, or a verdict is wrong and not known to be.
"""

from __future__ import annotations

import argparse
import difflib
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT)]

from tests.planted import page  # noqa: E402 - the checkout's own packages, after their path is set
from tests.planted.cases import Harmless, Plant  # noqa: E402
from tests.planted.corpus import CASES, Row, run, tally  # noqa: E402
from wirecheck.whole_file import put_whole  # noqa: E402

PAGE = ROOT / "docs" / "soundness.md"
LEAST_RECALL = 0.99


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    parser.add_argument("--only", metavar="FAMILY", help="one family, or `harmless`; writes nothing")
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    begin = time.perf_counter()
    rows = run([case for case in CASES if asked.only is None or _is_of(case, asked.only)], asked.processes)
    troubles = _troubles(rows)
    for line in troubles:
        print(line)
    print(f"{page.summary(rows)}; {time.perf_counter() - begin:.0f} s")
    if asked.only is not None:
        return int(bool(troubles))
    text = page.render(rows)
    if not asked.check:
        put_whole(PAGE, text)
    elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text:
        committed = PAGE.read_text(encoding="utf-8").splitlines() if PAGE.is_file() else []
        print("\n".join(difflib.unified_diff(committed, text.splitlines(), "committed", "now", lineterm="", n=0)))
        print("docs/soundness.md is not what a run gives now: `python scripts/soundness.py` writes it")
        return 1
    return int(_falls_short(rows))


def _is_of(case: object, family: str) -> bool:
    return isinstance(case, Harmless) if family == "harmless" else isinstance(case, Plant) and case.family == family


def _troubles(rows: list[Row]) -> list[str]:
    """What is not as it should be, a line each, with what was said."""
    return [
        f"{result.kind}: {getattr(case, 'code', 'harmless')} {case.base}: {case.what}: {result.new} {result.gone} "
        f"{result.outcome} {result.wrong_verdict} {' / '.join(result.claims)[:600]}"
        for case, result in rows
        if result.kind not in ("found", "silent") or result.wrong_verdict
    ]


def _falls_short(rows: list[Row]) -> bool:
    known = {case for case, _ in rows if isinstance(case, Plant) and case.why_missed}
    wrong = [case for case, _ in page.wrong_verdicts(rows) if case not in known]
    return tally(rows).recall < LEAST_RECALL or any(r.kind == "alarm" for _, r in rows) or bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
