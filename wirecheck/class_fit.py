"""Names and shapes on file against those a class expects: the record, and how packed (quantised) files are compared."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from wirecheck.safetensors_header import TensorEntry

_MATRIX = 2
"""Sizes of a matrix."""
_PLAIN_DTYPES = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Misshapen:
    """A tensor whose shape on file is not the one the class has."""

    name: str
    on_file: str
    expected: str


@dataclass(frozen=True)
class Fit:
    """The comparison, after transformers' own key conversion. Names are sorted."""

    class_name: str
    num_expected: int
    """Parameters and persistent buffers of the class."""
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[Misshapen, ...]
    names_how: str = ""
    """Where names were not compared one by one: how they were, in words."""
    shapes_how: str = ""
    """Where shapes were not compared size by size: how they were, in words."""


def packed(plain: Fit, tensors: Mapping[str, TensorEntry], modules: Collection[str]) -> Fit:
    """The fit of quantised files, whose packed tensors have names and shapes of their own: module by module.

    A weight is there when its module holds any tensor on file; a tensor is read when it lies within a module that the
    class has; a shape counts where the numbers are plain floats.
    """
    owners = {name: name.rpartition(".")[0] for name in plain.unexpected}
    given = set(owners.values())
    inner = {module for module in modules if "." in module}
    missing = tuple(
        name
        for name in plain.missing
        if name.rpartition(".")[0] not in given and not any(other.startswith(name + "_") for other in owners)
    )
    return replace(
        plain,
        missing=missing,
        unexpected=tuple(name for name, owner in owners.items() if not _lies_within(owner, inner)),
        misshapen=tuple(m for m in plain.misshapen if m.name in tensors and tensors[m.name].dtype in _PLAIN_DTYPES),
        names_how="packed, quantised tensors counted by module",
        shapes_how="packed, quantised tensors left out",
    )


def _lies_within(owner: str, modules: Collection[str]) -> bool:
    parts = owner.split(".")
    return any(".".join(parts[:length]) in modules for length in range(len(parts), 0, -1))


def lacking(name: str, tensors: Collection[str], seen: Sequence[int], wanted: Sequence[int]) -> str | None:
    """Words for what is missing of a tensor that the library joins from many on file, such as experts; else None.

    Joined along its first size, which falls short, while the others are right: some of its parts are in no file.
    """
    joined = name not in tensors and "expert" in name and len(seen) == len(wanted) > _MATRIX
    if not joined or tuple(seen[1:]) != tuple(wanted[1:]) or seen[0] >= wanted[0]:
        return None
    return f"{wanted[0] - seen[0]} of the {wanted[0]} parts of {name}"


def dims(shape: Iterable[int]) -> str:
    """A shape in words: `4096 x 512`."""
    return " x ".join(str(size) for size in shape) or "scalar"
