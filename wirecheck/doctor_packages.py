"""Python and the installed packages, against what wirecheck and its dependencies ask for. Imports none of them."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from wirecheck.machine_records import MachineCheck, bad, good

if TYPE_CHECKING:
    from packaging.requirements import Requirement

OWN = "wirecheck"
SHOWN = ("torch", "transformers", "tokenizers", "safetensors", "huggingface_hub", "gguf", "accelerate")
"""Packages that have a line of their own."""


@dataclass(frozen=True)
class Demand:
    """One package asking for another one."""

    by: str
    """Who asks, with its version: `transformers 5.23.0`."""
    requirement: Requirement

    @property
    def name(self) -> str:
        """The package asked for, spelt as on an index."""
        from packaging.utils import canonicalize_name

        return canonicalize_name(self.requirement.name)

    def unmet(self) -> str | None:
        """What is there in its stead; None where it is met."""
        from packaging.version import InvalidVersion, Version

        try:
            found = metadata.version(self.requirement.name)
            if self.requirement.specifier.contains(Version(found), prereleases=True):
                return None
        except metadata.PackageNotFoundError:
            return "none is installed"
        except (InvalidVersion, TypeError):  # TypeError: a folder of metadata without a version in it
            return "what is installed has no version that can be read"
        return f"{found} is installed"

    @property
    def mend(self) -> str:
        """The command that installs it."""
        return f"pip install {shlex.quote(f'{self.requirement.name}{self.requirement.specifier}')}"


def python() -> Iterator[MachineCheck]:
    """The interpreter, against what wirecheck's metadata ask for."""
    from packaging.specifiers import SpecifierSet

    found = platform.python_version()
    asked = SpecifierSet(_requires_python())
    if asked.contains(found, prereleases=True):
        yield good("python", f"{found} (asked for: {asked})")
    else:
        yield bad("python", f"{found}, and {asked} is asked for", f"install a Python that is {asked}")


def _requires_python() -> str:
    told = metadata.metadata(OWN)
    return told["Requires-Python"] if "Requires-Python" in told else ""  # noqa: SIM401 - it is no dict


def packages() -> Iterator[MachineCheck]:
    """A line for each package that matters most, and one for all the others together, or for each that is not met."""
    demands = _demands()
    for name in SHOWN:
        own = [one for one in demands if one.by.startswith(f"{OWN} ") and one.name == name.replace("_", "-")]
        yield _shown(name, own)
    others = [one for one in demands if not (one.by.startswith(f"{OWN} ") and one.name.replace("-", "_") in SHOWN)]
    unmet = [(one, why) for one in others if (why := one.unmet()) is not None]
    for one, why in unmet:
        yield bad("requirements", f"{one.by} asks for {one.requirement}, and {why}", one.mend)
    if not unmet:
        count = len({one.name for one in demands})
        yield good("requirements", f"{count} packages that wirecheck and its dependencies ask for are as they ask")


def _shown(name: str, own: list[Demand]) -> MachineCheck:
    for one in own:
        why = one.unmet()
        if why is not None:
            return bad(name, f"{why}, and wirecheck asks for {one.requirement.specifier}", one.mend)
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return bad(name, "not installed", f"pip install {name}")
    asked = ", ".join(str(one.requirement.specifier) for one in own)
    return good(name, f"{found} (asked for: {asked})" if asked else found)


def _demands() -> list[Demand]:
    """All that wirecheck asks for on this machine, what those ask for, and so on. Raises PackageNotFoundError where
    wirecheck itself is not installed.
    """
    found: list[Demand] = []
    waiting: list[tuple[str, frozenset[str]]] = [(OWN, frozenset())]
    seen = set(waiting)
    while waiting:
        name, extras = waiting.pop()
        for demand in _asked_by(name, extras):
            found.append(demand)
            following = (demand.name, frozenset(demand.requirement.extras))
            if following not in seen:
                seen.add(following)
                waiting.append(following)
    return found


def _asked_by(name: str, extras: frozenset[str]) -> Iterator[Demand]:
    from packaging.requirements import Requirement

    try:
        lines = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        if name == OWN:
            raise
        return  # told where it was asked for
    for line in lines:
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras or {""}):
            yield Demand(f"{name} {metadata.version(name)}", requirement)
