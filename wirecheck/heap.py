"""Memory that tensors give back stays with this process: the next ones of their size take it again.

glibc maps every block above some size anew and unmaps it when it is freed. A twin's logits, tens of megabytes for each
operation, then cost more in page faults than in arithmetic. No number comes out otherwise.
"""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h."""
LARGEST = 1 << 30
"""Bytes: blocks above it are mapped as before, and free memory above it is given back."""


def keep_freed() -> bool:
    """Whether this process now keeps freed blocks up to `LARGEST` each; with another C library nothing is changed."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_THRESHOLD, LARGEST)) and bool(mallopt(_TRIM_THRESHOLD, LARGEST))
