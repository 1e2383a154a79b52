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
        sentence="The repository, the folder, the file or the revision does not exist.",
        remedy="Check the spelling of `ORG/NAME@REVISION`; a private repository needs a login: `hf auth login`.",
        reference=None,
    ),
    Code(
        code="HUB02",
        name="gated",
        family="HUB",
        severity=Severity.BLOCK,
        level=Level.INSPECTED,
        sentence="The repository is gated, and this account has not been let in.",
        remedy=(
            "Accept the terms on the model's page with your account, then `hf auth login` or set the variable "
            "`HF_TOKEN`."
        ),
        reference=None,
    ),
    Code(
        code="HUB03",
        name="offline-not-cached",
        family="HUB",
        severity=Severity.BLOCK,
        level=Level.INSPECTED,
        sentence="The network is off, and the cache lacks files that are needed.",
        remedy="Fetch them once with the network on: `hf download ORG/NAME`, or run again without `--offline`.",
        reference=None,
    ),
    Code(
        code="HUB04",
        name="revision-not-pinned",
        family="HUB",
        severity=Severity.WARN,
        level=Level.INSPECTED,
        sentence="The gate runs on a branch that can move, so tomorrow's result may be about other bytes.",
        remedy="Name the commit: `ORG/NAME@COMMIT`; the finding gives the one that was checked.",
        reference=None,
    ),
    Code(
        code="HUB05",
        name="not-loadable-offline",
        family="HUB",
        severity=Severity.WARN,
        level=Level.EXECUTED,
        sentence="With sockets refused, something still asked the network while the model was loaded.",
        remedy="Load with `local_files_only=True` from a complete folder, and set `HF_HUB_OFFLINE=1` in the job.",
        reference="transformers#39873",
    ),
)
