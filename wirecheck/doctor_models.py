"""A listed model on this machine: its files, its class in the installed transformers, and the packages it needs.

What is needed is read from the bytes of its tokenizer, from its code, and from transformers' own quantizer; torch is
loaded for a quantized model only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version
from typing import Any

from wirecheck.doctor_needs import of_code, of_tokenizer
from wirecheck.errors import CouldNotCheck, WirecheckError
from wirecheck.geometry import Geometry, lookup, read_geometry
from wirecheck.machine_records import MachineCheck, bad, good
from wirecheck.model_types import architectures_by_type, known_model_types
from wirecheck.quantization import read_quantization
from wirecheck.snapshot import JsonUnreadable, Snapshot
from wirecheck.views.words import plural

_ELSE = {
    True: "ask again where the model is to run: srun --gres=gpu:1 wirecheck doctor FILE",
    False: "do what it says, or pip install -U transformers",
}
"""What to do where a refusal names no command: whether it wants a device -> words."""

Taken = Snapshot | Exception
"""A model's files, or why they cannot be had."""


def taken(read: Callable[[], Snapshot]) -> Taken:
    """The files of one model, as far as they can be had."""
    try:
        return read()
    except Exception as error:  # noqa: BLE001 - told in the model's own line
        return error


def bytes_to_fetch(models: Iterable[Taken]) -> int | None:
    """Bytes of weights on the hub that the cache lacks; None where no model of the hub could be read."""
    on_hub = [one for one in models if isinstance(one, Snapshot) and one.ref.kind == "hub"]
    lacking = [file for one in on_hub for file in one.weights if file.path is None and file.problem is None]
    return sum(file.size_bytes or 0 for file in lacking) if on_hub else None


def look(name: str, found: Taken, *, trust_remote_code: bool) -> Iterator[MachineCheck]:
    """The lines of one model. Raises what reading it raised, where that is none of wirecheck's own errors."""
    if isinstance(found, WirecheckError):
        retry = "try again later" if isinstance(found, CouldNotCheck) else "mend the file"
        yield bad(name, found.message, found.next_step or retry)
        return
    if isinstance(found, Exception):
        raise found
    yield _files(name, found)
    try:
        raw = found.read_json("config.json")
    except JsonUnreadable as error:
        yield bad(f"{name}: class", str(error), f"wirecheck model {found.ref.text} --depth declared")
        return
    geometry = read_geometry(raw)
    code = _code_named(raw)
    yield _class(f"{name}: class", raw, geometry, code=code, trust_remote_code=trust_remote_code)
    yield _packages(f"{name}: tokenizer", of_tokenizer(found))
    if code and trust_remote_code:
        yield _packages(f"{name}: code", of_code(found))
    yield from _quantized(f"{name}: quantization", raw, geometry)


def _files(name: str, found: Snapshot) -> MachineCheck:
    broken = [file for file in found.weights if file.problem is not None]
    if broken:
        seen = f"{broken[0].name}: {broken[0].detail or broken[0].problem}"
        return bad(name, seen, f"wirecheck model {found.ref.text} --depth inspected")
    lacking = sum(file.path is None for file in found.weights)
    where = f"{plural(len(found.weights), 'weight file')}, {len(found.weights) - lacking} of them on this disk"
    return good(name, f"{found.ref.name} at {found.source('').rpartition('@')[2]}: {where}")


# --- the class ---------------------------------------------------------------------------------------------------


def _code_named(raw: Mapping[str, Any]) -> bool:
    """Whether config.json names code of the repository."""
    auto_map = raw.get("auto_map")
    return isinstance(auto_map, Mapping) and bool(auto_map)


def _class(
    line: str, raw: Mapping[str, Any], geometry: Geometry, *, code: bool, trust_remote_code: bool
) -> MachineCheck:
    installed, kind = version("transformers"), geometry.model_type
    if kind is None:
        return bad(line, "config.json names no model type", "wirecheck explain CFG02")
    if kind in known_model_types():
        return _causal_class(line, raw, geometry, installed)
    if code and trust_remote_code:
        return good(line, f"{kind}: code of the repository, which the file's trust_remote_code allows")
    if code:
        mend = "read that code, pin the commit, then write trust_remote_code = true under [gate]"
        return bad(line, f"transformers {installed} has no {kind}, only the repository's code has", mend)
    return bad(
        line, f"transformers {installed} has no model type {kind}{_written_by(raw)}", "pip install -U transformers"
    )


def _causal_class(line: str, raw: Mapping[str, Any], geometry: Geometry, installed: str) -> MachineCheck:
    inner = lookup(raw, f"{geometry.nested}.model_type") if geometry.nested else None
    for kind in (geometry.model_type, inner):
        names = architectures_by_type().get(kind) if isinstance(kind, str) else None
        if names:
            return good(line, f"{' or '.join(names)} of transformers {installed} ({kind})")
    seen = f"transformers {installed} has {geometry.model_type}, and no causal language model of it"
    return bad(line, seen, "wirecheck explain CFG03")


def _written_by(raw: Mapping[str, Any]) -> str:
    written = raw.get("transformers_version")
    return f"; config.json was written by {written[:20]}" if isinstance(written, str) else ""


# --- what else it needs ------------------------------------------------------------------------------------------


def _packages(line: str, needs: tuple[str, tuple[str, ...], str | None]) -> MachineCheck:
    seen, lacking, mend = needs
    if lacking:
        return bad(line, f"{seen}; not installed: {', '.join(lacking)}", f"pip install {' '.join(lacking)}")
    return good(line, seen) if mend is None else bad(line, seen, mend)


def _quantized(line: str, raw: Mapping[str, Any], geometry: Geometry) -> Iterator[MachineCheck]:
    """Nothing for a model that declares no quantization."""
    quantization = read_quantization(raw, geometry.nested)
    if quantization is None:
        return
    declared = lookup(raw, quantization.key)
    if not isinstance(declared, Mapping):
        yield bad(line, f"{quantization.key} is no object", "wirecheck explain CFG07")
        return
    from wirecheck.zoo_quantizers import accepts

    answer, installed = accepts(declared), version("transformers")
    seen = f"{quantization.method}: transformers {installed}"
    if answer.refusal is not None:
        yield bad(line, f"{seen} refuses it here: {answer.refusal}", answer.install or _ELSE[answer.wants_device])
    elif answer.dequantizes:
        yield good(line, f"{seen} reads it here by dequantizing it, for want of a device or a package")
    else:
        yield good(line, f"{seen} accepts it here")
