"""What the tests of the Slurm executor let its elements do: imported inside jobs, hence light."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def where() -> str:
    """`node restart`: in which node's which start of the element this runs."""
    return f"{os.environ.get('SLURMD_NODENAME', 'here')} {os.environ.get('SLURM_RESTART_COUNT', '0')}"


def brief(name: str) -> str:
    """An answer after a moment; or the end of the item, its hang, or the end of the whole element."""
    if name.startswith("abort"):
        os.abort()
    if name.startswith("hang"):
        time.sleep(600)
    if name.startswith("poison"):
        os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(0.15)
    return where()


def steady(name: str) -> str:
    """An answer after a second."""
    time.sleep(1)
    return where()


def echoed(name: str) -> str:
    """An answer after a second; on node3 only when an element that was queued again has come to the same name."""
    mark = Path(os.environ["WIRECHECK_TEST_MARKS"]) / name
    node, restart = where().split()
    if restart != "0":
        mark.touch()
    elif node == "node3":
        while not mark.exists():
            time.sleep(0.1)
    else:
        time.sleep(1)
    return where()


brief.runs_code_of_the_user = echoed.runs_code_of_the_user = True  # they reach what the fence keeps off


def stuck_at_first(name: str) -> str:
    """`long` ends only in an element that was queued again."""
    if name == "long" and os.environ.get("SLURM_RESTART_COUNT", "0") == "0":
        time.sleep(600)
    return where()


def wide(name: str) -> str:
    """An answer of 20 kB."""
    return name * (20_000 // len(name))


def loaded(name: str) -> str:
    """The heavy modules that are there without having been asked for."""
    import sys

    return " ".join(sorted({"torch", "transformers", "pydantic", "rich", "typer"} & set(sys.modules)))
