"""`wirecheck lock`, `lock --check`, and the variables of `gate --print-env`: read, call, write, say."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from rich.filesize import decimal
from rich.text import Text

from wirecheck.bounded_text import MOST_RECORD_BYTES, bounded_text
from wirecheck.cli_console import captured_console
from wirecheck.cli_gate_file import GateFile, Readers, asked_of, read_file, read_rules, readers, ref_of
from wirecheck.cli_output import Refusals, put_down, say, to_json, write
from wirecheck.errors import CouldNotCheck, OutputNotWritten, UsageError
from wirecheck.gate import Gate
from wirecheck.gate_records import GateResult
from wirecheck.gate_shelf import Shelf
from wirecheck.lock import check_lock, lock_model, lock_result, versions
from wirecheck.lock_records import Lock, LockCheck, LockedModel, LockedModelNow
from wirecheck.snapshot import parse_ref, short
from wirecheck.views import gate as view
from wirecheck.views.console import LiveProgress
from wirecheck.views.words import plural, visible

LOCKED = "wirecheck lock"
MOVED = 3
"""Exit code of `lock --check` where something moved that matters."""


def lock_path(file: Path) -> Path:
    """Where the lock of a file lies: beside it."""
    return file.with_suffix(".lock")


def read_lock(path: Path) -> Lock:
    """A lock from its file. Raises UsageError."""
    try:
        return Lock.model_validate_json(bounded_text(path, MOST_RECORD_BYTES))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", next_step=LOCKED) from None
    except (ValidationError, UnicodeDecodeError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise UsageError(f"{path}: no lock: {first}", next_step=f"take it from version control, or: {LOCKED}") from None


def lock_of(file: Path, held: GateFile) -> Lock:
    """The lock beside a file that has been read. Raises UsageError where it is of other models than the file names."""
    lock = read_lock(lock_path(file))
    where = lock_path(file)
    asked = {name: (model.id, model.revision) for name, model in held.models.items()}
    locked = {model.name: (model.id, model.revision) for model in lock.models}
    for name in sorted(asked.keys() | locked.keys()):
        if name not in locked:
            raise UsageError(f"{where}: the file names {name}, which is not locked", next_step=LOCKED)
        if name not in asked:
            raise UsageError(f"{where}: {name} is locked, and the file does not name it", next_step=LOCKED)
        if asked[name] != locked[name]:
            was, now = ("@".join(filter(None, pair)) for pair in (locked[name], asked[name]))
            raise UsageError(f"{where}: {name} was locked as {was}, and the file says {now}", next_step=LOCKED)
    return lock


def lock_command(file: Path, options: Mapping[str, Any]) -> int:
    """0 when the lock is written. Raises WirecheckError's children; then an earlier lock stands as it was."""
    held, _ = read_file(file)
    with _Watch(Console(stderr=True)) as watch:
        lock = _locked(held, readers(held, file.parent, offline=options["offline"]), watch)
        found = _gated(file, lock, watch, offline=options["offline"]) if options["gate"] else None
    if found is not None:
        results = tuple(lock_result(row.a, row.b, row.result) for row in found.rows if row.result is not None)
        lock = lock.model_copy(update={"results": results})
    with Refusals() as refused:
        try:
            write(lock_path(file), to_json(lock))
        except OutputNotWritten:
            refused.say("" if found is None else f"{visible(view.sentence(found))}\n")
            raise
        refused.say("".join(f"{line}\n" for line in _told(lock_path(file), lock, found)))
    return 0


def _locked(held: GateFile, read: Readers, watch: _Watch) -> Lock:
    models = []
    for name, model in held.models.items():
        watch.note(f"reading {name} …")
        models.append(lock_model(name, model.id, model.revision, read[name]()))
    return Lock(models=tuple(models), versions=versions(), asked=asked_of(held))


def _gated(file: Path, lock: Lock, watch: _Watch, *, offline: bool) -> GateResult:
    """What the gate says of what is being locked."""
    rules, read = read_rules(file, shlex.join(["wirecheck", "gate", str(file), "--locked"]), offline=offline, lock=lock)
    return Gate(rules, read, watch, Shelf.of_user()).run()


def _told(path: Path, lock: Lock, found: GateResult | None) -> Iterator[str]:
    for model in lock.models:
        yield visible(f"{model.name}: {model.id} at {short(model.commit)}, {plural(len(model.files), 'file')}, ") + (
            decimal(model.size)
        )
    yield f"{path}: written; keep it in version control"
    if found is not None:
        yield visible(view.sentence(found))
    yield f"next: wirecheck gate {shlex.quote(str(path.with_suffix('.toml')))} --locked"


