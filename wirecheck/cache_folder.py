"""Where wirecheck keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path

STORE = "answers.sqlite"
"""The store of all that is kept by key, in that folder."""


def cache_home() -> Path:
    """WIRECHECK_CACHE, else the user's cache folder."""
    given = os.environ.get("WIRECHECK_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wirecheck"
