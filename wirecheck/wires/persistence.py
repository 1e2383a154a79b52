"""Does a trained wire come back from its file: state saved through safetensors, loaded into a wire of another start.

state(θ) -> file -> θ'      L(θ') = L(θ), and every trained tensor is in the file
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wirecheck.errors import CannotRun
from wirecheck.limits import one_line
from wirecheck.wires.contract import Batch, WiredModel
from wirecheck.wires.failure import part
from wirecheck.wires.steady import Forward, SteadyWire, apart
from wirecheck.wires.watch import Observation

SAME = 1e-6
"""Distance of two runs of the same tensors, over their RMS: the operations are the same, and so mostly are the bits."""


@dataclass(frozen=True, kw_only=True)
class Saved:
    """What a wire's state came to on disk."""

    tensors: dict[str, Tensor]
    """As read back from the file."""
    others: dict[str, Any]
    """Entries that are no tensors, which the file cannot hold."""
    left_out: tuple[str, ...]
    """Trained parameters that are in no entry."""
    foreign: tuple[str, ...]
    """Entries that are tensors of a frozen model."""

    @property
    def num_bytes(self) -> int:
        """Of all tensors."""
        return sum(tensor.numel() * tensor.itemsize for tensor in self.tensors.values())


def save(steady: SteadyWire) -> Saved:
    """The state of the wire's module through a file. StepFailed where the module or the format refuses it."""
    from safetensors.torch import load_file, save_file

    module = steady.wire.module
    with part("state_dict"):
        state = dict(module.state_dict())
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    with _folder() as folder, part("safetensors"):
        file = Path(folder) / "wire.safetensors"
        save_file({name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}, file)
        read = load_file(file)
    return Saved(
        tensors=read,
        others={name: value for name, value in state.items() if name not in tensors},
        left_out=tuple(name for name, p in trained.items() if not _holds(tensors, p)),
        foreign=tuple(name for name in _foreign(tensors, steady.models)),
    )


def _folder() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="wirecheck-")
    except OSError as error:
        raise CannotRun(f"no temporary folder can be made: {one_line(error)}") from error


def _holds(tensors: Mapping[str, Tensor], p: Tensor) -> bool:
    """Whether some entry is the tensor, or a copy of it."""
    alike = [tensor for tensor in tensors.values() if tensor.shape == p.shape]
    same = any(tensor.data_ptr() == p.data_ptr() for tensor in alike)
    return same or any(torch.equal(tensor.to(p), p) for tensor in alike)


def _foreign(tensors: Mapping[str, Tensor], models: tuple[WiredModel, WiredModel]) -> list[str]:
    owned = {p.data_ptr() for one in models for p in one.own_parameters().values()}
    return [name for name, tensor in tensors.items() if tensor.numel() and tensor.data_ptr() in owned]


@dataclass(frozen=True, kw_only=True)
class Restored:
    """A trained wire against one of another start, before and after that was given the first one's state."""

    before: float
    """Largest distance of what the models were handed and said, and of the loss, before loading."""
    after: float
    """The same after loading."""
    losses: tuple[float, float]
    """Of the trained wire, and of the other after loading."""

    @property
    def is_same(self) -> bool:
        """Whether the state holds all that decides the output."""
        return self.after <= SAME


def restore(wanted: Forward | Observation, other: SteadyWire, saved: Saved, batch: Batch) -> Restored:
    """Loads the state into `other`, in place, and compares its step on `batch` with `wanted`, the trained wire's.

    StepFailed where it does not load.
    """
    fresh = other.forward(batch)
    with part("load_state_dict"):
        other.wire.module.load_state_dict({**saved.tensors, **saved.others}, strict=True)
    other.wire.module.eval()
    loaded = other.forward(batch)
    return Restored(before=_distance(wanted, fresh), after=_distance(wanted, loaded), losses=(wanted.loss, loaded.loss))


def _distance(left: Forward | Observation, right: Forward) -> float:
    if len(left.calls) != len(right.calls) or left.losses.keys() != right.losses.keys():
        return float("inf")
    was = {name: float(loss) for name, loss in left.losses.items()}
    handed = [apart(one.embeds_BSD, two.embeds_BSD) for one, two in zip(left.calls, right.calls, strict=True)]
    spoken = [apart(one.logits_BSV, two.logits_BSV) for one, two in zip(left.calls, right.calls, strict=True)]
    losses = [abs(was[name] - now) / max(abs(was[name]), 1e-12) for name, now in right.losses.items()]
    return max((*handed, *spoken, *losses), default=0.0)