class _Watch(LiveProgress):
    """The progress of each check."""

    def __enter__(self) -> _Watch:
        super().__enter__()
        return self

    def row(self, _row: object) -> None:
        """Says nothing: the gate's sentence at the end does."""


# --- lock --check ------------------------------------------------------------------------------------------------


def check_command(file: Path, options: Mapping[str, Any]) -> int:
    """0 where nothing moved that matters, 3 where something did, 4 where a model could not be read."""
    held, _ = read_file(file)
    lock = lock_of(file, held)
    now = readers(held, file.parent, offline=options["offline"])
    then = readers(held, file.parent, offline=options["offline"], lock=lock)
    with _Watch(Console(stderr=True)) as watch:
        watch.note("reading what the revisions stand for …")
        found = check_lock(lock, now, then)
    put_down(found, options["json"], (), lambda: _shown(found))
    if found.matters:
        return MOVED
    return CouldNotCheck.exit_code if any(model.why for model in found.models) else 0


def _shown(found: LockCheck) -> str:
    terminal = captured_console()
    with terminal.capture() as captured:
        for model in found.models:
            for line, style in _lines(model):
                terminal.print(Text(visible(line), style=style))
        for name, locked, here in found.versions:
            words = f"{name}: {locked} is locked, {here or 'nothing'} is installed"
            terminal.print(Text(words, style="yellow"))
        if found.matters:
            words = "next: wirecheck gate --locked still checks what is locked; to take what is new: wirecheck lock"
            terminal.print(Text(words))
    return captured.get()


def _lines(model: LockedModelNow) -> Iterator[tuple[str, str]]:
    named = model.id + (f"@{model.revision}" if model.revision else "")
    if model.why:
        yield f"{model.name}: {model.why}", "red"
    elif model.now == model.locked:
        yield f"{model.name}: {named} is at {short(model.locked)}, as locked", "green"
    elif not model.moved:
        words = "no file that is read has changed"
        yield f"{model.name}: {named} moved from {short(model.locked)} to {short(model.now or '')}; {words}", "green"
    else:
        yield f"{model.name}: {named} moved from {short(model.locked)} to {short(model.now or '')}", "bold"
    for one in model.moved:
        bearing = "" if one.matters else " (of no weight)"
        yield f"  {one.part}: {one.file} {one.how}: {one.what}{bearing}", "yellow" if one.matters else ""


def verify_command(file: Path) -> int:
    """0 where the lock is of the models that the file names. Raises UsageError where not."""
    lock = lock_of(file, read_file(file)[0])
    say(f"{lock_path(file)}: of the {plural(len(lock.models), 'model')} that {file} names\n")
    return 0


# --- gate --print-env --------------------------------------------------------------------------------------------


def print_env(file: Path) -> int:
    """Variables for the job's shell, on stdout. Raises CouldNotCheck where the cache lacks what is locked."""
    held, _ = read_file(file)
    lock = lock_of(file, held)
    lines = list(_variables(held, lock, file))
    twice = {name for name, count in Counter(name for name, _ in lines).items() if count > 1}
    if twice:
        raise UsageError(
            f"{file}: two models would have the variable {min(twice)}", next_step="give one of them another name"
        )
    say("".join(f"export {name}={shlex.quote(value)}\n" for name, value in lines))
    return 0


def _variables(held: GateFile, lock: Lock, file: Path) -> Iterator[tuple[str, str]]:
    if any(model.kind == "hub" for model in lock.models):
        from wirecheck.snapshot_hub import hub_cache

        yield "HF_HUB_OFFLINE", "1"
        yield "HF_HUB_CACHE", str(hub_cache().absolute())
    for model in lock.models:
        name = re.sub(r"\W", "_", model.name, flags=re.ASCII).upper()
        text = ref_of(held.models[model.name], file.parent, model)
        yield f"WIRECHECK_{name}_PATH", str(_folder(model, text))
        if model.kind == "hub":
            yield f"WIRECHECK_{name}_MODEL", parse_ref(text).name
            yield f"WIRECHECK_{name}_REVISION", model.commit


def _folder(model: LockedModel, text: str) -> Path:
    """Where the job finds the files, all of them there."""
    ref = parse_ref(text)
    if ref.kind != "hub":
        assert ref.path is not None
        return ref.path.absolute()
    from wirecheck.snapshot_hub import cached_folder

    folder = cached_folder(ref.name, model.commit)
    lacking = [one.name for one in model.files if not _whole(folder / one.name, one.size)]
    if lacking:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise CouldNotCheck(
            f"{model.name}: the cache lacks {lacking[0]}{more}",
            next_step="wirecheck fetch --locked",
        )
    return folder


def _whole(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False
