"""What it costs that a model's files are read, and its probes run, in confined processes: below 150 ms per model.

python benchmarks/isolation.py [--repeat N] [FOLDER ...]

Two whole runs for each round: a check as users run it, and the same with the probes in the process itself. What counts
is the processor time of both and their children, which other work on the machine moves less than the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

from stopwatch import ROOT

TARGET_S = 0.150
ONE = """
import sys
from wirecheck import cli_check, snapshot
if sys.argv.pop(1) == "together":
    from wirecheck.snapshot_folder import read_folder
    snapshot.folder_apart = read_folder
    cli_check.supervised = lambda check: check.run()
from wirecheck import cli
sys.argv[0] = "wirecheck"
cli.main()
"""


def seconds(way: str, folder: Path, depth: str) -> float:
    """Processor time of one run and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = ["model", str(folder), "--depth", depth, "--require", depth]
    command = [sys.executable, "-c", ONE, way, *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    if done.returncode not in (0, 1, 3):
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}:\n{done.stderr.decode(errors='replace')}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    """A line for each model and depth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    built_in = sorted((ROOT / "wirecheck" / "demo_models").glob("*-*"))
    parser.add_argument("folders", nargs="*", type=Path, default=built_in)
    parser.add_argument("--repeat", type=int, default=7)
    asked = parser.parse_args()
    told = {}
    for folder in asked.folders:
        for depth in ("inspected", "simulated"):
            ways = [[seconds(way, folder, depth) for way in ("apart", "together")] for _ in range(asked.repeat)]
            apart, together = (statistics.median(way) for way in zip(*ways, strict=True))
            cost = statistics.median(one - other for one, other in ways)
            name = f"{folder.name}, {depth}"
            told[name] = round(cost, 3)
            line = f"{name:<40} {together:6.2f} s in one process, {apart:6.2f} s confined: {cost * 1000:5.0f} ms more"
            print(f"{line}   target {TARGET_S * 1000:.0f} ms   {cost / TARGET_S:5.2f} x", flush=True)
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
