"""How long the checks that run models take: every EMB check on one twin, every WIR check, the architecture table.

python benchmarks/running.py [--table]

Seconds are those that the probes themselves report, of the best of three runs; `--table` makes the whole table of
architectures, from cold and again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from stopwatch import ROOT, wirecheck

RECORDED = ("meta-llama__Llama-3.1-8B-Instruct", "Qwen__Qwen2.5-7B-Instruct")
UNPACK = ROOT.parent / "shared" / "assets" / "unpack.py"
DEMO = ROOT / "wirecheck" / "demo_models"
OF_EMBEDS, OF_WIRES = ("embeds-twin", "embeds-use"), ("wire-twin", "wire-use")
EMBEDS_S, WIRES_S, COLD_S, AGAIN_S = 4.0, 10.0, 360.0, 5.0
RUNS = 3


def models(folder: Path) -> list[str]:
    """The recorded pair, whose vocabularies are of true size; the built-in one where it is not beside this checkout."""
    if not UNPACK.is_file():
        return [str(path) for path in sorted(DEMO.iterdir()) if path.is_dir()]
    for name in RECORDED:
        subprocess.run([sys.executable, UNPACK, name, folder / name], check=True, capture_output=True)
    return [f"./{name}" for name in RECORDED]


def probe_seconds(folder: Path) -> dict[tuple[str, str], float]:
    """(probe, subject) -> seconds, of one check."""
    wirecheck("pair", *models(folder), "--depth", "simulated", "--json", "made.json", cwd=folder)
    runs = json.loads((folder / "made.json").read_text(encoding="utf-8"))["runs"]
    return {(run["probe"], run["subject"]): run["seconds"] for run in runs if run["kind"] == "ran"}


def show(name: str, seconds: float, target_s: float) -> None:
    """One line: seconds, target, ratio."""
    print(f"{name:<34} {seconds:7.2f} s   target {target_s:5.1f} s   {seconds / target_s:5.2f} x", flush=True)


def main() -> None:
    """Print a line for each target of the running checks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", action="store_true", help="the table of architectures too (minutes)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        runs = [probe_seconds(Path(place)) for _ in range(RUNS)]
        for side in ("a", "b"):
            show(f"EMB checks, twin {side}", min(sum(run[p, side] for p in OF_EMBEDS) for run in runs), EMBEDS_S)
        show("WIR checks, twins", min(sum(run[p, "pair"] for p in OF_WIRES) for run in runs), WIRES_S)
        if asked.table:
            cold = wirecheck("architectures", "--fresh", "--json", "table.json", cwd=Path(place))
            show("architectures, from cold", cold.seconds, COLD_S)
            again = wirecheck("architectures", "--json", "table.json", cwd=Path(place))
            show("architectures, nothing changed", again.seconds, AGAIN_S)


if __name__ == "__main__":
    main()
