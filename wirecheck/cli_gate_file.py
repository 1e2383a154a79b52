"""wirecheck.toml as the gate reads it: its tables, and one line for everything that is wrong in it."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wirecheck.bounded_text import bounded_text
from wirecheck.cli_request import MOST_SEED, known_wire
from wirecheck.codes import CODES
from wirecheck.errors import UsageError
from wirecheck.expectations import KNOWN_KEYS
from wirecheck.gate import Accepted, Rules, all_pairs
from wirecheck.lock import digest_of_asked
from wirecheck.lock_records import Lock, LockedModel
from wirecheck.runner import Request
from wirecheck.schema import GpuRequest, Level, Policy, Scalar, TrainSpec, WireSpec
from wirecheck.snapshot import Snapshot, parse_ref, take
from wirecheck.vram.gpus import find, parse_gpu

Place = tuple[int | str, ...]
"""Where something stands in the file: names of tables and keys, numbers in lists."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class ModelTable(_Table):
    """A model, by a name of your own."""

    id: str = Field(min_length=1)
    """Hub id, folder or .gguf file; a folder is looked for beside the file."""
    revision: str | None = Field(default=None, min_length=1)
    """Commit, tag or branch on the hub."""
    expect: dict[str, Scalar] = {}
    """Facts that must be so, by the names that the JSON gives them; else CFG11, a block."""


class AcceptedTable(_Table):
    """A finding you take upon yourselves, until a day."""

    code: str
    """The finding's code."""
    on: str
    """A model's name, or `a+b` for the finding of a pair."""
    reason: str = Field(min_length=1)
    """Why it is taken: it stands in every report."""
    until: date
    """The last day it holds, as `2027-01-31`."""


class GateTable(_Table):
    """What must hold of the models."""

    pairs: Literal["all"] | list[tuple[str, str]] = "all"
    """Which pairs, by the models' names; a model that is in none is checked alone."""
    require: Level = Level.SIMULATED
    """The rung every verdict must stand on."""
    depth: Level | None = None
    """How far probes go; as far as what is required, unless said otherwise."""
    strict: bool = False
    """A warning refuses, too."""
    gpus: list[str] = []
    """GPUs that the step must fit on, each of them: `A100-80GB`, `A100-40GBx2`, `auto`."""
    seed: int = Field(default=0, ge=0, le=MOST_SEED)
    """Seed of twins, wires and samples."""
    minutes: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """No pair is begun later than that, and no download goes on."""
    gigabytes: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """`wirecheck fetch` downloads no more."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where real weights run; auto is an accelerator where there is one."""
    trust_remote_code: bool = False
    """Whether code of the models' repositories may be executed."""
    prove_offline: bool = False
    """Everything is loaded once more in a process whose sockets are refused; requires `executed`."""
    accepted: list[AcceptedTable] = []
    """Findings that do not decide the verdict, each with its reason and its last day."""


class GateFile(_Table):
    """The file: which models, in which pairs, asked what."""

    models: dict[str, ModelTable] = Field(min_length=1)
    """The models, each under a name of your own."""
    gate: GateTable = GateTable()
    """What must hold of them."""
    wire: WireSpec = WireSpec()
    """The wire to be trained."""
    train: TrainSpec = TrainSpec()
    """The step, as it will be run."""


_TABLES: Mapping[tuple[str, ...], type[BaseModel]] = {
    (): GateFile,
    ("models", "*"): ModelTable,
    ("gate",): GateTable,
    ("gate", "accepted", "*"): AcceptedTable,
    ("wire",): WireSpec,
    ("train",): TrainSpec,
}


def read_file(path: Path) -> tuple[GateFile, _Pointer]:
    """The file, and where things stand in it. Raises UsageError with the line and what is expected there."""
    try:
        text = bounded_text(path)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", next_step="wirecheck init writes one") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8: {error.reason}", next_step="save it as UTF-8") from None
    try:
        file = GateFile.model_validate(tomllib.loads(text))
    except ValidationError as error:
        raise _refused(path, text, error) from None
    except (ValueError, RecursionError) as error:  # of tomllib: its own, a number of thousands of digits, deep nesting
        raise UsageError(f"{path}: not TOML: {error}", next_step="mend that line") from None
    at = _Pointer(path, text)
    _check_names(file, at)
    return file, at


def read_rules(
    path: Path, command: str, *, offline: bool, lock: Lock | None = None, prove_offline: bool = False
) -> tuple[Rules, Readers]:
    """The rules of the file, and what reads each model: with a lock, at its commit. Raises UsageError."""
    file, at = read_file(path)
    gate = file.gate
    policy = Policy(
        required=gate.require,
        depth=gate.depth or gate.require,
        strict=gate.strict,
        gpus=tuple(_gpu(one, at) for one in gate.gpus),
        trust_remote_code=gate.trust_remote_code,
        device=gate.device,
    )
    if gate.prove_offline or prove_offline:
        policy = policy.also_offline
    try:
        known_wire(file.wire)
    except UsageError as error:
        raise at.wrong(("wire", "name"), error.message.removeprefix("--wire "), error.next_step) from None
    names = list(file.models)
    rules = Rules(
        file=str(path),
        pairs=all_pairs(names) if gate.pairs == "all" else (*gate.pairs, *alone(names, gate.pairs)),
        request=Request(wire=file.wire, train=file.train, policy=policy, seed=gate.seed, command=command),
        expect={name: model.expect for name, model in file.models.items()},
        accepted=tuple(Accepted(one.code, one.on, one.reason, one.until) for one in gate.accepted),
        lock=lock,
        asked_as_locked=None if lock is None else lock.asked == asked_of(file),
        limit_s=None if gate.minutes is None else gate.minutes * 60,
    )
    return rules, readers(file, path.parent, offline=offline, lock=lock)


