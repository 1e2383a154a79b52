"""Blocks reserved for bytes that are still to come: what a disk or a quota refuses, it refuses at once."""

from __future__ import annotations

import ctypes
import errno
import sys

_KEEP_SIZE = 1
"""FALLOC_FL_KEEP_SIZE of fallocate(2): blocks are reserved, the file stays as long as it is."""
NOT_TOLD = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EINTR)
"""Errors that say nothing of room: the file system does not reserve, or did not come to it."""


def fallocate(file: int, count: int) -> int:
    """Reserve `count` bytes from the file's beginning; its length stays. 0, or the error's number.

    Linux's own call: the C library's posix_fallocate would write zeros where this one refuses.
    """
    if sys.platform != "linux":
        return errno.ENOSYS
    library = ctypes.CDLL(None, use_errno=True)
    call = getattr(library, "fallocate64", None) or getattr(library, "fallocate", None)
    if call is None:
        return errno.ENOSYS
    call.argtypes, call.restype = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64), ctypes.c_int
    return ctypes.get_errno() if call(file, _KEEP_SIZE, 0, count) != 0 else 0
