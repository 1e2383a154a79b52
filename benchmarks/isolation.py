"""What it costs that a model's files are read, and its probes run, in confined processes: below 150 ms per model.

python benchmarks/isolation.py [--repeat N] [FOLDER ...]

Two whole runs for each round, either of them first in turn: a check as users run it, and the same with the probes in
the process itself. What counts is the processor time of both and their children, which other work on the machine moves
less than the clock; and of the runs the least, to which nothing was added by chance. The medians differ by their own
figure, told with its standard error. Two such runs of the same kind differ by as much as the cost is; so before them
comes what the processes themselves cost, which varies little: the one that reads a folder, and the one in which probes
run, before and after torch is imported. A check has one of each.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

from stopwatch import ROOT

TARGET_S = 0.150
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
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
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=False)
    if done.returncode not in (0, 1, 3):
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}:\n{done.stderr.decode(errors='replace')}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


PARTS = """
import json, resource, statistics, sys
from pathlib import Path
from wirecheck import confinement, isolated_child, isolation, scratch, snapshot_apart, snapshot_folder, zoo_warm

folder, fence = Path(sys.argv[1]), confinement.Fence

def spent():
    uses = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)

def of(work):
    work()
    found = []
    for _ in range(30):
        before = spent()
        work()
        found.append(spent() - before)
    return statistics.median(found)

def reading():
    return of(lambda: snapshot_apart.folder_apart(folder)) - of(lambda: snapshot_folder.read_folder(folder))

def child():
    with scratch.Scratch() as own:
        def work():
            confinement.confine(fence(own, programs=False, sockets=False))
            yield isolated_child.Line(kind="nothing", text="{}")
        list(isolation.isolated(work, 60.0, fresh=False, one_thread=False))

told = {"reading the folder": reading(), "the files' probes": of(child)}
zoo_warm.import_libraries()
told["the probes that need torch"] = of(child)
print(json.dumps(told))
"""


def parts(folder: Path) -> dict[str, float]:
    """Processor time, s, of each process of a check that does nothing in it."""
    done = subprocess.run([sys.executable, "-c", PARTS, folder], env=ENVIRONMENT, capture_output=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> int:
    """A line for the processes, then one for each model and depth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    built_in = sorted((ROOT / "wirecheck" / "demo_models").glob("*-*"))
    parser.add_argument("folders", nargs="*", type=Path, default=built_in)
    parser.add_argument("--repeat", type=int, default=9)
    asked = parser.parse_args()
    told: dict[str, list[float]] = {}
    for name, cost in (costs := parts(asked.folders[0])).items():
        print(f"a process for {name:<29} {cost * 1000:5.0f} ms")
    total = sum(costs.values())
    print(f"the processes of one check {total * 1000:18.0f} ms   {total / TARGET_S:5.2f} x of the target", flush=True)
    for folder in asked.folders:
        for depth in ("inspected", "simulated"):
            found: dict[str, list[float]] = {"apart": [], "together": []}
            for turn in range(asked.repeat):
                for way in sorted(found, reverse=bool(turn % 2)):
                    found[way].append(seconds(way, folder, depth))
            apart, together = min(found["apart"]), min(found["together"])
            cost = apart - together
            medians = statistics.median(found["apart"]) - statistics.median(found["together"])
            error = math.sqrt(sum(statistics.variance(way) for way in found.values()) / asked.repeat)
            name = f"{folder.name}, {depth}"
            told[name] = [round(one, 3) for one in (cost, medians, error)]
            line = f"{name:<24} {together:5.2f} s in one process, {apart:5.2f} s confined: {cost * 1000:4.0f} ms more"
            spread = f"medians {medians * 1000:4.0f} ± {error * 1000:.0f} ms"
            print(f"{line}; {spread}   target {TARGET_S * 1000:.0f} ms   {cost / TARGET_S:5.2f} x", flush=True)
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
