"""How a failing wire says where it failed, and on what."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor


class StepFailed(Exception):
    """A part of the wire raised; `message` is the error with what the part was given, on one line."""

    def __init__(self, part_name: str, message: str) -> None:
        super().__init__(f"{part_name}: {message}")
        self.part = part_name
        self.message = message


@contextmanager
def part(name: str, **tensors: Tensor) -> Iterator[None]:
    """Turns whatever is raised inside into StepFailed, with shape, dtype and device of `tensors`.

    Raises MemoryError where memory ran out: that speaks of this machine, not of the wire.
    """
    try:
        yield
    except (StepFailed, MemoryError):
        raise
    except Exception as error:
        if "can't allocate memory" in str(error):  # torch's CPU allocator raises a plain RuntimeError
            raise MemoryError(f"not enough memory on this machine for {name}") from error
        given = ", ".join(f"{k} {list(t.shape)} {t.dtype} {t.device}".replace("torch.", "") for k, t in tensors.items())
        told = f"{type(error).__name__}: {one_line(error)}"
        raise StepFailed(name, f"{told} (given {given})" if given else told) from error


def one_line(error: Exception, limit: int = 300) -> str:
    """An error's message without what changes from run to run: line breaks, memory addresses, folders."""
    text = " ".join(str(error).split())
    text = re.sub(r"0x[0-9a-f]+", "0x…", text)
    text = re.sub(r"(?:/[\w.+-]+)+/([\w.+-]+)", r"\1", text)
    return text if len(text) <= limit else text[: limit - 1] + "…"