@dataclass(frozen=True)
class Reader:
    """What reads one model of the file, when it is called. Raises CouldNotCheck's children, UsageError."""

    text: str
    """The model, as a user would type it."""
    offline: bool

    def __call__(self) -> Snapshot:
        """The model's files."""
        return take(parse_ref(self.text), offline=self.offline)


def asked_of(file: GateFile) -> str:
    """A digest of what the file asks, without what it accepts."""
    told = file.model_dump(mode="json")
    told["gate"].pop("accepted")
    return digest_of_asked(told)


def alone(names: Sequence[str], pairs: Sequence[tuple[str, str]]) -> tuple[tuple[str, None], ...]:
    """The models that no pair names: each is checked by itself, since the file says what must hold of it."""
    named = {name for pair in pairs for name in pair}
    return tuple((name, None) for name in names if name not in named)


Readers = dict[str, Reader]
"""Model's name -> what reads it."""


def readers(file: GateFile, beside: Path, *, offline: bool, lock: Lock | None = None) -> Readers:
    """What reads each model: at the revision that the file names, or with a lock at its commit."""
    refs = {name: ref_of(model, beside, lock.model(name) if lock else None) for name, model in file.models.items()}
    return {name: Reader(text, offline) for name, text in refs.items()}


def ref_of(model: ModelTable, beside: Path, locked: LockedModel | None) -> str:
    """A model as a command line would name it. Folders and files are looked for beside the file."""
    text = model.id
    spelt_as_path = text.startswith(("./", "../")) or text.lower().endswith(".gguf") or text in (".", "..")
    if spelt_as_path:
        path = beside / text
        text = str(path) if path.is_absolute() else f"./{path}"  # still spelt as a path: no folder is no hub id
    if locked is not None and locked.kind == "hub":
        return f"{text.partition('@')[0]}@{locked.commit}"
    return text if model.revision is None else f"{text}@{model.revision}"


# --- what pydantic does not know ---------------------------------------------------------------------------------


def _check_names(file: GateFile, at: _Pointer) -> None:
    """Models that pairs and acceptances name, codes, and facts that are expected."""
    names = list(file.models)
    _check_pairs(file.gate.pairs, names, at)
    subjects = [*names, *(f"{a}+{b}" for a in names for b in names if a != b)]
    for n, one in enumerate(file.gate.accepted):
        if one.code not in CODES:
            raise at.wrong(("gate", "accepted", n, "code"), f"there is no code {one.code}", _near(one.code, CODES))
        if one.on not in subjects:
            raise at.wrong(("gate", "accepted", n, "on"), f"no model or pair is {one.on}", _near(one.on, subjects))
    for name, model in file.models.items():
        for key in model.expect:
            if key not in KNOWN_KEYS:
                raise at.wrong(("models", name, "expect", key), "no probe establishes it", _near(key, KNOWN_KEYS))
        if model.revision is not None and ("@" in model.id or model.id.startswith((".", "/", "~"))):
            raise at.wrong(("models", name, "revision"), "a folder or file has none", "leave it out")


def _check_pairs(pairs: Literal["all"] | list[tuple[str, str]], names: Sequence[str], at: _Pointer) -> None:
    if pairs == "all":
        return
    if not pairs:
        raise at.wrong(("gate", "pairs"), "no pair is named", 'name some, or write pairs = "all"')
    for n, (a, b) in enumerate(pairs):
        unknown = [name for name in (a, b) if name not in names]
        if unknown:
            raise at.wrong(("gate", "pairs", n), f"no model is named {unknown[0]}", _near(unknown[0], names))
        if a == b:
            raise at.wrong(("gate", "pairs", n), f"{a} is paired with itself", "name two models")


def _gpu(text: str, at: _Pointer) -> GpuRequest:
    try:
        made = parse_gpu(text)
        find(made.name)
    except UsageError as error:
        raise at.wrong(("gate", "gpus"), error.message, error.next_step) from None
    return made


# --- where it stands ---------------------------------------------------------------------------------------------


