"""Builders of what tests need, and the way to the shared assets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from wirecheck.codes import CODES
from wirecheck.schema import (
    CheckedModel,
    Crashed,
    Environment,
    Evidence,
    Fact,
    Finding,
    Fit,
    Level,
    MemoryEstimate,
    MemoryPart,
    PairResult,
    Policy,
    ProbeError,
    ProbeRun,
    Ran,
    Scalar,
    Skipped,
    TrainSpec,
    WireSpec,
)
from wirecheck.verdict import Expected, judge

SHARED = Path(__file__).parents[2] / "shared"

needs_assets = pytest.mark.skipif(
    not (SHARED / "assets" / "unpack.py").is_file(),
    reason="the shared assets (recorded real models) are not beside this checkout",
)


def seed_snapshot(name: str, destination: Path) -> Path:
    """A recorded real model, such as `Qwen__Qwen2.5-7B-Instruct`, laid out as a folder with sparse, zeroed shards."""
    target = destination / name
    subprocess.run([sys.executable, SHARED / "assets" / "unpack.py", name, target], check=True, capture_output=True)
    return target


COMMITS = ("0123456789ab" + "0" * 28, "ba9876543210" + "1" * 28)
"""The commits of the two models of `pair_result`."""

HOSTILE = (
    "one\ntwo <b>&amp; ]]> | \x00\x1b[31m\r\t \u202egnp.exe\u2066 \u2028\ufeff \ufffe "
    "`x` [go](https://evil.example) {0} \"'"
)
"""What a stranger may put into a name, a token or an error: line breaks, markup, control and bidi characters, pipes."""


def seen(source: str, observed: Scalar, expected: Scalar = None, level: Level = Level.INSPECTED) -> Evidence:
    """One observation, `inspected` unless said otherwise."""
    return Evidence(level=level, source=source, observed=observed, expected=expected)


def finding(code: str, severity: str, subject: str, claim: str, *evidence: Evidence, **more) -> Finding:
    """A finding of a real code, with the code's name."""
    named = {"code": code, "name": CODES[code].name, "severity": severity, "subject": subject, "claim": claim}
    return Finding(**named, evidence=evidence, **more)


def pair_runs() -> tuple[ProbeRun, ...]:
    """Runs of every kind and findings of every severity: one blocks, one warns, one is skipped, one crashed."""
    a, b = COMMITS[0][:12], COMMITS[1][:12]
    config = finding(
        "CFG03", "ok", "a", "The class is LlamaForCausalLM.", seen(f"config.json@{a}#architectures", "LlamaForCausalLM")
    )
    twin = finding("EMB10", "note", "a", "The table's RMS is 0.02.", seen("twin, seed 0", 0.02, level=Level.SIMULATED))
    pad = finding(
        "TOK05",
        "warn",
        "b",
        "The tokenizer has no pad token.",
        seen(f"tokenizer_config.json@{b}#pad_token", None),
        remedy="Set the unused token <|reserved_0|> as pad.",
    )
    rows = finding(
        "WGT08",
        "block",
        "b",
        "The embedding has 31,999 rows where the config says 32,000.",
        seen(f"model.safetensors@{b}#model.embed_tokens.weight", 31999, 32000),
        remedy="Set vocab_size to 31999.",
    )
    widths = finding(
        "PAR01",
        "note",
        "pair",
        "The hidden sizes are 64 and 48.",
        seen(f"config.json@{a}#hidden_size", 64),
        seen(f"config.json@{b}#hidden_size", 48),
    )
    error = ProbeError(
        type="RuntimeError",
        message="shapes 2x3 and 4x5",
        traceback="Traceback:\n  step\nRuntimeError: shapes 2x3 and 4x5\n",
    )
    width = Fact(key="hidden_size", subject="a", value=64, level=Level.INSPECTED, source=f"config.json@{a}#hidden_size")
    read, simulated = {"level": Level.INSPECTED}, {"level": Level.SIMULATED}
    return (
        Ran(probe="config", subject="a", seconds=0.25, findings=(config,), facts=(width,), **read),
        Ran(probe="embeds", subject="a", seconds=1.5, findings=(twin,), **simulated),
        Ran(probe="tokenizer", subject="b", seconds=0.5, findings=(pad,), **read),
        Ran(probe="weights", subject="b", seconds=0.125, findings=(rows,), **read),
        Skipped(probe="values", subject="b", seconds=0.0, reason="the weights are not on disk", level=Level.EXECUTED),
        Crashed(probe="wire", subject="pair", seconds=2.0, findings=(widths,), error=error, **simulated),
    )


def pair_result(**changes) -> PairResult:
    """A small complete result; the verdict is judged on its runs and policy unless it is given."""
    models = [
        CheckedModel(ref=f"org/{name}", name=f"org/{name}", kind="hub", commit=commit)
        for name, commit in zip(("alpha", "beta"), COMMITS, strict=True)
    ]
    memory = MemoryEstimate(
        level=Level.SIMULATED,
        method="trace",
        parts=(MemoryPart(name="weights", bytes=2**30, how="tensor table"),),
        assumptions=("flash attention",),
        margin=0.05,
        fits=(Fit(gpu="H100-80GB", count=1, outcome="fits", free_bytes=70 * 2**30),),
    )
    fields = {
        "status": "finished",
        "command": "wirecheck pair org/alpha org/beta",
        "seed": 0,
        "a": models[0],
        "b": models[1],
        "wire": WireSpec(),
        "train": TrainSpec(),
        "policy": Policy(),
        "environment": Environment(python="3.11.4", platform="Linux", packages=(("wirecheck", "0.1.0"),)),
        "runs": pair_runs(),
        "memory": memory,
    } | changes
    if "verdict" not in fields:
        expected = [Expected(run.probe, run.subject, run.level) for run in fields["runs"]]
        fields["verdict"] = judge(fields["runs"], expected, fields["policy"])
    return PairResult(**fields)


def hostile_result(text: str = HOSTILE) -> PairResult:
    """A result with `text` in every place that a stranger's files or an upstream error can reach."""
    model = CheckedModel(ref=text, name=text, kind="folder", commit=f"sha256:{'0' * 64}", revision=text)
    observed = (seen(text, text, text), seen(f"{text}@sha256:{'0' * 12}#{text}", text))
    claims = tuple(
        finding(code, severity, "a", text, *observed, remedy=text)
        for code, severity in (("CFG03", "ok"), ("TOK04", "note"), ("TOK05", "warn"), ("TOK08", "block"))
    )
    common = {"subject": "a", "level": Level.INSPECTED, "seconds": 0.0}
    fact = Fact(key="bos_token", subject="a", value=text, level=Level.INSPECTED, source=text)
    runs = (
        Ran(probe="config", findings=claims, facts=(fact,), **common),
        Skipped(probe="template", reason=text, **common),
        Crashed(probe="tokenizer", error=ProbeError(type=text, message=text, traceback=text), **common),
    )
    environment = Environment(python=text, platform=text, packages=((text, text),))
    return pair_result(a=model, b=None, command=text, runs=runs, environment=environment, memory=None)
