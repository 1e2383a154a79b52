"""One causal model type, asked by the simulated probes on a twin of its default config; run in a process of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wirecheck.architecture_records import Architecture, ArchitectureCheck, ArchitectureRun, Trouble
from wirecheck.errors import CannotRun
from wirecheck.limits import machine_limit, one_line
from wirecheck.probe import ModelBench, Probe
from wirecheck.probe_run import run_one
from wirecheck.probes import MODEL_PROBES
from wirecheck.runner import why_not
from wirecheck.schema import Crashed, Finding, Level, Policy, ProbeRun, Severity, Skipped, TrainSpec, WireSpec
from wirecheck.snapshot import parse_ref, take

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from wirecheck.zoo_twin import Twin

MAX_ROWS = 1024
"""Vocabulary rows of a twin here, where no tokenizer is at hand."""


def probes() -> tuple[Probe, ...]:
    """The probes of the registry that a twin alone can answer."""
    return tuple(
        probe
        for probe in MODEL_PROBES
        if probe.level is Level.SIMULATED and probe.needs == "torch" and probe.scope == "model"
    )


def answer(model_type: str, *, seed: int) -> str:
    """The row of one type as JSON, for the parent. Raises nothing of its own."""
    try:
        with tempfile.TemporaryDirectory(prefix="wirecheck-") as folder:
            return study(model_type, seed=seed, folder=Path(folder)).model_dump_json()
    except Exception as error:  # noqa: BLE001  # a fault of ours in one type is a row, told as such
        words = f"{type(error).__name__}: {one_line(error)}"
        trouble = Trouble(cause="wirecheck", words=words)
        return Architecture(model_type=model_type, trouble=trouble, seconds=0.0).model_dump_json()


def study(model_type: str, *, seed: int, folder: Path) -> Architecture:
    """Builds the twin of the type's default config and asks it every probe; `folder` is scratch space."""
    from wirecheck import zoo_defaults, zoo_twin

    try:
        default = zoo_defaults.default_config(model_type)
    except zoo_defaults.NoDefault as error:
        return Architecture(model_type=model_type, trouble=Trouble(cause="upstream", words=error.reason), seconds=0.0)
    try:
        twin = zoo_twin.twin(default.config, seed=seed, max_rows=MAX_ROWS)
    except CannotRun as error:
        return Architecture(
            model_type=model_type,
            given=default.given,
            default_refused=default.refused,
            trouble=_why_no_twin(default.config, error),
            seconds=0.0,
        )
    bench = _bench(default.config, twin, seed, folder / model_type)
    runs: list[ProbeRun] = []
    for probe in probes():
        runs.append(_one(probe, bench, runs))
    return Architecture(
        model_type=model_type,
        class_name=type(twin.model).__name__,
        given=default.given,
        default_refused=default.refused,
        parameters=sum(parameter.numel() for parameter in twin.model.parameters()),
        kept=twin.kept,
        changed=twin.changed,
        runs=tuple(_ending(run) for run in runs),
        checks=tuple(_check(finding) for run in runs for finding in run.findings),
        trouble=_crash(runs),
        seconds=0.0,
    )


def _why_no_twin(config: PretrainedConfig, error: CannotRun) -> Trouble:
    """Whether the class is not built at its own size either; where it is, the shrinking is to blame."""
    from wirecheck import zoo

    if (limit := machine_limit(error)) is not None:
        return Trouble(cause="machine", words=limit)
    try:
        zoo.skeleton(config)
    except CannotRun as own:
        return Trouble(cause="upstream", words=own.reason)
    return Trouble(cause="wirecheck", words=f"built at its own size, but not as a twin: {error.reason}")


def _bench(config: PretrainedConfig, twin: Twin, seed: int, folder: Path) -> ModelBench:
    folder.mkdir()
    (folder / "config.json").write_text(config.to_json_string(), encoding="utf-8")
    snapshot = take(parse_ref(str(folder)), offline=True)
    bench = ModelBench(wire=WireSpec(), train=TrainSpec(), policy=Policy(), seed=seed, side="a", snapshot=snapshot)
    bench.__dict__.update(config=config, twin=twin)  # its cached properties: not made from files here
    return bench


def _one(probe: Probe, bench: ModelBench, before: Sequence[ProbeRun]) -> ProbeRun:
    """The probe's run, or why it is not run after what the others found, as in any check."""
    reason = why_not(probe, probe.level, before)
    if reason is None:
        return run_one(probe, bench)
    return Skipped(probe=probe.name, subject=bench.subject, level=probe.level, seconds=0.0, reason=reason)


def _ending(run: ProbeRun) -> ArchitectureRun:
    match run:
        case Skipped(reason=reason):
            return ArchitectureRun(probe=run.probe, kind="skipped", why=reason)
        case Crashed(error=error):
            return ArchitectureRun(
                probe=run.probe, kind="crashed", why=f"{error.type}: {' '.join(error.message.split())}"
            )
        case _:
            return ArchitectureRun(probe=run.probe, kind="ran")


def _check(finding: Finding) -> ArchitectureCheck:
    seen = () if finding.severity is Severity.OK else finding.evidence
    return ArchitectureCheck(code=finding.code, severity=finding.severity, claim=finding.claim, evidence=seen)


def _crash(runs: Sequence[ProbeRun]) -> Trouble | None:
    """A probe that crashed is a fault of ours, told with where it happened."""
    for run in runs:
        if isinstance(run, Crashed):
            place = "; ".join(line.strip() for line in run.error.traceback.splitlines() if "wirecheck" in line)[-300:]
            return Trouble(
                cause="wirecheck", words=f"{run.probe} crashed with {run.error.type}: {one_line(ValueError(place))}"
            )
    return None
