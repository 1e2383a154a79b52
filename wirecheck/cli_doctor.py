"""`wirecheck doctor`: the file's models, the lines, the JSON, the exit code."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wirecheck.cli_gate_file import Reader, read_rules
from wirecheck.cli_output import put_down
from wirecheck.doctor import examine
from wirecheck.machine_records import MachineReport
from wirecheck.views.words import visible

DEFAULT = Path("wirecheck.toml")
COULD_NOT_CHECK = 4


def doctor_command(file: Path | None, options: Mapping[str, Any]) -> int:
    """The exit code: 0 where everything is sound, else 4. Raises UsageError, OutputNotWritten."""
    listed: dict[str, Reader] = {}
    trusted = False
    if file is None and DEFAULT.is_file():
        file = DEFAULT
    if file is not None:
        rules, listed = read_rules(file, shlex.join(["wirecheck", "doctor", str(file)]), offline=options["offline"])
        trusted = rules.request.policy.trust_remote_code
    report = examine(listed, trust_remote_code=trusted, offline=options["offline"])
    put_down(report, options["json"], (), lambda: lines(report))
    return 0 if report.sound else COULD_NOT_CHECK


def lines(report: MachineReport) -> str:
    """A line for each check, with what mends it where it is not sound."""
    names = [visible(check.name) for check in report.checks]
    width = max(map(len, names), default=0)
    rows = []
    for name, check in zip(names, report.checks, strict=True):
        mend = f"  -> {visible(check.mend)}" if check.mend else ""
        rows.append(f"{'ok  ' if check.sound else 'MEND'}  {name:<{width}}  {visible(check.seen)}{mend}\n")
    return "".join(rows)
