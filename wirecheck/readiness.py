"""Whether a model's files can be given to the library here and now, and if not, why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from wirecheck import devices
from wirecheck.errors import CannotRun
from wirecheck.snapshot import JsonUnreadable, Snapshot
from wirecheck.zero_fill import zero_filled

MOST_LAYERS = 4096
MOST_LABELS = 2**20
"""A config class makes two tables of them when it is read."""
MOST_VALUES = 100_000
"""In one config.json, keys not counted: real ones have some hundreds, and a class walks them again and again."""
LAYER_KEYS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers")
EXPERT_KEYS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_MOST: Mapping[str, int] = {**dict.fromkeys(LAYER_KEYS, MOST_LAYERS), "num_labels": MOST_LABELS}
_REPEATS = "attention_types"
"""GPT-Neo's lists of kinds of layers and how often to repeat them: counts that stand under no key of their own."""
_WORD_BITS = 64


def absurd_size(snapshot: Snapshot) -> str | None:
    """Why config.json must not even be read by its class: it cannot be, or what it names would fill the memory (layers
    and labels are listed when a class is made). None where nothing speaks against it.
    """
    if not snapshot.has("config.json"):
        return None
    try:
        held = snapshot.read_json("config.json")
    except JsonUnreadable as error:
        return f"config.json: {error}"
    for number, (key, value) in enumerate(_values(held)):
        if number == MOST_VALUES:
            return f"config.json holds more than {MOST_VALUES} values, which no model's does"
        why = _absurd(key, value)
        if why is not None:
            return f"config.json: {key} {why}"
    return None


def _absurd(key: str, value: Any) -> str | None:
    """Why no model has that number under that key; None where one may, and for what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int) and value.bit_length() >= _WORD_BITS:
        return f"has {value.bit_length()} bits, more than the {_WORD_BITS} of any number of a model"
    if key in _MOST and not 0 <= value <= _MOST[key]:
        return f"is {value}, which no model has"
    if key == _REPEATS and value > MOST_LAYERS:
        return f"repeats a layer {value} times, which no model does"
    return None


def _values(held: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every value in a JSON object that is neither object nor list, with the last key above it; at any depth."""
    waiting: list[tuple[str, Any]] = list(held.items())
    while waiting:
        key, value = waiting.pop()
        match value:
            case dict():
                waiting += value.items()
            case list():
                waiting += ((key, item) for item in value)
            case _:
                yield key, value


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
