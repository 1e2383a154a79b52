"""The command that renders a result again: nothing that runs a model is imported for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wirecheck.cli_output import exit_code, publish, read_result
from wirecheck.cli_reports import Reports


def report_command(file: Path, options: Mapping[str, Any]) -> int:
    """`wirecheck report`: the exit code of the check whose result the file holds."""
    reports = Reports.asked(options)
    result = read_result(file)
    if options["claim"] is not None:
        from wirecheck.cli_claims import claims_of

        result = result.model_copy(update={"claims": claims_of(options["claim"], result)})
    publish(result, options["json"], reports)
    return exit_code(result)
