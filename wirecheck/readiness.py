"""Whether a model's files can be given to the library here and now, and if not, why."""

from __future__ import annotations

from wirecheck import devices
from wirecheck.errors import CannotRun
from wirecheck.snapshot import JsonUnreadable, Snapshot
from wirecheck.zero_fill import zero_filled

MOST_LAYERS = 4096
LAYER_KEYS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers")
EXPERT_KEYS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")


def absurd_size(snapshot: Snapshot) -> str | None:
    """Why config.json must not even be read by its class: it cannot be, or it names so many layers that lists of them
    would fill the memory. None where nothing speaks against it.
    """
    if not snapshot.has("config.json"):
        return None
    try:
        held = snapshot.read_json("config.json")
    except JsonUnreadable as error:
        return f"config.json: {error}"
    for fields in (held, *(value for value in held.values() if isinstance(value, dict))):
        for key in LAYER_KEYS:
            value = fields.get(key)
            if isinstance(value, int | float) and not 0 <= value <= MOST_LAYERS:
                return f"config.json: {key} is {value}, which no model has"
    return None


def require_weights(snapshot: Snapshot) -> None:
    """Raise CannotRun unless every weight file is whole, on this disk, no pickle, and holds real numbers."""
    name = snapshot.ref.name
    if not snapshot.weights:
        raise CannotRun(f"{name} has no weight files")
    for file in snapshot.weights:
        if file.format == "pickle":
            raise CannotRun(f"{file.name} is pickled, and is never unpickled here")
        if file.problem is not None:
            raise CannotRun(f"{file.name} is {file.problem}: {file.detail or 'it cannot be read'}")
        if file.path is None:
            revision = f" --revision {snapshot.ref.revision}" if snapshot.ref.revision else ""
            fetch = f": `hf download {name}{revision}` fetches them" if snapshot.ref.kind == "hub" else ""
            raise CannotRun(f"the weights of {name} are not on this disk{fetch}")
    zeros = zero_filled(snapshot)
    if zeros:
        raise CannotRun(f"{len(zeros)} large tensors are all zeros, {zeros[0]} first: these are not the real weights")


def require_memory(needed_bytes: int, dtype: str, device: devices.Device = "cpu") -> None:
    """Raise CannotRun unless that much memory can be had on the device."""
    free_bytes = devices.free_bytes(device)
    if needed_bytes > free_bytes:
        where = "memory" if device == "cpu" else f"memory on {device}"
        need, had = devices.size(needed_bytes), devices.size(free_bytes)
        raise CannotRun(f"the real weights need {need} of {where} in {dtype}, and {had} are free")
