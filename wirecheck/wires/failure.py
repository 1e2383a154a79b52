"""How a failing wire says where it failed, and on what."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from wirecheck.errors import CannotRun
from wirecheck.limits import machine_limit, one_line, out_of_memory, shortage


class StepFailed(Exception):
    """A part of the wire raised; `message` is the error with what the part was given, on one line."""

    def __init__(self, part_name: str, message: str) -> None:
        super().__init__(f"{part_name}: {message}")
        self.part = part_name
        self.message = message


class OutOfMemory(MemoryError):
    """Memory ran out in a part of the wire: the message names it, and the bytes asked for and had."""


@contextmanager
def part(name: str, **tensors: Tensor) -> Iterator[None]:
    """Turns whatever is raised inside into StepFailed, with shape, dtype and device of `tensors`.

    What speaks of this machine and not of the wire is MemoryError where memory ran out, else CannotRun.
    """
    try:
        yield
    except (StepFailed, OutOfMemory, CannotRun):
        raise
    except Exception as error:
        if out_of_memory(error):
            raise OutOfMemory(f"not enough memory on this machine for {name}: {shortage(error)}") from error
        limit = None if _is_the_wires_import(error) else machine_limit(error)
        if limit is not None:
            raise CannotRun(f"{name}: {limit}") from error
        given = ", ".join(f"{k} {list(t.shape)} {t.dtype} {t.device}".replace("torch.", "") for k, t in tensors.items())
        told = f"{type(error).__name__}: {one_line(error)}"
        raise StepFailed(name, f"{told} (given {given})" if given else told) from error


def _is_the_wires_import(error: Exception) -> bool:
    """Whether what cannot be imported is asked for by the user's own code, and not by a library or by wirecheck."""
    if not isinstance(error, ImportError):
        return False
    files = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    asking = [file for file in files if "importlib" not in str(file)]  # those frames import for whoever asks
    return bool(asking) and not _is_a_librarys(asking[-1])


def _is_a_librarys(file: Path) -> bool:
    ours, python = Path(__file__).parent.parent, Path(sysconfig.get_path("stdlib"))
    return any(home in file.parents for home in (ours, python)) or bool(
        {"site-packages", "dist-packages"} & {*file.parts}
    )
