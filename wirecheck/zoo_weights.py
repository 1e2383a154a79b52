"""Real weights, lean: transformers maps the files where it can, and memory is asked for only where it has to copy.

A tensor whose dtype on file is the run's, and which the class takes as it stands, is never copied: its pages belong
to the file, are read when they are used and dropped when memory is short. The mapping is private: whoever writes to
such a tensor writes to a copy of the page, and never to the file.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wirecheck import zoo
from wirecheck.errors import CannotRun
from wirecheck.limits import machine_limit, one_line
from wirecheck.readiness import require_memory, require_weights

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

    from wirecheck.devices import Device
    from wirecheck.snapshot import Snapshot

LOADING = 1.1
"""Memory a load takes at its peak, in sizes of what it copies."""
UNPACKING = 2.2
"""The same where tensors are made twice: a GGUF unpacked, experts cast and then joined."""
_MAPS = Path("/proc/self/maps")


class WeightsRefused(zoo.Unloadable):
    """Real weights, whole and on this disk, that transformers does not load although the memory is there."""


@dataclass(frozen=True)
class Footprint:
    """What the weights take once they are loaded on the CPU."""

    mapped_bytes: int
    """Pages of the files."""
    copied_bytes: int
    """Memory of the process: cast to another dtype, joined, unpacked or not on file."""
    loading_bytes: int
    """Memory of the process at the peak of the load."""

    @property
    def total_bytes(self) -> int:
        """All weights, wherever they lie."""
        return self.mapped_bytes + self.copied_bytes


def load_weights(snapshot: Snapshot, *, dtype: str, trust_remote_code: bool, device: Device = "cpu") -> PreTrainedModel:
    """The real weights in `dtype` on `device`, frozen, in eval mode; on the CPU mapped from files where they can be.

    Raises CannotRun with what this machine lacks, WeightsRefused where it lacks nothing.
    """
    import torch

    require_weights(snapshot)
    if snapshot.has("adapter_config.json") and find_spec("peft"):
        raise CannotRun("adapter_config.json would have peft lay an adapter over the weights: move it away")
    target = getattr(torch, dtype)
    config = zoo.load_config(snapshot, trust_remote_code=trust_remote_code)
    takes = footprint(snapshot, config, target)
    require_memory(takes.loading_bytes, dtype)
    if device != "cpu":
        require_memory(takes.total_bytes, dtype, device)
    options: dict[str, Any] = {"config": config, "dtype": target}
    if snapshot.ref.kind == "gguf":
        options["quantization_config"] = zoo.transformers_library().GgufConfig(dequantize=True)
    else:
        options["use_safetensors"] = True
    try:
        model = zoo.load("AutoModelForCausalLM", snapshot, trust_remote_code=trust_remote_code, **options)
    except zoo.Withheld:
        raise
    except zoo.Unloadable as error:
        raise _why(error, config) from error
    return _placed(zoo.still(model), device)


def _why(error: zoo.Unloadable, config: PretrainedConfig) -> CannotRun:
    """Whose fault it is that these weights do not load."""
    limit = machine_limit(error.__cause__ or error)
    if limit is None and zoo.quantization(config):
        limit = f"whether quantized weights load depends on the machine: {one_line(error)}"
    return WeightsRefused(one_line(error)) if limit is None else CannotRun(limit)


def _placed(model: PreTrainedModel, device: Device) -> PreTrainedModel:
    """The model on that device; tied tensors stay one. CannotRun where it does not fit after all."""
    if device == "cpu":
        return model
    try:
        there: PreTrainedModel = model.to(device)  # type: ignore[arg-type]
    except Exception as error:
        limit = machine_limit(error)
        if limit is None:
            raise
        raise CannotRun(limit) from error
    return there


# --- how much memory a load takes --------------------------------------------------------------------------------


def footprint(snapshot: Snapshot, config: PretrainedConfig, dtype: torch.dtype) -> Footprint:
    """Found by loading stand-ins without data through transformers' own code: what shares their storage is mapped.

    Where that cannot be done (GGUF, quantized weights, names the loader does not take), all is taken for copied.
    """
    elements = sum(tensor.num_elements for tensor in snapshot.tensors.values())
    whole = elements * dtype.itemsize
    if snapshot.ref.kind == "gguf":
        return Footprint(0, whole, int(whole * UNPACKING))
    copied = Footprint(0, whole, int(whole * LOADING))
    if zoo.quantization(config) or not maps_files(snapshot):
        return copied
    try:
        with zoo.quiet():
            return _tried(snapshot, config, dtype)
    except Exception:  # noqa: BLE001 - the load itself will say what it does not take; here the larger figure stands
        return copied


def _tried(snapshot: Snapshot, config: PretrainedConfig, dtype: torch.dtype) -> Footprint:
    import torch
    from safetensors.torch import _TYPES

    model = zoo.build(config, device="meta", dtype=dtype)
    ghosts = {
        name: torch.empty(entry.shape, dtype=_TYPES[entry.dtype], device="meta")
        for name, entry in snapshot.tensors.items()
    }
    zoo.load_ghosts(model, ghosts, dtype)
    on_file = {_storage(ghost) for ghost in ghosts.values()}
    held = {_storage(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    mapped = sum(_bytes(tensor) for storage, tensor in held.items() if storage in on_file)
    copied = sum(_bytes(tensor) for storage, tensor in held.items() if storage not in on_file)
    cast = any(ghost.dtype != dtype and ghost.is_floating_point() for ghost in ghosts.values())
    return Footprint(mapped, copied, int(copied * (UNPACKING if cast and _joins(model) else LOADING)))


def _joins(model: PreTrainedModel) -> bool:
    """Whether the load made tensors of several, or several of one."""
    return any(getattr(used, "operations", None) for used in getattr(model, "_weight_conversions", None) or ())


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.itemsize


def maps_files(snapshot: Snapshot) -> bool:
    """Whether the installed safetensors hands out tensors of these files without copying them, seen on one of them.

    Where a system does not show its mappings, the reader's own word is taken: it maps, but on Windows.
    """
    from safetensors import safe_open

    if not _MAPS.exists():
        return sys.platform != "win32"
    file = max(snapshot.weights, key=lambda one: one.size_bytes or 0)
    largest = max(file.tensors, key=lambda entry: entry.num_bytes)
    with safe_open(file.path, framework="pt") as opened:
        address = opened.get_slice(largest.name)[...].data_ptr()
        return any(begin <= address < end for begin, end in _mappings())


def _mappings() -> list[tuple[int, int]]:
    """Address ranges of this process that stand for files."""
    ranges = []
    for line in _MAPS.read_text().splitlines():
        addresses, _, _, _, inode, *_ = line.split(maxsplit=5)
        if inode != "0":  # a file
            begin, end = addresses.split("-")
            ranges.append((int(begin, 16), int(end, 16)))
    return ranges
