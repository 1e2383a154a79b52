"""What a pair costs at `simulated` when its models are known: every pair of the recorded seed models, by probe.

python benchmarks/simulated_pairs.py [--alone] [--order backwards]

One process, one thread, as a tile of `wirecheck matrix` is run; `--alone` lends nothing from pair to pair, as
`wirecheck pair` does. Seconds are the processor's, of this process; by probe they are those the probes report.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import combinations
from pathlib import Path

from stopwatch import ROOT

sys.path.insert(0, str(ROOT))

from tests.benches import SEEDS
from wirecheck import zoo
from wirecheck.gate_shelf import of_side
from wirecheck.heap import keep_freed
from wirecheck.loan import Loan
from wirecheck.runner import Check, Request, Silent
from wirecheck.schema import Level, Policy, ProbeRun, TrainSpec, WireSpec
from wirecheck.snapshot import Snapshot, parse_ref, take

UNPACK = ROOT.parent / "shared" / "assets" / "unpack.py"
TARGET_S = 240 * 2 / 190
"""Of a pair: 190 of them in four minutes on two processors, what its models cost included."""
REQUEST = Request(
    wire=WireSpec(),
    train=TrainSpec(),
    policy=Policy(required=Level.SIMULATED, depth=Level.SIMULATED),
    seed=0,
    command="wirecheck pair",
)


def read(folder: Path) -> dict[str, Snapshot]:
    """The seed models, laid out under `folder`."""
    for name in SEEDS:
        subprocess.run([sys.executable, UNPACK, name, folder / name], check=True, capture_output=True)
    return {name: take(parse_ref(str(folder / name))) for name in SEEDS}


def show(what: str, seconds: float, target_s: float = TARGET_S) -> None:
    """One line: seconds, target, ratio."""
    print(f"{what:<34} {seconds:7.2f} s   target {target_s:5.2f} s   {seconds / target_s:5.2f} x", flush=True)


def model_runs(snapshots: dict[str, Snapshot]) -> dict[str, tuple[ProbeRun, ...]]:
    """Every probe of every model, and a line for what one takes."""
    runs: dict[str, tuple[ProbeRun, ...]] = {}
    begin = time.process_time()
    for name, one in snapshots.items():
        check = Check(REQUEST, one, one, Silent())
        check.model()
        runs[name] = tuple(check.runs)
    show("a model, all its probes", (time.process_time() - begin) / len(runs))
    return runs


def main() -> int:
    """Print a line for the models, for each pair, for each probe of a pair, and for all pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--order", choices=("forwards", "backwards"), default="forwards")
    asked = parser.parse_args()
    if not UNPACK.is_file():
        parser.error("the recorded models are not beside this checkout")
    import torch

    zoo.transformers_library()
    torch.set_num_threads(1)
    keep_freed()
    with tempfile.TemporaryDirectory() as folder:
        snapshots = read(Path(folder))
        runs = model_runs(snapshots)
        lent = {name: Loan() for name in SEEDS}
        pairs = list(combinations(SEEDS, 2))[:: -1 if asked.order == "backwards" else 1]
        by_probe: Counter[str] = Counter()
        total = 0.0
        for a, b in pairs:
            known = {"a": runs[a], "b": of_side(runs[b], "b")}
            given = {} if asked.alone else {"a": lent[a], "b": lent[b]}
            begin = time.process_time()
            result = Check(REQUEST, snapshots[a], snapshots[b], Silent(), known=known, lent=given).run()
            seconds = time.process_time() - begin
            total += seconds
            by_probe.update({run.probe: run.seconds for run in result.runs if run.subject == "pair"})
            show(" + ".join(name.partition("__")[2][:15] for name in (a, b)), seconds)
    for probe, seconds in by_probe.most_common():
        show(f"  of it {probe}", seconds / len(pairs))
    show(f"a pair, of {len(pairs)}", total / len(pairs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
