"""The records of `wirecheck doctor`: what was looked at on this machine, what was seen, and what mends it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import model_validator

from wirecheck.record import Record


class MachineCheck(Record):
    """One thing looked at."""

    name: str
    sound: bool
    seen: str
    mend: str | None = None
    """The command, or else the action, that mends it; there where it is not sound, and only there."""

    @model_validator(mode="after")
    def _mended_where_not_sound(self) -> MachineCheck:
        if self.sound == bool(self.mend):
            raise ValueError(f"{self.name}: {'sound, with' if self.sound else 'not sound, without'} what mends it")
        return self


class MachineReport(Record):
    """The file format of `wirecheck doctor`."""

    schema_version: Literal[1] = 1
    sound: bool
    """Whether every check is."""
    checks: tuple[MachineCheck, ...]
    """In reading order."""

    @model_validator(mode="after")
    def _as_sound_as_its_checks(self) -> MachineReport:
        if self.sound != all(check.sound for check in self.checks):
            raise ValueError(f"sound is {self.sound}, and the checks say otherwise")
        return self

    @classmethod
    def of(cls, checks: Iterable[MachineCheck]) -> MachineReport:
        """The report of those checks."""
        found = tuple(checks)
        return cls(sound=all(check.sound for check in found), checks=found)


def good(name: str, seen: str) -> MachineCheck:
    """A check that came out sound."""
    return MachineCheck(name=name, sound=True, seen=seen)


def bad(name: str, seen: str, mend: str) -> MachineCheck:
    """A check that did not."""
    return MachineCheck(name=name, sound=False, seen=seen, mend=mend)
