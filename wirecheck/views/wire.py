"""The wire of a result in words and rows: what it reads, its parts, their trained parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from wirecheck.schema import Fact, PairResult, Scalar
from wirecheck.views.words import human

NOT_ESTABLISHED = "not established"


class Part(NamedTuple):
    """One part of the wire: what it is given, what it makes, how many parameters of it are trained."""

    name: str
    given: str
    made: str
    parameters: str
    fact: Fact | None
    """What the parameters were counted as; None where nothing counted them."""


def sentence(result: PairResult) -> str:
    """What the wire reads and how many soft tokens it makes."""
    wire = result.wire
    slots = f"{wire.latent_length} soft tokens"
    if wire.private_length:
        slots = f"{wire.latent_length} shared and {wire.private_length} private soft tokens for each model"
    through = f"through a latent of width {wire.latent_width}"
    match wire.name:
        case "bytes":
            return f"{slots} {through}, from sources of at most {wire.max_bytes} bytes."
        case "sentence-query":
            return f"{slots} {through}, from a frozen sentence encoder's features."
        case "resampler":
            layer = "two thirds of its depth" if wire.source_layer is None else f"layer {wire.source_layer}"
            return f"{slots} from the other model's hidden states at {layer}; direction {wire.direction}."
    return f"your own, asked for {slots}; what it reads and trains is its own."


def parts(result: PairResult) -> Iterator[Part]:
    """The parts whose parameters some probe counted; of an own wire, the whole as it was made."""
    wire = result.wire
    if wire.is_own:
        yield Part("own wire", "text", "a loss", *_count(result, "wire_parameters"))
        return
    latent = f"{wire.prefix_length} x {wire.latent_width}"
    if wire.name != "resampler":
        given = "text bytes" if wire.name == "bytes" else "token features of a sentence encoder"
        yield Part("encoder", given, latent, *_count(result, "encoder_parameters"))
    for side in ("a", "b") if result.b else ("a",):
        hidden = result.fact("a" if side == "a" else "b", "hidden_size")
        made = f"{wire.prefix_length} x {hidden.value if hidden else '?'}"
        count = _count(result, f"adapter_{side}_parameters")
        given = latent if wire.name != "resampler" else "the other model's hidden states"
        yield Part(f"adapter {side.upper()}", given, made, *count)


def _count(result: PairResult, key: str) -> tuple[str, Fact | None]:
    fact = result.fact("pair", key)
    value: Scalar = fact.value if fact else None
    return (NOT_ESTABLISHED, None) if value is None else (str(human(value)), fact)
