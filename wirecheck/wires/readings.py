"""Whose tokenizer made the token ids that each model was given: told by what they spell.

B rows   T token ids

A hook on each model's embedding notes every id looked up in one loss, by whatever road it came there. A row is misread
where it spells nothing of the batch's text with the model's own tokenizer, and does with the other model's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from wirecheck.wires.contract import Batch, SideName, Wire, WiredModel
from wirecheck.wires.failure import part

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WINDOW = 6
"""Characters in a row that two texts must share; spaces left out."""


@dataclass(frozen=True)
class Reading:
    """What one model was given to read in one step."""

    num_told: int
    """Rows of ids that spell some of the batch's text with one tokenizer or the other."""
    num_misread: int
    """Those of them that do so with the other model's tokenizer alone."""
    example: str
    """The first misread row as its own model's tokenizer spells it; empty where there is none."""


def readings(wire: Wire, models: tuple[WiredModel, WiredModel], batch: Batch) -> dict[SideName, Reading]:
    """By side, for each model that was given ids. Raises StepFailed, MemoryError, CannotRun as `part` does."""
    looked_up: dict[SideName, list[Tensor]] = {one.side: [] for one in models}
    handles = [one.model.get_input_embeddings().register_forward_hook(_noting(looked_up[one.side])) for one in models]
    try:
        with part("loss"), torch.enable_grad():
            wire.loss(batch)
    finally:
        for handle in handles:
            handle.remove()
    windows = {text[n : n + WINDOW] for text in map(_plain, (*batch.sources, *batch.answers)) for n in _starts(text)}
    a, b = models
    return {
        one.side: _read(looked_up[one.side], one.tokenizer, other.tokenizer, windows)
        for one, other in ((a, b), (b, a))
        if looked_up[one.side]
    }


def _noting(seen: list[Tensor]) -> Any:
    def note(_module: nn.Module, args: tuple[Any, ...], _output: Any) -> None:
        if args and isinstance(args[0], Tensor) and args[0].numel():
            seen.append(args[0].detach().reshape(-1, args[0].shape[-1]).cpu())

    return note


def _read(
    seen: list[Tensor], own: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase, windows: set[str]
) -> Reading:
    told, misread, example = 0, 0, ""
    for ids_T in (ids_T for ids_BT in seen for ids_T in ids_BT.tolist()):
        spelt = _spelt(own, ids_T)
        if _shares(spelt, windows):
            told += 1
        elif _shares(_spelt(other, ids_T), windows):
            told, misread, example = told + 1, misread + 1, example or spelt[:60]
    return Reading(told, misread, example)


def _spelt(tokenizer: PreTrainedTokenizerBase, ids: Iterable[int]) -> str:
    """The ids as text; an id that the tokenizer does not have spells nothing."""
    known = [i for i in ids if i < len(tokenizer)]
    return _plain(str(tokenizer.decode(known, skip_special_tokens=True)))


def _shares(spelt: str, windows: set[str]) -> bool:
    return any(spelt[n : n + WINDOW] in windows for n in _starts(spelt))


def _starts(text: str) -> range:
    return range(max(len(text) - WINDOW + 1, 0))


def _plain(text: str) -> str:
    return "".join(text.split())
