"""Expectations the user wrote down, held against the facts that probes established. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from wirecheck.geometry import shown
from wirecheck.schema import Evidence, Expectation, Fact, Level, same, strongest

KNOWN_KEYS: frozenset[str] = frozenset(
    (
        *("model_type", "architecture", "hidden_size", "num_layers", "num_heads", "num_kv_heads", "head_dim"),
        *("intermediate_size", "vocab_size", "max_positions", "sliding_window", "num_experts", "experts_per_token"),
        *("tied", "dtype", "rope", "config_bos_id", "quantization"),
        *("num_weight_files", "tensor_bytes", "num_tensors", "num_parameters", "weights_dtype"),
        *("embedding_rows", "head_rows", "padding_rows", "embedding_rms", "embedding_scale", "text_loss", "text_gain"),
        *("num_tokens", "tokenizer_class", "bos_token", "bos_id", "adds_bos"),
        *("eos_token", "eos_id", "pad_token", "pad_id"),
        *("has_template", "template_sha256", "stop_ids", "template_roles", "template_reads_clock", "turn_end"),
        "adds_bos_in_template",
    )
)
"""Every key that a probe of one model can establish, on the models that have such a thing."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One expectation beside what was found."""

    holds: bool
    claim: str
    evidence: Evidence
    remedy: str | None = None
    """A remedy of its own, where the table's does not fit."""
    open: str | None = None
    """The key, where it is one that probes establish, and none of this run did: neither so nor not so."""


def compare(expectations: Iterable[Expectation], facts: Iterable[Fact]) -> tuple[Comparison, ...]:
    """Each expectation against the strongest fact of its key and subject, in the order given.

    An expectation on a key that no probe established does not hold: what was demanded is not shown. `open` tells
    whether a probe could have established it (KNOWN_KEYS), and this run did not get so far.
    """
    known = tuple(facts)
    return tuple(_compare(expectation, known) for expectation in expectations)


def _compare(expectation: Expectation, facts: tuple[Fact, ...]) -> Comparison:
    fact = strongest(facts, expectation.subject, expectation.key)
    expected = shown(expectation.value)
    if fact is None:
        keys = ", ".join(sorted({found.key for found in facts if found.subject == expectation.subject})) or "nothing"
        known = expectation.key if expectation.key in KNOWN_KEYS else None
        claim = f"{expectation.key} was expected to be {expected}, and no probe established it."
        seen = Evidence(level=Level.INSPECTED, source="facts of this run", observed=None, expected=expectation.value)
        remedy = f"Correct the key or remove the expectation; established: {keys}."
        return Comparison(holds=False, claim=claim, evidence=seen, remedy=remedy, open=known)
    holds = same(fact.value, expectation.value)
    found = shown(fact.value)
    claim = f"{fact.key} is {found}, as expected." if holds else f"{fact.key} is {found}, not {expected} as expected."
    return Comparison(holds=holds, claim=claim, evidence=fact.evidence(expectation.value))
