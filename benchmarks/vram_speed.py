"""How long a step takes to be traced, and a frontier to be found, against their targets.

python benchmarks/vram_speed.py

Seconds are of the trace alone, in a process that has loaded the library, and of `wirecheck fit` over its eight GPUs as
it reports them; memory is that of the largest process so far. The recorded models must lie beside this checkout.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from running import RECORDED, UNPACK, show
from stopwatch import ROOT, wirecheck

sys.path.insert(0, str(ROOT))

from wirecheck.schema import TrainSpec, WireSpec
from wirecheck.vram.gpus import find
from wirecheck.vram.plan import Step
from wirecheck.zoo import transformers_library

EXPERTS = ("mistralai__Mixtral-8x7B-v0.1", "Qwen__Qwen3-30B-A3B")
PAIR_S, EXPERTS_S, FIT_S, MOST_GB = 5.0, 10.0, 20.0, 1.5
UNIT = 1 if sys.platform == "darwin" else 1024


def trace_seconds(pair: tuple[str, str], folder: Path) -> float:
    """Of one step on an A100's kernels."""
    read = transformers_library().AutoConfig.from_pretrained
    step = Step({"a": read(folder / pair[0]), "b": read(folder / pair[1])}, WireSpec(), TrainSpec())
    begin = time.perf_counter()
    step.traced(find("A100-80GB"))
    return time.perf_counter() - begin


def fit_seconds(pair: tuple[str, str], folder: Path) -> float:
    """Of the whole search, without the start of Python."""
    wirecheck("fit", *(f"./{name}" for name in pair), "--json", "fit.json", cwd=folder)
    return float(json.loads((folder / "fit.json").read_text(encoding="utf-8"))["seconds"])


def main() -> None:
    """Print a line for each target of the trace."""
    if not UNPACK.is_file():
        raise SystemExit("the recorded models are not beside this checkout")
    with tempfile.TemporaryDirectory() as place:
        for name in (*RECORDED, *EXPERTS):
            subprocess.run([sys.executable, UNPACK, name, Path(place) / name], check=True, capture_output=True)
        for pair, target in ((RECORDED, PAIR_S), (EXPERTS, EXPERTS_S)):
            show(
                "trace, " + " + ".join(name.partition("__")[2][:11] for name in pair),
                trace_seconds(pair, Path(place)),
                target,
            )
            show(
                "fit, " + " + ".join(name.partition("__")[2][:11] for name in pair),
                fit_seconds(pair, Path(place)),
                FIT_S,
            )
    most = (
        max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) * UNIT / 1e9
    )
    print(f"{'largest process':<34} {most:7.2f} GB  target {MOST_GB:4.1f} GB  {most / MOST_GB:5.2f} x")


if __name__ == "__main__":
    main()
