"""The readers under fuzzing: where each one's input lies, how it is read, and which errors are its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.fuzz.contract import Bounds, Breach
from wirecheck.errors import CannotRun, UsageError, WirecheckError
from wirecheck.safetensors_header import HeaderError

Shape = Literal["header", "json", "toml", "jinja", "gguf", "files"]
"""How inputs are put together: what a mutator may know of them."""


@dataclass(frozen=True)
class Target:
    """One reader."""

    name: str
    reads: str
    """What is read, in words."""
    shape: Shape
    place: Callable[[bytes, Path], None]
    """Lays the input down in the folder of its own, before the watch looks."""
    read: Callable[[bytes, Path], object]
    errors: tuple[type[Exception], ...] = ()
    """The reader's own."""
    bounds: Bounds = field(default_factory=Bounds)


def _nowhere(_data: bytes, _folder: Path) -> None:
    """The reader takes the bytes themselves."""


def _as(name: str) -> Callable[[bytes, Path], None]:
    def place(data: bytes, folder: Path) -> None:
        (folder / name).write_bytes(data)

    return place


# --- a model's own files -----------------------------------------------------------------------------------------


def _snapshot(place: Path):
    """What `snapshot.take` gives, read in this process: in a child neither coverage nor breach is seen."""
    from wirecheck.gguf_file import read_gguf
    from wirecheck.snapshot import Snapshot, parse_ref
    from wirecheck.snapshot_folder import read_folder

    ref = parse_ref(str(place))
    if ref.kind == "gguf":
        found = read_gguf(place)
        made = {} if found.config is None else {"config.json": found.config}
        weights = (found.weights,)
        return Snapshot(ref, found.commit, place.parent, (place.name,), weights, made=made, origins=found.origins)
    content = read_folder(place)
    return Snapshot(ref, content.commit, place, content.files, content.weights)


def _bench(snapshot):
    from wirecheck.probe import ModelBench
    from wirecheck.schema import Policy, TrainSpec, WireSpec

    return ModelBench(wire=WireSpec(), train=TrainSpec(), policy=Policy(), seed=0, side="a", snapshot=snapshot)


def _asked(probe, bench):
    """The probe's run, which may not crash and can be written down."""
    from wirecheck.cli_output import to_json
    from wirecheck.probe_run import run_one
    from wirecheck.schema import Crashed

    run = run_one(probe, bench)
    if isinstance(run, Crashed):
        last = run.error.traceback.strip().splitlines()
        places = [line.strip() for line in last if line.strip().startswith("File")]
        where = places[-1].split(",")[-1].strip() if places else "?"
        raise Breach(f"crashed {probe.name}: {run.error.type} {where}", run.error.message)
    to_json(run).encode("utf-8")
    return run


def _header(data: bytes, _folder: Path) -> None:
    from wirecheck import safetensors_header as reader
    from wirecheck.weight_files import from_header

    for size in (len(data), None, len(data) + 4096):
        file = from_header("model.safetensors", None, size, data)
        for tensor in file.tensors:
            tensor.name.encode("utf-8")
            assert tensor.num_bytes >= 0
            assert tensor.num_elements >= 0
        f"{file.detail}".encode("utf-8", "strict")
    reader.is_lfs_pointer(data)
    entries, _ = reader.parse_header(data, file_size=len(data))
    assert sum(one.num_bytes for one in entries) <= len(data)


def _weights_place(data: bytes, folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "llama", "vocab_size": 8, "hidden_size": 4}')
    (folder / "model.safetensors").write_bytes(data)


def _weights(_data: bytes, folder: Path) -> None:
    from wirecheck.probes.weights import WEIGHTS

    _asked(WEIGHTS, _bench(_snapshot(folder)))


