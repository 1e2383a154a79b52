"""Runs wirecheck as a user does, and reports seconds and peak memory against a target."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERDICTS = (0, 1, 3)
"""Exit codes of a command that did what it was asked."""


@dataclass(frozen=True)
class Measure:
    """One run of one command."""

    seconds: float
    peak_bytes: int
    """Largest resident set of the process itself."""
    exit_code: int


def wirecheck(*words: str, cwd: Path) -> Measure:
    """Run this checkout's command in `cwd`. Raises RuntimeError where it ended without a verdict."""
    command = [sys.executable, "-m", "wirecheck.cli", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile() as errors:
        begin = time.perf_counter()
        process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)  # per child; getrusage(RUSAGE_CHILDREN) keeps the largest of all
        seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        story = errors.read().decode(errors="replace")
    if process.returncode not in VERDICTS or "Traceback" in story:
        raise RuntimeError(f"wirecheck {' '.join(words)} ended with {process.returncode}:\n{story}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Measure(seconds, usage.ru_maxrss * unit, process.returncode)


def report(name: str, measures: list[Measure], target_s: float, target_bytes: int | None = None) -> None:
    """One line: the best of the runs, as the others tell of the machine's load; exit codes other than 0 are shown."""
    best = min(measures, key=lambda measure: measure.seconds)
    line = f"{name:<34} {best.seconds:7.2f} s   target {target_s:5.1f} s   {best.seconds / target_s:5.2f} x"
    line += f"   peak {best.peak_bytes / 1e9:5.2f} GB"
    if target_bytes:
        line += f" of {target_bytes / 1e9:.0f} GB"
    if best.exit_code:
        line += f"   exit {best.exit_code}"
    print(line, flush=True)
