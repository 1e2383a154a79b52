"""Readers that break the contract, each in one way, to see that it is seen: `python -m tests.fuzz.offenders`."""

from __future__ import annotations

import json
import pickle
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.fuzz.contract import Bounds, Breach, Watch, held


def _raises() -> None:
    raise KeyError("weight_map")


def _two_lines() -> None:
    raise ValueError("one\ntwo")


def _says_nothing() -> None:
    raise ValueError


def _spins() -> None:
    while True:
        pass


def _spins_in_c() -> None:
    re.match(r"(a|a)*b", "a" * 24)


def _takes() -> bytes:
    return bytes(64 * 1024**2)


def _swallows() -> None:
    with suppress(OSError):
        Path(tempfile.gettempdir(), "no-such-folder", "x").write_text("x")


def _asks() -> None:
    with suppress(OSError):
        socket.getaddrinfo("localhost", 80)


def _starts() -> None:
    subprocess.run([sys.executable, "-c", ""], check=False)


def _removes() -> None:
    Path(tempfile.gettempdir(), "no-such-file").unlink()


def _names_a_class() -> None:
    pickle.loads(b"cos\ngetcwd\n.")


class _Panic(BaseException):
    pass


def _panics() -> None:
    raise _Panic("index out of bounds")


def _refuses() -> None:
    raise ValueError("not what I read")


def _reads() -> int:
    return len(Path(__file__).read_bytes())


OFFENDERS: dict[str, Callable[[], object]] = {
    "KeyError": _raises,
    "wordy of two lines": _two_lines,
    "wordy of none": _says_nothing,
    "hang": _spins,
    "hang in C": _spins_in_c,
    "memory": _takes,
    "did open for writing": _swallows,
    "did socket": _asks,
    "did subprocess": _starts,
    "did os.remove": _removes,
    "did pickle.find_class": _names_a_class,
    "_Panic": _panics,
}
SOUND: dict[str, Callable[[], object]] = {"ValueError": _refuses, "value": _reads}


def main() -> None:
    """Prints how each ended: the kind of its breach, or what the contract took it for."""
    watch, bounds = Watch(), Bounds(cpu_s=0.2, memory_bytes=16 * 1024**2)
    told = {}
    for name, read in (OFFENDERS | SOUND).items():
        try:
            told[name] = held(read, (ValueError,), bounds, watch, exact=True)
        except Breach as breach:
            told[name] = f"BREACH {breach.kind}"
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