class _Pointer:
    """Finds lines in the text of the file, as well as can be told from its headers and keys."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.lines = path, text.splitlines()

    def wrong(self, place: Place, words: str, next_step: str | None) -> UsageError:
        """The error for something that stands there."""
        line = self._line(place)
        where = f"{self.path}:{line}" if line else str(self.path)
        shown = ".".join(map(str, place))
        return UsageError(f"{where}: {shown}: {words}", next_step=next_step)

    def _line(self, place: Place) -> int | None:
        """Of the key, or of its table's header, or of an outer key; None where nothing is found."""
        for cut in range(len(place), 0, -1):
            header = self._header(place[:cut])
            if header is not None:
                return self._key(header, place[cut:]) or header
        return self._key(0, place)

    def _header(self, place: Place) -> int | None:
        names = [str(one) for one in place if isinstance(one, str)]
        wanted = [one for one in place if isinstance(one, int)]
        pattern = r"\s*\.\s*".join(rf"[\"']?{re.escape(name)}[\"']?" for name in names)
        found = [n for n, line in enumerate(self.lines, 1) if re.match(rf"\s*\[+\s*{pattern}\s*\]+", line)]
        nth = wanted[-1] if wanted else 0
        return found[nth] if nth < len(found) else None

    def _key(self, header: int, rest: Place) -> int | None:
        keys = [str(one) for one in rest if isinstance(one, str)]
        if not keys:
            return None
        for n, line in enumerate(self.lines[header:], header + 1):
            if line.lstrip().startswith("["):
                return None
            if re.match(rf"\s*[\"']?{re.escape(keys[0])}[\"']?\s*[.=]", line):
                return n
        return None


def line_finder(path: Path) -> Callable[[Place], int | None]:
    """What tells the line of a place in that file: None where it cannot be told, or the file cannot be read."""
    try:
        return _Pointer(path, bounded_text(path))._line
    except (OSError, UnicodeDecodeError):
        return lambda _: None


def _refused(path: Path, text: str, error: ValidationError) -> UsageError:
    """The first thing that does not validate."""
    problem = error.errors()[0]
    # Of a union each member has its own complaint, whose place ends with the member's name, which is no key.
    place = tuple(one for one in problem["loc"] if not (isinstance(one, str) and "[" in one)) or problem["loc"]
    if problem["type"] == "missing":
        *above, key = place
        return _Pointer(path, text).wrong(tuple(above) or place, f"{key} is missing", f"add {key}")
    if problem["type"] == "extra_forbidden":
        known = _keys(place[:-1])
        next_step = _near(str(place[-1]), known) if known else None
        return _Pointer(path, text).wrong(place, "no such key" if place[1:] else "no such table", next_step)
    given = str(problem["input"])[:80]
    return _Pointer(path, text).wrong(place, f"{problem['msg'].lower()} (given: {given!r})", "mend that line")


def _keys(above: Place) -> Sequence[str]:
    """The keys that table knows."""
    for shape, table in _TABLES.items():
        if len(shape) == len(above) and all(want in ("*", str(have)) for want, have in zip(shape, above, strict=True)):
            return list(table.model_fields)
    return []


def _near(word: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(names)[:12])}"


# --- a first file ------------------------------------------------------------------------------------------------

_FIRST = """\
# What must hold before the job runs. `wirecheck gate` says whether it does: exit 0 only if all of it does.

{models}
[gate]
pairs = "all"                # or [["one", "another"], ...]
require = "simulated"        # the rung every verdict must stand on: declared, inspected, simulated, executed, measured
strict = false               # true: a warning refuses, too
# gpus = ["A100-80GB"]       # GPUs the step must fit on, each of them; "H100-80GBx2" for two
# minutes = 30               # no pair is begun later than that
# prove_offline = true       # load everything once more, at depth executed, where sockets are refused
# gigabytes = 100            # wirecheck fetch downloads no more

# A finding you take upon yourselves, until a day. It is reported when it has expired, and when nothing needs it.
# [[gate.accepted]]
# code = "TOK06"
# on = "one"                 # a model's name, or "one+another" for a finding of the pair
# reason = "the wire sends no BOS of its own"
# until = {year}-12-31

[wire]
name = "bytes"               # or package.module:factory, for a wire of your own
latent_length = 32
latent_width = 256

[train]
batch = 8
context = 64
answer = 64
dtype = "bfloat16"
"""
_MODEL = """\
[models.{name}]
id = "{id}"
# revision = "..."           # a commit: what a branch holds changes under you
# expect = {{ hidden_size = 4096, vocab_size = 128256 }}   # facts that must be so
"""


def first_file(models: Sequence[str], year: int) -> str:
    """A commented file to begin with, for those models."""
    named: dict[str, str] = {}
    for text in models or ("org/one", "org/another"):
        base = re.sub(r"[^\w-]+", "-", text.partition("@")[0].rstrip("/").rpartition("/")[2]).strip("-") or "model"
        name, n = base, 2
        while name in named:
            name, n = f"{base}-{n}", n + 1
        named[name] = text
    tables = []
    for name, text in named.items():
        ident, _, revision = text.partition("@")
        table = _MODEL.format(name=name, id=ident.replace("\\", "\\\\").replace('"', '\\"'))
        if revision:
            table = re.sub(r"# revision = .*", f'revision = "{revision}"', table)
        tables.append(table)
    return _FIRST.format(models="\n".join(tables), year=year)
