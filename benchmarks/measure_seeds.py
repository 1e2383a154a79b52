"""The three seed pairs at full shape on a CUDA device: the peaks that were read, beside the formula's, in one file.

Each pair is written as snapshots of random bfloat16 weights (see lean_pair.py), checked with `wirecheck pair --depth
measured --device cuda`, and removed. Without a CUDA device, or without the recorded configs, nothing is written.

python benchmarks/measure_seeds.py [--folder DIR] [--out reports/measured.json] [-- OPTIONS OF wirecheck pair]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from lean_pair import UNPACK, prepare
from stopwatch import ROOT, VERDICTS

PAIRS = (
    ("meta-llama__Llama-3.2-1B-Instruct", "mistralai__Mistral-7B-Instruct-v0.3"),
    ("meta-llama__Llama-3.2-3B-Instruct", "Qwen__Qwen2.5-1.5B-Instruct"),
    ("meta-llama__Llama-3.1-8B-Instruct", "Qwen__Qwen2.5-7B-Instruct"),
)


def device() -> dict[str, Any] | None:
    """The CUDA device and the versions that drive it; None where there is none."""
    import torch

    if not torch.cuda.is_available():
        return None
    about = torch.cuda.get_device_properties(0)
    return {
        "name": about.name,
        "total_bytes": about.total_memory,
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
    }


def measure(pair: tuple[str, str], folder: Path, options: list[str]) -> dict[str, Any]:
    """What the probes of the rung `measured` found on one pair. Raises RuntimeError where the check did not end."""
    words = [sys.executable, "-m", "wirecheck.cli", "pair", *(f"./{name}" for name in pair), "--device", "cuda"]
    words += ["--depth", "measured", "--require", "measured", "--json", "result.json", *options]
    done = subprocess.run(words, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
    if done.returncode not in VERDICTS:
        raise RuntimeError(f"wirecheck ended with {done.returncode} on {' and '.join(pair)}")
    result = json.loads((folder / "result.json").read_text())
    runs = [run for run in result["runs"] if run["level"] == "measured"]
    kept = ("probe", "subject", "kind", "seconds", "reason", "error", "findings", "facts")
    return {
        "pair": list(pair),
        "command": " ".join(["wirecheck", *words[3:]]),
        "environment": result["environment"],
        "runs": [{key: run[key] for key in kept if key in run} for run in runs],
    }


def main() -> int:
    """Measure every pair, then write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where weights are written; by default a new temporary folder")
    parser.add_argument("--out", type=Path, default=ROOT / "reports" / "measured.json")
    parser.add_argument("options", nargs="*", help="handed to `wirecheck pair`")
    asked = parser.parse_args()
    seen = device()
    if seen is None:
        parser.error("no CUDA device on this machine: nothing can be measured, and nothing is written")
    if not UNPACK.is_file():
        parser.error("the recorded configs are not beside this checkout")
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="measure_seeds_"))
    folder.mkdir(parents=True, exist_ok=True)
    measured = []
    for pair in PAIRS:
        try:
            if prepare([folder / name for name in pair], None):
                return 1
            measured.append(measure(pair, folder, asked.options))
        finally:
            for name in pair:
                shutil.rmtree(folder / name, ignore_errors=True)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"device": seen, "weights": "random, N(0, 0.02)", "pairs": measured}, indent=2)
    asked.out.write_text(text + "\n", encoding="utf-8")
    print(f"{asked.out}: {len(measured)} pairs on {seen['name']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
