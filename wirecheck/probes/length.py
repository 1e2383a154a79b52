"""CFG08: the positions of one row of this run against those a model has. No probe: two probes ask it."""

from __future__ import annotations

from wirecheck.probe import ModelBench
from wirecheck.rope import Positions
from wirecheck.schema import Evidence, Finding, Level, Severity

_IF_UNSCALED = (
    "Shorten the sequence with `--latent-length`, `--context` or `--answer`, or find out whether the declared maximum "
    "counts the rope scaling."
)


def judge_length(bench: ModelBench, limit: Positions, source: str) -> Finding:
    """The finding on the length of this run, by a limit that was read at `source`."""
    train, wire = bench.train, bench.wire
    length = train.sequence_length(wire)
    parts = f"{wire.latent_length} latent + {train.context} context + {train.answer} answer"
    seen = Evidence(level=Level.INSPECTED, source=source, observed=limit.sure, expected=f"at least {length}")
    if length <= limit.sure:
        claim = f"The {length} positions of this run ({parts}) are within the model's {limit.sure:,}."
        return bench.ok("CFG08", claim, seen)
    if length <= limit.perhaps:
        claim = (
            f"The run takes {length} positions ({parts}); the model has {limit.sure:,}, or {limit.perhaps:,} if that "
            "maximum does not count its rope scaling yet, which config.json does not tell."
        )
        return bench.found("CFG08", claim, seen, severity=Severity.WARN, remedy=_IF_UNSCALED)
    claim = f"The run takes {length} positions ({parts}); the model has {limit.perhaps:,}."
    return bench.found("CFG08", claim, seen)
