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
        sentence="The two models differ in hidden size, which each model's own adapter projects to.",
        remedy="Nothing to do: the wire has one adapter per model; its parameters are in the finding.",
        reference=None,
    ),
    Code(
        code="PAR02",
        name="vocabulary-overlap",
        family="PAR",
        severity=Severity.NOTE,
        level=Level.INSPECTED,
        sentence="The two tokenizers share only a part of their tokens, and fewer still have the same id in both.",
        remedy="Never give one model ids of the other's tokenizer; go through text.",
        reference="transformers#45307",
    ),
    Code(
        code="PAR03",
        name="token-length-ratio",
        family="PAR",
        severity=Severity.NOTE,
        level=Level.INSPECTED,
        sentence="The two tokenizers need different numbers of tokens for the same text.",
        remedy="Set `--context` and `--answer` for the tokenizer that needs more.",
        reference=None,
    ),
    Code(
        code="PAR04",
        name="depth-differs",
        family="PAR",
        severity=Severity.NOTE,
        level=Level.INSPECTED,
        sentence="The two models differ in layers, heads or key-value geometry.",
        remedy="Nothing to do for a wire through `inputs_embeds`; do not carry caches from one model to the other.",
        reference=None,
    ),
    Code(
        code="PAR05",
        name="same-model",
        family="PAR",
        severity=Severity.NOTE,
        level=Level.INSPECTED,
        sentence="Both sides of the pair are one model: one commit, or the same metadata and tensor headers.",
        remedy="Name another model if a pair of different models was meant.",
        reference=None,
    ),
)