def _index_place(data: bytes, folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors.index.json").write_bytes(data)
    for n in (1, 2):
        (folder / f"model-0000{n}-of-00002.safetensors").write_bytes(SHARD)


def _index(_data: bytes, folder: Path) -> None:
    from wirecheck.probes.weights import WEIGHTS

    snapshot = _snapshot(folder)
    for file in snapshot.weights:
        if file.path is not None and not file.path.resolve().is_relative_to(folder.resolve()):
            raise Breach("left the folder", str(file.path))
    _asked(WEIGHTS, _bench(snapshot))


def _config(_data: bytes, folder: Path) -> None:
    from wirecheck.probes.config import CONFIG
    from wirecheck.readiness import absurd_size

    snapshot = _snapshot(folder)
    absurd_size(snapshot)
    _asked(CONFIG, _bench(snapshot))


def _autoconfig(_data: bytes, folder: Path) -> None:
    from wirecheck import zoo

    config = zoo.load_config(_snapshot(folder), trust_remote_code=False)
    zoo.text_config(config)
    zoo.positions(config)


TOKENIZER_FILES = (
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.json"),
    *("generation_config.json", "config.json", "chat_template.json"),
)


def _tokenizer_place(data: bytes, folder: Path) -> None:
    """The first byte says which file of a sound folder is replaced by the rest."""
    from tests import tokenizer_factory

    tokenizer_factory.save(folder)
    name = TOKENIZER_FILES[(data[0] if data else 0) % len(TOKENIZER_FILES)]
    (folder / name).write_bytes(data[1:])


def _tokenizer(_data: bytes, folder: Path) -> None:
    from wirecheck.probes.tokenizer import TOKENIZER

    _asked(TOKENIZER, _bench(_snapshot(folder)))


def _generation_place(data: bytes, folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "llama", "eos_token_id": 2}')
    (folder / "generation_config.json").write_bytes(data)


def _generation(_data: bytes, folder: Path) -> None:
    from tests.fuzz.templates import tokenizer
    from wirecheck.probes.stops import compare_stops, read_stops

    bench = _bench(_snapshot(folder))
    vars(bench)["tokenizer"] = tokenizer()
    list(compare_stops(bench, read_stops(bench), None))


def _template_place(data: bytes, folder: Path) -> None:
    from tests import tokenizer_factory

    tokenizer_factory.save(folder, template=None)
    (folder / "chat_template.jinja").write_bytes(data)


def _template(_data: bytes, folder: Path) -> None:
    from tests.fuzz.templates import render_here

    render_here(_snapshot(folder))


def _template_probe(_data: bytes, folder: Path) -> None:
    from wirecheck.probes.template import TEMPLATE

    _asked(TEMPLATE, _bench(_snapshot(folder)))


def _gguf(_data: bytes, folder: Path) -> None:
    from wirecheck.probes.config import CONFIG
    from wirecheck.probes.weights import WEIGHTS

    snapshot = _snapshot(folder / "model.gguf")
    for file in snapshot.weights:
        if "MemoryError" in file.detail:
            raise Breach("MemoryError swallowed", file.detail)
    bench = _bench(snapshot)
    _asked(CONFIG, bench)
    _asked(WEIGHTS, bench)


# --- the user's files, and wirecheck's own read back -------------------------------------------------------------


def _gate(_data: bytes, folder: Path) -> None:
    from wirecheck import cli_gate_file, cli_request

    path = folder / "wirecheck.toml"
    cli_gate_file.line_finder(path)(("gate", "accepted", 1, "code"))
    with suppress(UsageError):  # `--config` reads other tables of the same file
        cli_request.request("pair", ("a", "b"), {}, seed=0, config=path)
    rules, _ = cli_gate_file.read_rules(path, "wirecheck gate", offline=True)
    assert rules.pairs
    cli_gate_file.asked_of(cli_gate_file.read_file(path)[0])


def _lock_place(data: bytes, folder: Path) -> None:
    (folder / "wirecheck.toml").write_text('[models.one]\nid = "org/one"\n')
    (folder / "wirecheck.lock").write_bytes(data)


def _lock(_data: bytes, folder: Path) -> None:
    from wirecheck import cli_gate_file, cli_lock, lock
    from wirecheck.cli_output import to_json

    held = cli_lock.read_lock(folder / "wirecheck.lock")
    to_json(held).encode("utf-8")
    for model in held.models:
        assert model.size >= 0
        lock.pins(model, "a")
        lock.locked_side(model, "b")
    path = folder / "wirecheck.toml"
    cli_lock.lock_of(path, cli_gate_file.read_file(path)[0])


def _result(_data: bytes, folder: Path) -> None:
    """`wirecheck report`: read, rendered in every form, and compared with itself."""
    from tests.fuzz.results import faces_of

    faces_of(folder / "result.json")


def _baseline(_data: bytes, folder: Path) -> None:
    from tests.fuzz.results import gate_faces_of

    gate_faces_of(folder / "gate.json")


def _claims(_data: bytes, folder: Path) -> None:
    from tests.factories import pair_result
    from wirecheck.cli_claims import claims_of
    from wirecheck.views import markdown

    result = pair_result()
    made = claims_of(folder / "claims.toml", result)
    markdown.render(result.model_copy(update={"claims": made})).encode("utf-8")


SHARD = (64).to_bytes(8, "little") + b'{"w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}'.ljust(64) + bytes(16)
"""A sound file of one tensor."""


TARGETS: tuple[Target, ...] = (
    Target("header", "a safetensors header", "header", _nowhere, _header, (HeaderError,)),
    Target("weights", "a safetensors file, by the probe of weights", "header", _weights_place, _weights),
    Target("index", "model.safetensors.index.json, and what it names", "json", _index_place, _index),
    Target("config", "config.json, by wirecheck's own reader and probe", "json", _as("config.json"), _config),
    Target(
        "autoconfig",
        "config.json, through AutoConfig",
        "json",
        _as("config.json"),
        _autoconfig,
        (CannotRun,),
    ),
    Target("tokenizer", "tokenizer files, one of them fuzzed", "files", _tokenizer_place, _tokenizer),
    Target("generation", "generation_config.json, for where generation stops", "json", _generation_place, _generation),
    Target(
        "template",
        "a chat template, rendered",
        "jinja",
        _template_place,
        _template,
        (CannotRun,),
    ),
    Target(
        "template_probe", "a chat template, by its probe in the forked child", "jinja", _template_place, _template_probe
    ),
    Target(
        "gguf",
        "a GGUF file",
        "gguf",
        _as("model.gguf"),
        _gguf,
        (WirecheckError,),
    ),
    Target(
        "gate",
        "wirecheck.toml",
        "toml",
        _as("wirecheck.toml"),
        _gate,
        (UsageError,),
    ),
    Target("lock", "wirecheck.lock", "json", _lock_place, _lock, (UsageError,)),
    Target("result", "a result read back, in all its forms", "json", _as("result.json"), _result, (UsageError,)),
    Target("baseline", "a gate's result read back", "json", _as("gate.json"), _baseline, (UsageError,)),
    Target(
        "claims",
        "figures written down for --claim",
        "toml",
        _as("claims.toml"),
        _claims,
        (UsageError,),
    ),
)


def target(name: str) -> Target:
    """The target of that name."""
    return next(one for one in TARGETS if one.name == name)
