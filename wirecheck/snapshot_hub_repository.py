"""A repository of the hub: where it is asked for, where the cache holds it, and for how long a request may last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from huggingface_hub import constants

from wirecheck.snapshot_hub_calls import ask

T = TypeVar("T")

TIMEOUT_S = float(constants.HF_HUB_DOWNLOAD_TIMEOUT)
"""Without a byte for this long, a request is given up (and tried again)."""
DEADLINE_S = 60.0
_SLOWEST_BYTES_PER_S = 50_000
"""A file is given the deadline plus its size at this speed."""


@dataclass(frozen=True)
class Repository:
    """One repository at one revision, on one endpoint, with one cache."""

    name: str
    revision: str | None
    endpoint: str
    cache: Path

    @property
    def storage(self) -> Path:
        """Its folder in the cache."""
        return self.cache / f"models--{self.name.replace('/', '--')}"

    def folder(self, commit: str) -> Path:
        """The commit's folder in the cache."""
        return self.storage / "snapshots" / commit

    def ask(self, call: Callable[[], T], what: str, size: int = 0) -> T:
        """See `snapshot_hub_calls.ask`."""
        deadline_s = DEADLINE_S + size / _SLOWEST_BYTES_PER_S
        page = f"{without_password(self.endpoint)}/{self.name}"
        return ask(call, repo=self.name, what=what, deadline_s=deadline_s, page=page)

    @property
    def download(self) -> str:
        """The command that fetches everything."""
        return f"hf download {self.name}" + (f" --revision {self.revision}" if self.revision else "")


def without_password(endpoint: str) -> str:
    """An address as it may be printed."""
    parts = urlsplit(endpoint)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
