"""Which parts of a wire's module the texts tried go through: an expert that no text chose is not a dead one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from wirecheck.wires.contract import Batch

ROWS = 4
"""Texts of one batch."""


def words_of(batch: Batch) -> Iterator[Batch]:
    """Every word of its sources as a source of its own, a few at once: short texts are routed most unlike."""
    words = list(dict.fromkeys(word for source in batch.sources for word in source.split()))
    for start in range(0, len(words), ROWS):
        rows = tuple(words[start : start + ROWS])
        yield Batch(rows, tuple(batch.answers[n % len(batch.answers)] for n in range(len(rows))))


@contextmanager
def noting_calls(module: nn.Module) -> Iterator[set[int]]:
    """The identities of the modules inside that are called."""
    called: set[int] = set()

    def note(one: nn.Module, _args: Any) -> None:
        called.add(id(one))

    with ExitStack() as stack:
        for one in module.modules():
            stack.callback(one.register_forward_pre_hook(note).remove)
        yield called


def not_chosen(module: nn.Module, names: Iterable[str], called: set[int]) -> list[str]:
    """Those tensors that belong to an item of a list which was never called, while another item of it was."""
    idle = [item for path, items in _lists(module) for item in _idle(path, items, called)]
    return [name for name in names if any(name.startswith(f"{item}.") for item in idle)]


def _lists(module: nn.Module) -> Iterator[tuple[str, Sequence[nn.Module]]]:
    for name, one in module.named_modules():
        if isinstance(one, nn.ModuleList):
            yield name, list(one)


def _idle(name: str, items: Sequence[nn.Module], called: set[int]) -> list[str]:
    used = [any(id(part) in called for part in item.modules()) for item in items]
    return [f"{name}.{n}" for n, was in enumerate(used) if not was] if any(used) else []
