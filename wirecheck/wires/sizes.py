"""Whether a wire's sizes fit the two models: from declared sizes alone, without torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from wirecheck import zoo_sentence
from wirecheck.errors import CannotRun
from wirecheck.schema import WireSpec

NUM_HEADS = 8
"""Heads of every attention in the shipped wires."""

Side = Literal["a", "b"]
_RECEIVING: dict[str, tuple[Side, ...]] = {"both": ("a", "b"), "a-to-b": ("b",), "b-to-a": ("a",)}
_SENDING: dict[str, tuple[Side, ...]] = {"both": ("a", "b"), "a-to-b": ("a",), "b-to-a": ("b",)}


class Sizes(NamedTuple):
    """What a wire must fit of one model."""

    hidden_size: int
    num_layers: int


class Misfit(NamedTuple):
    """One size that does not fit."""

    claim: str
    """One sentence, with the numbers."""
    observed: int
    expected: str
    remedy: str


def receiving(spec: WireSpec) -> tuple[Side, ...]:
    """The sides that are handed soft tokens."""
    if spec.name != "resampler":
        return ("a", "b")
    return _RECEIVING[spec.direction]


def sending(spec: WireSpec) -> tuple[Side, ...]:
    """The sides whose hidden states the resampler reads."""
    if spec.name != "resampler":
        return ()
    return _SENDING[spec.direction]


def source_layer(spec: WireSpec, num_layers: int) -> int:
    """The layer of a sender that is read, counted from 0, the embeddings: two thirds of the depth if not said."""
    return round(2 * num_layers / 3) if spec.source_layer is None else spec.source_layer


def misfit(spec: WireSpec, a: Sizes, b: Sizes) -> tuple[Misfit, ...]:
    """What of the wire does not fit these models, nor itself; nothing where all does, or where it is the user's own.

    A sentence encoder that is not there is none: the wire itself says so.
    """
    models = {"a": a, "b": b}
    match spec.name:
        case "bytes":
            return tuple(_heads("latent width", spec.latent_width, "the bytes encoder", "latent_width"))
        case "sentence-query":
            try:
                width = zoo_sentence.width(spec.sentence_encoder)
            except CannotRun:
                return ()
            return tuple(_heads("sentence encoder's width", width, "its query attention", None))
        case "resampler":
            found = [fault for side in sending(spec) for fault in _layer(spec, side, models[side].num_layers)]
            for side in receiving(spec):
                what = f"width of model {side.upper()}"
                found += _heads(what, models[side].hidden_size, f"the resampler towards {side.upper()}", None)
            return (*found, *_private(spec))
    return ()


def _layer(spec: WireSpec, side: Side, num_layers: int) -> Iterator[Misfit]:
    layer = source_layer(spec, num_layers)
    if layer > num_layers:
        yield Misfit(
            f"The resampler is to read layer {layer} of model {side.upper()}, which has {num_layers} layers.",
            layer,
            f"at most {num_layers}",
            f"Set `source_layer` to at most {num_layers}, or leave it out for two thirds of the depth "
            f"({round(2 * num_layers / 3)}).",
        )


def _heads(what: str, width: int, where: str, option: str | None) -> Iterator[Misfit]:
    if width % NUM_HEADS:
        below, above = width - width % NUM_HEADS, width - width % NUM_HEADS + NUM_HEADS
        remedy = (
            f"Set `{option}` to {f'{below} or ' if below else ''}{above}."
            if option
            else f"Use another model there: {where} needs a width that {NUM_HEADS} divides."
        )
        claim = f"The {what}, {width}, is not divisible by the {NUM_HEADS} heads of {where}."
        yield Misfit(claim, width, f"a multiple of {NUM_HEADS}", remedy)


def _private(spec: WireSpec) -> Iterator[Misfit]:
    if spec.private_length:
        yield Misfit(
            f"The resampler has no private slots, and {spec.private_length} are asked for.",
            spec.private_length,
            "0",
            "Leave `private_length` out: each resampler's soft tokens go to one model only.",
        )
