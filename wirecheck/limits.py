"""What an error says of this machine, and not of the model: no memory, no such operation on its CPU, no such package.

Torch-free: errors are known by their type and their words.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from wirecheck.errors import CannotRun

_NO_MEMORY = re.compile(r"(?:can't|cannot) allocate memory|not enough memory|out of memory", re.IGNORECASE)
"""torch's CPU allocator raises a plain RuntimeError; mmap and CUDA have words of their own."""
_NO_KERNEL = re.compile(r"not implemented for '(?:Half|BFloat16|Float8_\w+)'")
"""An operation that the CPU has for wider types: for those (and for integers) its absence is the caller's error."""


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, here or in what the error was raised from."""
    return any(
        isinstance(one, MemoryError)
        or (isinstance(one, OSError) and one.errno == errno.ENOMEM)
        or _NO_MEMORY.search(str(one)) is not None
        for one in _chain(error)
    )


def machine_limit(error: BaseException) -> str | None:
    """Why this machine could not do it, in words; None where the error speaks of the model."""
    if out_of_memory(error):
        return "not enough memory on this machine"
    for one in _chain(error):
        if isinstance(one, ImportError):
            return f"a package is missing or broken here: {one_line(one)}"
        if isinstance(one, RuntimeError) and _NO_KERNEL.search(str(one)):
            return f"this machine's CPU has no such operation: {one_line(one)}"
    return None


@contextmanager
def within_means() -> Iterator[None]:
    """Turns an error that speaks of this machine into CannotRun; others pass."""
    try:
        yield
    except Exception as error:
        limit = machine_limit(error)
        if limit is None:
            raise
        raise CannotRun(limit) from error


def one_line(error: BaseException, limit: int = 300) -> str:
    """An error's message without what changes from run to run: line breaks, memory addresses, folders."""
    text = " ".join(str(error).split()) or "no message"
    text = re.sub(r"0x[0-9a-f]+", "0x…", text)
    text = re.sub(r"(?<![\w/:.-])(?:/[\w.+-]+)+/([\w.+-]+)", r"\1", text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, and what it was raised from."""
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__
