"""The HUB family of finding codes."""

from __future__ import annotations

from wirecheck.codes.table import Code
from wirecheck.schema import Level, Severity

HUB: tuple[Code, ...] = (
    Code(
        code="HUB01",
        name="not-found",
        family="HUB",
        severity=Severity.BLOCK,
        level=Level.INSPECTED,
        sentence="exit 4: repo, file or revision",
        remedy="See `wirecheck explain HUB01`.",
        reference=None,
    ),
    Code(
        code="HUB02",
        name="gated",
        family="HUB",
        severity=Severity.BLOCK,
        level=Level.INSPECTED,
        sentence="exit 4: the page to accept terms on, the variable for the token",
        remedy="See `wirecheck explain HUB02`.",
        reference=None,
    ),
    Code(
        code="HUB03",
        name="offline-not-cached",
        family="HUB",
        severity=Severity.BLOCK,
        level=Level.INSPECTED,
        sentence="exit 4: which files, and the command that fetches them",
        remedy="See `wirecheck explain HUB03`.",
        reference=None,
    ),
    Code(
        code="HUB04",
        name="revision-not-pinned",
        family="HUB",
        severity=Severity.WARN,
        level=Level.INSPECTED,
        sentence="a gate run on a moving branch",
        remedy="See `wirecheck explain HUB04`.",
        reference=None,
    ),
    Code(
        code="HUB05",
        name="not-loadable-offline",
        family="HUB",
        severity=Severity.WARN,
        level=Level.EXECUTED,
        sentence="with sockets refused, something still asked the network",
        remedy="See `wirecheck explain HUB05`.",
        reference="transformers#39873",
    ),
)
