"""Trained scalars of the shipped wires, by arithmetic: weights and biases part by part, in the order of the modules.

Z latent width   M slots   D model width   S width of the sending model   E width of the sentence encoder
"""

from __future__ import annotations

from typing import NamedTuple

from wirecheck import zoo_sentence
from wirecheck.schema import WireSpec


class ParameterCount(NamedTuple):
    """Trainable scalars of one wire towards one model: the encoder is shared, the adapter is that model's own."""

    encoder: int
    adapter: int


def bytes_count(spec: WireSpec, hidden_size: int, _sender_size: int) -> ParameterCount:
    """`BytesEncoder` and `Adapter`."""
    Z, M = spec.latent_width, _queries(spec)
    layer = _attention(Z) + _norm(Z) + _linear(Z, 4 * Z) + _linear(4 * Z, Z) + _norm(Z)
    pooler = M * Z + _attention(Z) + _norm(Z) + _linear(Z, Z) + _norm(Z) + _linear(Z, 2 * Z) + _linear(2 * Z, Z)
    return ParameterCount(256 * Z + 6 * layer + _norm(Z) + pooler, _adapter(spec, hidden_size))


def sentence_query_count(spec: WireSpec, hidden_size: int, _sender_size: int) -> ParameterCount:
    """`SentenceQuery` and `Adapter`; the sentence encoder's own weights are not trained (`frozen_parameters`).

    CannotRun where no sentence encoder tells its width.
    """
    E, Z = zoo_sentence.width(spec.sentence_encoder), spec.latent_width
    encoder = _queries(spec) * E + _attention(E) + _norm(E) + 2 * _linear(E, E) + _norm(E) + _linear(E, Z)
    return ParameterCount(encoder, _adapter(spec, hidden_size))


def resampler_count(spec: WireSpec, hidden_size: int, sender_size: int) -> ParameterCount:
    """`Resampler`, which is all adapter: there is no encoder beside the sending model."""
    S, D, K = sender_size, hidden_size, spec.latent_length
    block = 2 * _attention(D) + _linear(D, 4 * D) + _linear(4 * D, D) + 3 * _norm(D)
    project = _linear(S, D) if S != D else 0
    return ParameterCount(0, project + K * D + spec.resampler_depth * block + 1)


def frozen_parameters(spec: WireSpec) -> int:
    """Scalars that the wire itself holds in memory without training them: a sentence encoder's, in float32.

    CannotRun where the sentence encoder is not there.
    """
    return zoo_sentence.num_parameters(spec.sentence_encoder) if spec.name == "sentence-query" else 0


def _queries(spec: WireSpec) -> int:
    """Slots that an encoder makes: the shared ones, and each model's own."""
    return spec.latent_length + 2 * spec.private_length


def _adapter(spec: WireSpec, D: int) -> int:
    Z, Y = spec.latent_width, spec.hidden_multiple * spec.latent_width
    metadata = spec.prefix_length * Z + _linear(1, Z) if spec.metadata else 0
    body = _norm(Z) + _linear(Z, Y) + _linear(Y, Y) + _linear(Y, D) + _linear(Z, D)
    film = 2 * _linear(Z, D)
    return metadata + body + film + _norm(D) + 1


def _attention(width: int) -> int:
    return _linear(width, width) + _linear(width, 2 * width) + _linear(width, width)


def _norm(width: int) -> int:
    return 2 * width


def _linear(fan_in: int, fan_out: int) -> int:
    return fan_in * fan_out + fan_out
