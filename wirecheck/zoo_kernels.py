"""The implementation of attention, or of experts, that a config names: does the library build the class with it?

wirecheck itself runs the library's own choice (`zoo.load_config`), which computes the same; a run that loads the model
plainly takes the named one, and ends there where it is refused. With the other `zoo` modules an importer of
transformers, and only inside functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

from wirecheck import zoo
from wirecheck.errors import CannotRun

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from wirecheck.snapshot import Snapshot

_ATTENTION, _EXPERTS = "attn_implementation", "experts_implementation"


class Named(NamedTuple):
    """What a config names, and what became of building the class with it."""

    key: str
    value: str
    is_fetched: bool = False
    """Whether it is a hub's code: it was not tried."""
    refusal: str | None = None
    """Why the library does not build the class with it; None where it does."""


def named(snapshot: Snapshot, *, trust_remote_code: bool) -> Named | None:
    """The first implementation that the config names, built on the meta device; None for `zoo.PLAIN_ATTENTION` alone.

    What would be fetched from a hub is not tried: it is code that nobody here has trusted. Raises Unloadable.
    """
    config: PretrainedConfig = zoo.load("AutoConfig", snapshot, trust_remote_code=trust_remote_code)
    found = next(_chosen(config), None)
    if found is None:
        return None
    key, value = found
    if key == _ATTENTION and _would_be_fetched(value):
        return Named(key, value, is_fetched=True)
    try:
        zoo.skeleton(config)
    except CannotRun as refused:
        return Named(key, value, refusal=refused.reason)
    return Named(key, value)


def _chosen(config: PretrainedConfig) -> Iterator[tuple[str, str]]:
    for part in zoo.implementing_parts(config):
        for key in (_ATTENTION, _EXPERTS):
            value = getattr(part, f"_{key}", None)
            if isinstance(value, str) and value not in zoo.PLAIN_ATTENTION:
                yield key, value


def _would_be_fetched(value: str) -> bool:
    """Whether the library asks a hub for a kernel: one named by its repository, or flash attention's own stand-in."""
    stands_in = value.startswith("flash_attention") and find_spec("flash_attn") is None
    return "/" in value or (stands_in and find_spec("kernels") is not None)
