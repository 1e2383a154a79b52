"""The PAR family of finding codes."""

from __future__ import annotations

from wirecheck.codes.table import Code
from wirecheck.schema import Level, Severity

PAR: tuple[Code, ...] = (
    Code(
        code="PAR01",
        name="hidden-size-differs",
        family="PAR",
        severity=Severity.NOTE,
        level=Level.INSPECTED,
        sentence="projected by the adapter; its parameters and cost",
        remedy="See `wirecheck explain PAR01`.",
        reference=None,
    ),
    Code(
        code="PAR02",
        name="vocabulary-overlap",
        family="PAR",
        severity=Severity.NOTE,
        level=Level.INSPECTED,
        sentence="shared token strings, equal ids, padding rows left out",
        remedy="See `wirecheck explain PAR02`.",
        reference="transformers#45307",
    ),
    Code(
        code="PAR03",
        name="token-length-ratio",
        family="PAR",
        severity=Severity.NOTE,
        level=Level.INSPECTED,
        sentence="how many tokens each needs for the same text: lengths the wire must bear",
        remedy="See `wirecheck explain PAR03`.",
        reference=None,
    ),
    Code(
        code="PAR04",
        name="depth-differs",
        family="PAR",
        severity=Severity.NOTE,
        level=Level.INSPECTED,
        sentence="layers, heads, KV geometry side by side",
        remedy="See `wirecheck explain PAR04`.",
        reference=None,
    ),
    Code(
        code="PAR05",
        name="same-model",
        family="PAR",
        severity=Severity.NOTE,
        level=Level.INSPECTED,
        sentence="both sides are one commit",
        remedy="See `wirecheck explain PAR05`.",
        reference=None,
    ),
)
