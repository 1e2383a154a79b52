"""Are the files of weights there, whole, plain, and of the size the config says? Read from headers and raw bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wirecheck.errors import CannotRun
from wirecheck.lock_records import LOCKED_REMEDY
from wirecheck.probe import ModelBench, Probe, Yielded
from wirecheck.safetensors_header import TensorEntry
from wirecheck.schema import Evidence, Finding, Level, Pin, Scalar, Severity
from wirecheck.snapshot import JsonUnreadable, Snapshot, WeightFile
from wirecheck.weight_files import git_sha1_of, sha256_of
from wirecheck.zero_fill import large_tensors, zero_filled

EMBEDDING_SUFFIXES = (
    *("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "tok_embeddings.weight", "token_embd.weight"),
    *("embed_in.weight", "backbone.embeddings.weight"),
)
HEAD_SUFFIXES = ("lm_head.weight", "embed_out.weight")
HEAD_NAMES = ("output.weight",)
"""A whole name, never a suffix: attention outputs end alike."""
_OTHER_TOWERS = ("vision", "visual", "audio", "image")
_NESTED = ("text_config", "llm_config", "language_config")
_NO_MATRIX = ("norm", "scale", "inv_freq", "bias", "position_ids", "rotary")
_WHOLE = ("BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64")
_NARROW = ("F8", "F6", "F4")
_RESTORE_QUANTIZATION = (
    "Restore `quantization_config` in config.json from the publisher's commit, or take the unquantized checkpoint."
)
MIXED_SHARE = 0.01
"""Of the matrices' bytes: a second dtype below that share is a router or a buffer."""
_NAMED = 3
"""Files or tensors that a claim names before it only counts."""


def _run(bench: ModelBench) -> Iterator[Yielded]:
    snapshot = bench.snapshot
    if not snapshot.weights:
        ggufs = tuple(name for name in snapshot.files if name.endswith(".gguf"))
        remedy = f"Give a GGUF file by its own path, on this disk: {_names(ggufs)}." if ggufs else None
        seen = _seen(snapshot, None, "no weight file", "weights")
        yield bench.found("WGT01", "There are no weights at all.", seen, remedy=remedy)
        return
    yield from _presence(bench)
    yield from _wholeness(bench)
    yield from _pickles(bench)
    unread = tuple(_pins_unread(bench))
    yield from _digests(bench)
    files = snapshot.weights
    yield bench.fact("num_weight_files", len(files), Level.INSPECTED, snapshot.source(files[0].name))
    if all(file.problem is None and file.format != "pickle" for file in files):
        yield from _vocabulary_rows(bench)
        yield from _dtypes(bench)
        yield from _zeros(bench)
        yield from _facts(bench)
    if unread:
        raise CannotRun(f"a digest is pinned for {_names(unread)}, of which only the header was read")


def _seen(snapshot: Snapshot, name: str | None, observed: Scalar, expected: Scalar = None) -> Evidence:
    """What was read of one file (None: of the list of files)."""
    source = snapshot.source(name or "(list of files)")
    return Evidence(level=Level.INSPECTED, source=source, observed=observed, expected=expected)


def _tensor_seen(snapshot: Snapshot, name: str, observed: Scalar, expected: Scalar = None) -> Evidence:
    file = next(f.name for f in snapshot.weights for t in f.tensors if t.name == name)
    return Evidence(level=Level.INSPECTED, source=snapshot.source(file, name), observed=observed, expected=expected)


