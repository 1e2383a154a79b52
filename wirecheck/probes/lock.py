"""HUB04, WGT13, ENV01: whether what is read can move, and is what a lock pinned. Digests: the probe `weights`."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib import metadata

from wirecheck.lock_records import LOCKED_REMEDY
from wirecheck.probe import ModelBench, Probe, Yielded
from wirecheck.schema import Evidence, Level, LockedSide, Policy, Severity, WireSpec
from wirecheck.snapshot import Snapshot, short
from wirecheck.snapshot_folder import COMMIT, is_metadata, list_all, may_be_loaded

_NAMED = 3


def read_of(snapshot: Snapshot) -> tuple[str, ...]:
    """The files that are read of a model, by name: its metadata, and the weights that `from_pretrained` would open."""
    return tuple(sorted({*filter(is_metadata, snapshot.files), *(file.name for file in snapshot.weights)}))


def there(snapshot: Snapshot) -> tuple[str, ...]:
    """Every file that some loader could take for part of the model: as the hub lists them, and as the folder has them.

    Of a GGUF file's folder only the file itself is looked at: nothing else there is loaded.
    """
    if snapshot.ref.kind == "gguf":
        return read_of(snapshot)
    return tuple(sorted(filter(may_be_loaded, {*snapshot.files, *list_all(snapshot.folder)})))


def _run(bench: ModelBench) -> Iterator[Yielded]:
    yield from _revision(bench)
    for side in bench.policy.locked:
        if side.subject == bench.side:
            yield from _files(bench, side)
    yield from _versions(bench)


def _revision(bench: ModelBench) -> Iterator[Yielded]:
    """HUB04."""
    snapshot = bench.snapshot
    ref, commit = snapshot.ref, snapshot.commit
    seen = Evidence(level=Level.INSPECTED, source=snapshot.source("(list of files)"), observed=commit)
    if ref.kind != "hub":
        yield bench.ok("HUB04", "The model is read from this disk, where no branch moves it.", seen)
    elif ref.revision is not None and COMMIT.match(ref.revision):
        yield bench.ok("HUB04", "The revision is a commit, which cannot move.", seen)
    else:
        named = f"The revision {ref.revision}" if ref.revision else "No revision is named, and the default branch"
        remedy = f'Pin it: `wirecheck lock`, then `wirecheck gate --locked`; or name the commit: revision = "{commit}".'
        yield bench.found("HUB04", f"{named} can move: it stands for {commit} now.", seen, remedy=remedy)


def _files(bench: ModelBench, side: LockedSide) -> Iterator[Yielded]:
    """WGT13 for what no digest can tell: a file that the lock does not know, another commit."""
    snapshot = bench.snapshot
    source = snapshot.source("(list of files)")
    of_commit = {one.name for one in snapshot.listed} if snapshot.commit == side.commit else set()
    extra = sorted({*read_of(snapshot), *there(snapshot)} - {*side.files, *of_commit})
    for name in extra[:_NAMED]:
        seen = Evidence(level=Level.INSPECTED, source=source, observed=name)
        remedy = "Take it away, or look at what it changes and lock again: `wirecheck lock`."
        yield bench.found("WGT13", f"{name} is there, and the lock has no such file.", seen, remedy=remedy)
    seen = Evidence(level=Level.INSPECTED, source=source, observed=snapshot.commit, expected=side.commit)
    if snapshot.commit == side.commit:
        yield bench.ok("WGT13", "The commit is the one that is locked.", seen)
    elif not extra:
        claim = f"What is read is {short(snapshot.commit)}, and {short(side.commit)} is locked."
        yield bench.found("WGT13", claim, seen, remedy=LOCKED_REMEDY)


def _versions(bench: ModelBench) -> Iterator[Yielded]:
    """ENV01."""
    locked = bench.policy.versions
    if not locked:
        return
    found = {name: installed(name) for name, _ in locked}
    others = [(name, version) for name, version in locked if found[name] != version]
    if not others:
        seen = Evidence(level=Level.INSPECTED, source="installed distributions", observed=len(locked))
        yield bench.ok("ENV01", f"All {len(locked)} versions are those that were locked.", seen)
        return
    told = ", ".join(f"{name} {found[name] or 'not installed'} (locked: {version})" for name, version in others)
    seen_all = (
        Evidence(level=Level.INSPECTED, source=f"installed {name}", observed=found[name], expected=version)
        for name, version in others
    )
    mend = " ".join(f"{name}=={version}" for name, version in others if name != "python")
    remedy = f"Install what is locked (`pip install {mend}`), or lock again on this machine." if mend else None
    # A lock was asked for, and nothing else is taken: no mere warning.
    yield bench.found("ENV01", f"Not as locked: {told}.", *seen_all, severity=Severity.BLOCK, remedy=remedy)


def installed(name: str) -> str | None:
    """The version of a package (or of `python`) on this machine; None where it is not installed."""
    if name == "python":
        return platform.python_version()
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _asked(_wire: WireSpec, policy: Policy) -> bool:
    return policy.fixed_revisions or bool(policy.locked or policy.versions)


LOCK = Probe(
    name="lock",
    question="Can what is read move, and is it what was locked?",
    scope="model",
    level=Level.INSPECTED,
    codes=("HUB04", "WGT13", "ENV01"),
    needs="files",
    run=_run,
    asked=_asked,
)
