"""Commands that only say something: one code explained, the schema."""

from __future__ import annotations

import difflib
import json
from typing import Literal

from pydantic import BaseModel

from wirecheck.codes import CODES, Code
from wirecheck.errors import UsageError
from wirecheck.schema import PairResult


def explanation(asked: str) -> str:
    """A code in full, or a family in one line per code. Raises UsageError on an unknown one, with the nearest."""
    word = asked.upper()
    if word in CODES:
        severity, sentence, *more = told(CODES[word])
        return "\n".join([f"{word} {CODES[word].name}", severity, "", sentence, "", *more])
    family = [entry for entry in CODES.values() if entry.family == word]
    if not family:
        near = difflib.get_close_matches(word, [*CODES, *{entry.family for entry in CODES.values()}], n=3, cutoff=0.4)
        raise UsageError(f"{asked}: no such code", next_step=f"wirecheck explain {near[0] if near else 'CFG'}")
    return "\n".join(f"{entry.code}  {entry.severity:<6}{entry.name}: {entry.sentence}" for entry in family)


def told(entry: Code) -> list[str]:
    """What is to be said of a code, a paragraph each: `wirecheck explain` prints them, docs/checks shows them."""
    from wirecheck.probes import MODEL_PROBES, PAIR_PROBES, SINGLE_PROBES

    probes = {probe.name: probe for probe in (*SINGLE_PROBES, *PAIR_PROBES, *MODEL_PROBES) if entry.code in probe.codes}
    return [
        f"severity: {entry.severity} (usual), established at: {entry.level}",
        entry.sentence,
        f"remedy: {entry.remedy}",
        *(f"asked by: {probe.name} (of a {probe.scope}): {probe.question}" for probe in probes.values()),
        *([f"met in: {entry.reference}"] if entry.reference else []),
    ]


def json_schema() -> str:
    """The JSON schema of a result, as text ending in a newline."""
    return _schema(PairResult, "serialization")


def gate_schema() -> str:
    """The JSON schema of a gate's result."""
    from wirecheck.gate_records import GateResult

    return _schema(GateResult, "serialization")


def file_schema() -> str:
    """The JSON schema of the wirecheck.toml that a gate reads, for editors."""
    from wirecheck.cli_gate_file import GateFile

    return _schema(GateFile, "validation")


def lock_schema() -> str:
    """The JSON schema of wirecheck.lock."""
    from wirecheck.lock_records import Lock

    return _schema(Lock, "serialization")


def diff_schema() -> str:
    """The JSON schema of a diff."""
    from wirecheck.difference_records import Difference

    return _schema(Difference, "serialization")


def matrix_schema() -> str:
    """The JSON schema of a matrix."""
    from wirecheck.matrix_records import Matrix

    return _schema(Matrix, "serialization")


def schema_of(what: str) -> str:
    """The schema of that name. Raises UsageError where there is none."""
    known = {
        "result": json_schema,
        "gate": gate_schema,
        "file": file_schema,
        "lock": lock_schema,
        "diff": diff_schema,
        "matrix": matrix_schema,
    }
    if what not in known:
        raise UsageError(f"schema {what}: there is none of that name", next_step=f"use one of {', '.join(known)}")
    return known[what]()


def _schema(record: type[BaseModel], mode: Literal["serialization", "validation"]) -> str:
    return json.dumps(record.model_json_schema(mode=mode), indent=2, sort_keys=True) + "\n"
