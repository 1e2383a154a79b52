"""For the tests of `wirecheck doctor`: one line among many, and a command that a test puts on PATH."""

from __future__ import annotations

from pathlib import Path

from wirecheck.machine_records import MachineCheck


def one(checks, name: str) -> MachineCheck:
    (found,) = [check for check in checks if check.name == name]
    return found


def tool(folder: Path, name: str, script: str) -> None:
    """A command of that name, for PATH."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
