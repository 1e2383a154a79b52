"""What is made of one model's files and is the same in each of its pairs: made once, and lent from pair to pair.

No pair sees what another did: what probes only read is handed out as it is, what they change as a copy of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from copy import deepcopy
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MOST_BYTES = 1 << 28
"""A model above this is not kept: several are lent in one process, and each copy takes as much again."""
T = TypeVar("T")


class Loan:
    """Of one model, for as long as pairs of it are checked in one process with one request."""

    def __init__(self) -> None:
        self._made: dict[Hashable, Any] = {}

    def read(self, what: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives, the same object each time: for those who only read. Raises what `make` does, each time."""
        if what not in self._made:
            self._made[what] = make()
        return cast("T", self._made[what])

    def copy(self, what: Hashable, make: Callable[[], T], *, of: Callable[[T], PreTrainedModel]) -> T:
        """What `make` gives, a copy each time, which may be changed; `of` tells the model in it.

        A large one is made anew instead.
        """
        if what in self._made:
            return deepcopy(cast("T", self._made[what]))
        made = make()
        if num_bytes(of(made)) <= MOST_BYTES:
            self._made[what] = deepcopy(made)
        return made


def num_bytes(model: PreTrainedModel) -> int:
    """Bytes of a model's parameters and buffers; of those that share memory, each."""
    return sum(tensor.numel() * tensor.itemsize for tensor in (*model.parameters(), *model.buffers()))