def _names(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"


def _presence(bench: ModelBench) -> Iterator[Yielded]:
    """WGT01."""
    snapshot = bench.snapshot
    missing = [f for f in snapshot.weights if f.problem == "missing"]
    if missing:
        claim = f"{len(missing)} of {len(snapshot.weights)} weight files are missing: {_names(_of(missing))}."
        yield bench.found("WGT01", claim, *(_seen(snapshot, f.name, f.detail, "a file") for f in missing))
        return
    claim = f"Every weight file is there ({len(snapshot.weights)})."
    yield bench.ok("WGT01", claim, *(_seen(snapshot, f.name, f.size_bytes) for f in snapshot.weights))


def _of(files: list[WeightFile]) -> tuple[str, ...]:
    return tuple(file.name for file in files)


def _wholeness(bench: ModelBench) -> Iterator[Yielded]:
    """WGT02, WGT03, WGT04; that they hold is claimed only where headers are read, hence not for pickles."""
    snapshot = bench.snapshot
    there = [f for f in snapshot.weights if f.problem != "missing"]
    read = [f for f in there if f.format != "pickle"]
    sound = bool(read) and not any(f.problem for f in there)
    twice = _twice(snapshot)
    for code, problem, wrong, right in (
        (
            "WGT02",
            "truncated",
            "are not of the size that their header promises",
            "No weight file ends before its last tensor.",
        ),
        ("WGT03", "lfs-pointer", "are Git LFS pointers", "No weight file is a Git LFS pointer."),
        ("WGT04", "malformed", "cannot be read as what they are", "The header of every weight file is well formed."),
    ):
        bad = [f for f in there if f.problem == problem]
        if bad:
            claim = f"{len(bad)} of {len(snapshot.weights)} weight files {wrong}: {_names(_of(bad))}."
            if problem in ("malformed", "truncated"):
                claim = f"{claim[:-1]} ({bad[0].detail})."
            yield bench.found(code, claim, *(_seen(snapshot, f.name, f.detail) for f in bad))
        elif sound and not (code == "WGT04" and twice):
            seen = (_seen(snapshot, f.name, f"{len(f.tensors)} tensors, {f.size_bytes} bytes") for f in read)
            yield bench.ok(code, right, *seen)
    if twice:
        claim = f"{len(twice)} tensors stand in more than one weight file: {_names(twice)}."
        yield bench.found("WGT04", claim, *(_tensor_seen(snapshot, name, "twice", "once") for name in twice[:_NAMED]))


def _twice(snapshot: Snapshot) -> tuple[str, ...]:
    counts = Counter(tensor.name for file in snapshot.weights for tensor in file.tensors)
    return tuple(sorted(name for name, count in counts.items() if count > 1))


def _pickles(bench: ModelBench) -> Iterator[Yielded]:
    """WGT10. A pickle that is only a pointer (WGT03) is a pickle, too."""
    snapshot = bench.snapshot
    pickles = [f for f in snapshot.weights if f.format == "pickle"]
    if pickles:
        claim = f"The weights are pickles ({_names(_of(pickles))}): none of them was opened."
        yield bench.found("WGT10", claim, *(_seen(snapshot, f.name, "pickle", "safetensors") for f in pickles))
        return
    format_ = snapshot.weights[0].format
    claim = f"The weights are {'GGUF' if format_ == 'gguf' else format_}, which holds no code."
    yield bench.ok("WGT10", claim, *(_seen(snapshot, f.name, f.format) for f in snapshot.weights))


def _pins(bench: ModelBench) -> Iterator[tuple[Pin, Path | None]]:
    """This side's pins, each with the file on this disk (None: it is listed, and not here)."""
    snapshot = bench.snapshot
    paths = {file.name: file.path for file in snapshot.weights}
    for pin in bench.policy.pins:
        if pin.subject == bench.side:
            path = paths.get(pin.file, _beside(snapshot, pin.file))
            yield pin, path if path is not None and path.is_file() else None


def _beside(snapshot: Snapshot, name: str) -> Path | None:
    """A file of the model's that holds no weights; of a folder also one below it, which its list does not name."""
    if name in snapshot.files:
        return snapshot.folder / name
    leads_out = Path(name).is_absolute() or ".." in Path(name).parts
    return snapshot.folder / name if snapshot.ref.kind == "folder" and not leads_out else None


def _pins_unread(bench: ModelBench) -> Iterator[str]:
    for pin, path in _pins(bench):
        if path is None and pin.file in bench.snapshot.files and not _listed(bench, pin):
            yield pin.file


def _listed(bench: ModelBench, pin: Pin) -> tuple[str, str] | None:
    """What the hub lists of a file whose bytes are not here, and what it should list; None where it tells neither."""
    digest = next((one.digest for one in bench.snapshot.listed if one.name == pin.file), None) or ""
    for wanted in (pin.sha256, pin.git_sha1):
        if wanted is not None and len(digest) == len(wanted):
            return digest, wanted
    return None


def _digests(bench: ModelBench) -> Iterator[Yielded]:
    """WGT13."""
    snapshot = bench.snapshot
    for pin, path in _pins(bench):
        wanted = pin.sha256 or pin.git_sha1 or ""
        listed = _listed(bench, pin) if path is None else None
        if listed is not None:
            yield _pinned(bench, f"The hub lists {pin.file} with", _seen(snapshot, pin.file, *listed))
        elif path is None and pin.file in snapshot.files:
            continue  # the run ends as skipped for these
        elif path is None:
            claim = f"{pin.file}, whose digest is pinned, is not there."
            yield bench.found("WGT13", claim, _seen(snapshot, pin.file, "no file", wanted), remedy=_remedy(bench))
        else:
            found = sha256_of(path) if pin.sha256 else git_sha1_of(path)
            yield _pinned(bench, f"{pin.file} has", _seen(snapshot, pin.file, found, wanted))


def _pinned(bench: ModelBench, words: str, seen: Evidence) -> Finding:
    if seen.observed == seen.expected:
        return bench.ok("WGT13", f"{words} the digest that is pinned.", seen)
    return bench.found("WGT13", f"{words} another digest than is pinned.", seen, remedy=_remedy(bench))


def _remedy(bench: ModelBench) -> str | None:
    return LOCKED_REMEDY if bench.policy.locked else None


def find_embedding(tensors: dict[str, TensorEntry]) -> TensorEntry | None:
    """The table of input embeddings, by its name; None where no name, or more than one size, answers."""
    return _one([t for t in tensors.values() if _ends(t.name, EMBEDDING_SUFFIXES)])


def find_head(tensors: dict[str, TensorEntry]) -> TensorEntry | None:
    """The table of output logits, by its name; None where no name, or more than one size, answers."""
    return _one([t for t in tensors.values() if t.name in HEAD_NAMES or _ends(t.name, HEAD_SUFFIXES)])


def _ends(name: str, suffixes: tuple[str, ...]) -> bool:
    whole = any(name == suffix or name.endswith(f".{suffix}") for suffix in suffixes)
    return whole and not any(tower in name for tower in _OTHER_TOWERS)


def _one(found: list[TensorEntry]) -> TensorEntry | None:
    """The shallowest of the names; a packed table (integers) does not tell its rows."""
    found = sorted(found, key=lambda t: (t.name.count("."), t.name))
    if not found:
        return None
    depth = found[0].name.count(".")
    shapes = {t.shape for t in found if t.name.count(".") == depth}
    first = found[0]
    packed = first.dtype in ("U8", "I8", "U32", "I32")
    return first if len(shapes) == 1 and len(first.shape) == 2 and not packed else None  # noqa: PLR2004


def _config(snapshot: Snapshot) -> dict[str, Any]:
    """config.json, its text part laid over it; empty where it cannot be read (CFG01 says so)."""
    try:
        config = snapshot.read_json("config.json")
    except JsonUnreadable:
        return {}
    for key in _NESTED:
        if isinstance(config.get(key), dict):
            return {**config, **config[key]}
    return config


def _vocabulary_rows(bench: ModelBench) -> Iterator[Yielded]:
    """WGT08: no claim where the config names no vocab_size or no tensor is known as the table."""
    snapshot = bench.snapshot
    vocab_size = _config(snapshot).get("vocab_size")
    if not isinstance(vocab_size, int) or isinstance(vocab_size, bool):
        return
    tables = [("embedding", find_embedding(snapshot.tensors)), ("head", find_head(snapshot.tensors))]
    for word, table in tables:
        if table is None:
            continue
        rows = table.shape[0]
        seen = _tensor_seen(snapshot, table.name, rows, vocab_size)
        if rows == vocab_size:
            yield bench.ok("WGT08", f"The {word} has the {rows} rows that the config's vocab_size says.", seen)
        else:
            claim = f"The {word} has {rows} rows on file, the config's vocab_size is {vocab_size}."
            yield bench.found("WGT08", claim, seen)


def _is_matrix(tensor: TensorEntry) -> bool:
    return tensor.dtype not in _WHOLE and len(tensor.shape) > 1 and not any(word in tensor.name for word in _NO_MATRIX)


def _unscaled(snapshot: Snapshot) -> list[TensorEntry]:
    """Matrices in whole numbers, or in narrow floats with a scale beside them, where nothing says how to read them."""
    if snapshot.weights[0].format == "gguf" or {"quantization_config", "compression_config"} & set(_config(snapshot)):
        return []
    scaled = {name.rpartition(".")[0] for name in snapshot.tensors if "scale" in name.rpartition(".")[2]}
    return [
        tensor
        for tensor in snapshot.tensors.values()
        if tensor.name.endswith(".weight") and len(tensor.shape) > 1 and not any(w in tensor.name for w in _NO_MATRIX)
        if tensor.dtype in _WHOLE or (tensor.dtype.startswith(_NARROW) and tensor.name.rpartition(".")[0] in scaled)
    ]


def _dtypes(bench: ModelBench) -> Iterator[Yielded]:
    """WGT12: judged on the matrices, by bytes."""
    snapshot = bench.snapshot
    codes = _unscaled(snapshot)
    if codes:
        claim = (
            f"Weight matrices are stored as codes ({codes[0].name} as {codes[0].dtype}, {len(codes)} in all), and "
            "config.json declares no quantization that scales them: they are read as plain numbers."
        )
        seen = [_tensor_seen(snapshot, tensor.name, tensor.dtype, "a float") for tensor in codes[:_NAMED]]
        yield bench.found("WGT12", claim, *seen, severity=Severity.BLOCK, remedy=_RESTORE_QUANTIZATION)
        return
    shares: dict[str, int] = {}
    first: dict[str, str] = {}
    for tensor in filter(_is_matrix, snapshot.tensors.values()):
        shares[tensor.dtype] = shares.get(tensor.dtype, 0) + tensor.num_bytes
        first.setdefault(tensor.dtype, tensor.name)
    total = sum(shares.values())
    if not total:
        return
    ordered = sorted(shares, key=lambda dtype: (-shares[dtype], dtype))
    seen = [_tensor_seen(snapshot, first[dtype], dtype, ordered[0]) for dtype in ordered]
    if len(ordered) == 1:
        yield bench.ok("WGT12", f"Every weight matrix is {ordered[0]}.", *seen)
    elif 1 - shares[ordered[0]] / total < MIXED_SHARE:
        yield bench.ok("WGT12", f"All but 1 % of the weight matrices' bytes are {ordered[0]}.", *seen)
    else:
        parts = ", ".join(f"{dtype} {shares[dtype] / total:.1%}" for dtype in ordered)
        by_design = snapshot.weights[0].format == "gguf" or "quantization_config" in _config(snapshot)
        severity = Severity.NOTE if by_design else None
        claim = f"Weight matrices come in several dtypes, by bytes: {parts}."
        yield bench.found("WGT12", claim, *seen, severity=severity)


def _zeros(bench: ModelBench) -> Iterator[Yielded]:
    """WGT14: only where the bytes are on this disk."""
    snapshot = bench.snapshot
    if not snapshot.weights_on_disk:
        return
    large = Counter(path for path, _ in large_tensors(snapshot))
    zero = zero_filled(snapshot)
    if zero:
        claim = f"{len(zero)} of {large.total()} large matrices are all zeros: {_names(zero)}."
        seen = (_tensor_seen(snapshot, name, "every byte is zero") for name in zero[:_NAMED])
        yield bench.found("WGT14", claim, *seen)
    elif large:
        names = {file.path: file.name for file in snapshot.weights}
        files = (_seen(snapshot, names[path], f"{n} matrices read, none all zeros") for path, n in large.items())
        yield bench.ok("WGT14", f"None of the {large.total()} largest matrices is all zeros.", *files)


def _facts(bench: ModelBench) -> Iterator[Yielded]:
    snapshot = bench.snapshot
    tensors = snapshot.tensors
    config = _config(snapshot)
    headers = f"headers of {len(snapshot.weights)} weight files@{snapshot.source('').partition('@')[2]}"

    def fact(key: str, value: Scalar, source: str = headers) -> Yielded:
        return bench.fact(key, value, Level.INSPECTED, source)

    sizes: dict[str, int] = {}
    for tensor in tensors.values():
        sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.num_bytes
    yield fact("tensor_bytes", sum(sizes.values()))
    yield fact("num_tensors", len(tensors))
    if "quantization_config" not in config:  # packed integers do not tell the number of parameters
        yield fact("num_parameters", sum(tensor.num_elements for tensor in tensors.values()))
    if sizes:
        yield fact("weights_dtype", max(sorted(sizes), key=lambda dtype: sizes[dtype]))
    embedding, head = find_embedding(tensors), find_head(tensors)
    if embedding is None:
        return
    rows = embedding.shape[0]
    at = _tensor_seen(snapshot, embedding.name, rows).source
    yield fact("embedding_rows", rows, at)
    tied = config.get("tie_word_embeddings")
    if isinstance(tied, bool):  # a silent config leaves it to the default of the class, which class-fit asks
        said = snapshot.source("config.json", "tie_word_embeddings")
        said = f"{said}; {'no head' if head is None else head.name} on file"
        yield bench.fact("tied", tied, Level.DECLARED, said)
    if head is not None:
        yield fact("head_rows", head.shape[0], _tensor_seen(snapshot, head.name, head.shape[0]).source)
    elif tied is True:
        yield fact("head_rows", rows, at)


WEIGHTS = Probe(
    name="weights",
    question="Are the files of weights there, whole, plain, and of the size the config says?",
    scope="model",
    level=Level.INSPECTED,
    codes=("WGT01", "WGT02", "WGT03", "WGT04", "WGT08", "WGT10", "WGT12", "WGT13", "WGT14"),
    needs="files",
    run=_run,
)
