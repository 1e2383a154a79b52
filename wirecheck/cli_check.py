"""The commands that check: read the snapshots, run, publish, and hand back the exit code."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wirecheck.cli_claims import claims_of
from wirecheck.cli_console import stderr_console
from wirecheck.cli_output import exit_code, publish, to_json, write
from wirecheck.cli_reports import Reports
from wirecheck.cli_request import OPTIONS, request
from wirecheck.errors import Interrupted, OutputNotWritten
from wirecheck.heap import keep_freed
from wirecheck.runner import Check
from wirecheck.schema import Level, PairResult
from wirecheck.supervision import supervised
from wirecheck.views.console import LiveProgress


def check_command(verb: str, models: Sequence[str], options: Mapping[str, Any]) -> int:
    """`wirecheck pair` and `wirecheck model`: the exit code. Raises WirecheckError's children."""
    reports = Reports.asked(options)
    asked = {option: options[option.removeprefix("--").replace("-", "_")] for option in OPTIONS}
    wanted = request(verb, models, asked, seed=options["seed"], config=options["config"])
    ways = _Ways(options["json"], reports, options["claim"], options["offline"])
    return _run(models, wanted, ways)


def demo_command(out: Path) -> int:
    """`wirecheck demo`: the built-in models laid out under `out`, checked as a pair, reports beside them."""
    from wirecheck.demo import demo_folders

    models = []
    for source in demo_folders():
        target = out / source.name
        try:
            shutil.copytree(source, target, dirs_exist_ok=True)
        except (OSError, shutil.Error) as error:
            raise OutputNotWritten(
                f"{target}: not written: {error}", next_step="name another place with --out"
            ) from None
        models.append(f"./{target.as_posix()}" if not target.is_absolute() else str(target))
    options = dict.fromkeys(OPTIONS) | {"--require": "executed"}
    wanted = request("pair", models, options, seed=0, config=None)
    reports = Reports((out / "report.md", out / "report.html"))
    code = _run(models, wanted, _Ways(str(out / "result.json"), reports, offline=True))
    stderr_console().print(f"report: {', '.join(map(str, reports.paths))}", soft_wrap=True, highlight=False)
    return code


@dataclass(frozen=True)
class _Ways:
    """How a check is run, and where its result goes."""

    json: str | None
    reports: Reports
    claim: Path | None = None
    offline: bool = False


def _run(models: Sequence[str], wanted: Any, ways: _Ways) -> int:
    from wirecheck.snapshot import parse_ref, take

    if wanted.policy.depth.rank <= Level.SIMULATED.rank:  # twins alone are run, and nothing as large as real weights
        keep_freed()
    with LiveProgress(stderr_console()) as progress:
        try:
            snapshots = []
            for text in models:
                progress.note(f"reading {text} …")
                snapshots.append(take(parse_ref(text), offline=ways.offline))
            check = Check(wanted, snapshots[0], snapshots[1] if len(snapshots) > 1 else None, progress)
            begun = check.result("started")
            said = () if ways.claim is None else claims_of(ways.claim, begun)  # before anything runs
            _begin(begun, ways.json)
            result = supervised(check).model_copy(update={"claims": said})
        except KeyboardInterrupt:
            raise Interrupted(None) from None
        except Interrupted as stop:
            _keep_partial(stop.partial, ways.json)
            raise
    publish(result, ways.json, ways.reports)
    return exit_code(result)


def _begin(started: PairResult, json: str | None) -> None:
    """A file from a killed run says `started`, so it can never be taken for a success."""
    if json and json != "-":
        write(Path(json), to_json(started))


def _keep_partial(partial: object, json: str | None) -> None:
    if isinstance(partial, PairResult) and json and json != "-":
        write(Path(json), to_json(partial))
