"""`wirecheck fetch`: what the gate and the job read of the hub's models, into the cache, whole and verified."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from wirecheck.cache_folder import STORE, cache_home
from wirecheck.cli_gate_file import GateFile, read_file, readers
from wirecheck.cli_lock import lock_of
from wirecheck.cli_output import say
from wirecheck.deadline import within
from wirecheck.errors import CouldNotCheck, HubUnreachable
from wirecheck.lock import lock_model
from wirecheck.lock_records import Lock
from wirecheck.snapshot import Snapshot, short
from wirecheck.snapshot_hub_download import Wanted, download, make_room, verify, wanted
from wirecheck.store import Store
from wirecheck.views.words import plural, visible
from wirecheck.weight_files import Listed, is_regular, stamp


@dataclass(frozen=True)
class _Model:
    """One model of the file: what it is, and what of it is still to come."""

    name: str
    snapshot: Snapshot
    weights: tuple[Listed, ...]
    """Nothing where the model lies on this disk."""
    lacking: tuple[Wanted, ...]

    @property
    def size(self) -> int:
        """Bytes of its weights."""
        return sum(one.size or 0 for one in self.weights)


def fetch_command(file: Path, options: Mapping[str, Any]) -> int:
    """0 when everything is in the cache and has the bytes that the hub lists. Raises CouldNotCheck's children."""
    held, _ = read_file(file)
    with within(None if held.gate.minutes is None else held.gate.minutes * 60):
        return _fetch(held, file, options)


def _fetch(held: GateFile, file: Path, options: Mapping[str, Any]) -> int:
    lock = lock_of(file, held) if options["locked"] else None
    console = Console(stderr=True)
    with console.status("reading what the hub lists, and what is there …"):
        read = readers(held, file.parent, offline=False, lock=lock)
        models = [_model(name, held, read[name](), lock) for name in held.models]
    lacking = tuple(one for model in models for one in model.lacking)
    once = tuple({one.blob: one for one in lacking}.values())
    need = sum(one.size - one.come for one in once)
    _within(held.gate.gigabytes, need)
    if options["dry_run"]:
        say("".join(f"{line}\n" for line in _plan(models, need)))
        return 0
    make_room(once)
    if lacking:
        _download(lacking, once, console)
    say("".join(f"{line}\n" for line in _done(models, need, file, locked=lock is not None)))
    return 0


def _model(name: str, held: GateFile, snapshot: Snapshot, lock: Lock | None) -> _Model:
    if snapshot.ref.kind != "hub":
        return _Model(name, snapshot, (), ())
    if not snapshot.listed:
        raise CouldNotCheck(f"{name}: the hub may not be asked", next_step="unset HF_HUB_OFFLINE")
    table = held.models[name]
    seen = lock_model(name, table.id, table.revision, snapshot)
    locked = lock.model(name) if lock else None
    if locked is not None and seen != locked:
        raise HubUnreachable(
            f"{name}: the hub lists other bytes than were locked at {locked.commit}",
            next_step="wirecheck lock --check says what; do not use this copy",
        )
    pickles = [one.name for one in snapshot.weights if one.format == "pickle"]
    if pickles:
        raise CouldNotCheck(
            f"{name}: its weights are pickles ({pickles[0]}), which are not fetched",
            next_step="name a revision that has safetensors: many repositories have one at refs/pr/…",
        )
    names = {one.name for one in snapshot.weights}
    weights = tuple(one for one in snapshot.listed if one.name in names)
    return _Model(name, snapshot, weights, _lacking(snapshot, weights))


def _within(gigabytes: float | None, need: int) -> None:
    if gigabytes is not None and need > gigabytes * 1e9:
        raise CouldNotCheck(
            f"{decimal(need)} are to come, more than the {gigabytes:g} GB that the file allows",
            next_step="raise gigabytes in [gate], or fetch some of it elsewhere",
        )


def _plan(models: Sequence[_Model], need: int) -> Iterator[str]:
    yield from _each(models, lambda model: f"{len(model.lacking)} of {plural(len(model.weights), 'file')} to come")
    yield f"{decimal(need)} to come; nothing was downloaded"


def _each(models: Sequence[_Model], words: Callable[[_Model], str]) -> Iterator[str]:
    """A line for each model: what it is, and those words of one that comes from the hub."""
    for model in models:
        if model.weights:
            named = visible(f"{model.snapshot.ref.name} at {short(model.snapshot.commit)}")
            yield f"{visible(model.name)}: {named}, {words(model)}"
        else:
            yield visible(f"{model.name}: on this disk")


def _download(files: Sequence[Wanted], once: Sequence[Wanted], console: Console) -> None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        begun, total = sum(one.come for one in once), sum(one.size for one in once)
        task = bar.add_task(plural(len(once), "file"), total=total, completed=begun)
        download(files, lambda count: bar.advance(task, count))


# --- digests -----------------------------------------------------------------------------------------------------


def _lacking(snapshot: Snapshot, weights: Sequence[Listed]) -> tuple[Wanted, ...]:
    """What is still to come: what the cache does not hold, and what it holds with other bytes than the hub lists."""
    folder, name, commit = snapshot.folder, snapshot.ref.name, snapshot.commit
    return tuple(one for one in wanted(name, commit, weights) if not _sound(folder / one.listed.name, one.listed))


def _sound(path: Path, listed: Listed) -> bool:
    """Whether a file has the digest that the hub lists; the bytes are read once, as long as nobody touches them."""
    if not is_regular(path) or path.stat().st_size != listed.size:
        return False
    store, key = Store(cache_home() / STORE), _key(path, listed)
    if store.get(key) is not None:
        return True
    if not verify(path, listed):
        return False
    store.put(key, "verified file", str(path))
    return True


def _key(path: Path, listed: Listed) -> str:
    told = ("verified", str(path.resolve()), listed.digest, stamp(path))
    return hashlib.sha256(repr(told).encode()).hexdigest()[:40]


def _done(models: Sequence[_Model], need: int, file: Path, *, locked: bool) -> Iterator[str]:
    yield from _each(models, lambda model: f"{decimal(model.size)}, every digest as the hub lists it")
    yield f"{decimal(need)} came" if need else "nothing was lacking"
    name = shlex.quote(str(file))
    yield f"next: wirecheck gate {name} --locked --offline" if locked else f"next: wirecheck lock {name}"
