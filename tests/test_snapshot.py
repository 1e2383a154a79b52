"""Snapshots from folders and GGUF files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.factories import needs_assets, seed_snapshot
from tests.shards import CONFIG, POINTER, TINY, shard, write_gguf, write_model, write_sharded
from wirecheck.errors import ModelNotFound, UsageError
from wirecheck.snapshot import JsonUnreadable, Snapshot, TextUnreadable, parse_ref, take
from wirecheck.snapshot_folder import MAX_TEXT_BYTES, is_metadata

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def _take(path: Path) -> Snapshot:
    return take(parse_ref(str(path)))


# --- what the user typed


@pytest.mark.parametrize(
    ("text", "kind", "name", "revision"),
    [
        ("org/name", "hub", "org/name", None),
        ("gpt2", "hub", "gpt2", None),
        ("org/na-me.v0_3@refs/pr/1", "hub", "org/na-me.v0_3", "refs/pr/1"),
        ("./org/name", "folder", "name", None),
        ("/no/such/folder", "folder", "folder", None),
        ("~/models/x", "folder", "x", None),
        ("a/b/c", "folder", "c", None),
        ("some/Model-Q4.GGUF", "gguf", "Model-Q4.GGUF", None),
    ],
)
def test_parse_ref(text, kind, name, revision, *, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ref = parse_ref(text)
    assert (ref.text, ref.kind, ref.name, ref.revision) == (text, kind, name, revision)


def test_a_folder_that_is_there_wins_over_the_hub(tmp_path, monkeypatch):
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert parse_ref("org/name").kind == "folder"
    assert parse_ref("org/name@main").kind == "hub"


@pytest.mark.parametrize("text", ["", "  ", "a\nb", "a\0b", "org/name@", "org/name@a..b", "https://example.org/a/b"])
def test_parse_ref_refuses(text):
    with pytest.raises(UsageError) as caught:
        parse_ref(text)
    assert caught.value.next_step


def test_a_name_past_the_systems_limit_could_not_be_looked_at():
    with pytest.raises(ModelNotFound) as caught:
        parse_ref("a" * 5000)
    assert len(caught.value.message) < 200


def test_a_link_to_a_snapshot_of_the_hubs_cache_is_that_snapshot(tmp_path):
    repository = tmp_path / "models--org--name"
    (repository / "blobs").mkdir(parents=True)
    write_model(repository / "snapshots" / COMMIT)
    shard_path = repository / "snapshots" / COMMIT / "model.safetensors"
    shard_path.rename(repository / "blobs" / "abc")
    shard_path.symlink_to("../../blobs/abc")
    (tmp_path / "mine").symlink_to(repository / "snapshots" / COMMIT)
    snapshot = _take(tmp_path / "mine")
    assert (snapshot.ref.name, snapshot.commit) == ("org/name", COMMIT)
    assert [file.problem for file in snapshot.weights] == [None]


# --- folders


def test_one_file(tmp_path):
    snapshot = _take(write_model(tmp_path / "m"))
    assert snapshot.ref.name == "m"
    assert snapshot.files == ("config.json", "model.safetensors")
    assert snapshot.has("config.json")
    assert not snapshot.has("tokenizer.json")
    assert snapshot.read_json("config.json") == CONFIG
    assert {name: (t.dtype, t.shape) for name, t in snapshot.tensors.items()} == TINY
    assert snapshot.weights_on_disk
    assert snapshot.commit.startswith("sha256:")
    assert snapshot.source("config.json", "vocab_size") == f"config.json@{snapshot.commit[:19]}#vocab_size"


def test_the_commit_follows_the_bytes_that_were_read(tmp_path):
    first = _take(write_model(tmp_path / "a")).commit
    assert _take(write_model(tmp_path / "b")).commit == first
    (tmp_path / "b" / "config.json").write_text(json.dumps({**CONFIG, "vocab_size": 17}))
    changed = _take(tmp_path / "b").commit
    renamed = {name.replace("lm_head", "lm_heat"): entry for name, entry in TINY.items()}
    other = _take(write_model(tmp_path / "c", renamed)).commit
    assert len({first, changed, other}) == 3
    (tmp_path / "a" / "README.md").write_text("not read, not counted")
    assert _take(tmp_path / "a").commit == first


def test_shards(tmp_path):
    one, two = {"a": ("F32", (2, 2))}, {"b": ("F32", (2, 2))}
    snapshot = _take(write_sharded(tmp_path, {"model-1-of-2.safetensors": one, "model-2-of-2.safetensors": two}))
    assert set(snapshot.tensors) == {"a", "b"}
    assert [w.problem for w in snapshot.weights] == [None, None]


def test_a_shard_that_is_not_there_is_missing(tmp_path):
    folder = write_sharded(tmp_path, {"1.safetensors": {"a": ("F32", (2,))}, "2.safetensors": {"b": ("F32", (2,))}})
    (folder / "2.safetensors").unlink()
    snapshot = _take(folder)
    assert [(w.name, w.problem) for w in snapshot.weights] == [("1.safetensors", None), ("2.safetensors", "missing")]
    assert not snapshot.weights_on_disk


def _index(folder: Path, target: str) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": target}}))


@pytest.mark.parametrize("escape", ["../outside.safetensors", "{absolute}", "..", "", "sub/../../outside.safetensors"])
def test_an_index_cannot_lead_out_of_the_folder(tmp_path, escape):
    outside = tmp_path / "outside.safetensors"
    outside.write_bytes(shard(TINY))
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    _index(folder, escape.format(absolute=outside))
    [file] = _take(folder).weights
    assert (file.problem, file.tensors, file.path) == ("malformed", (), None)


def test_a_link_out_of_the_folder_is_refused_and_one_within_is_followed(tmp_path):
    (tmp_path / "outside.safetensors").write_bytes(shard(TINY))
    folder = tmp_path / "m"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    _index(folder, "link.safetensors")
    (folder / "link.safetensors").symlink_to("../outside.safetensors")
    assert _take(folder).weights[0].problem == "malformed"
    (folder / "link.safetensors").unlink()
    (folder / "sub" / "real.safetensors").write_bytes(shard(TINY))
    (folder / "link.safetensors").symlink_to("sub/real.safetensors")
    assert _take(folder).weights[0].problem is None
    (folder / "link.safetensors").unlink()
    (folder / "link.safetensors").symlink_to("link.safetensors")
    assert _take(folder).weights[0].problem == "malformed"


def test_a_snapshot_of_the_hubs_cache_knows_its_name_and_commit(tmp_path):
    storage = tmp_path / "models--org--name--x"
    folder = storage / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    blobs = storage / "blobs"
    blobs.mkdir()
    (blobs / "c").write_text(json.dumps(CONFIG))
    (blobs / "w").write_bytes(shard(TINY))
    (folder / "config.json").symlink_to("../../blobs/c")
    (folder / "model.safetensors").symlink_to("../../blobs/w")
    snapshot = _take(folder)
    assert (snapshot.ref.name, snapshot.commit) == ("org/name--x", COMMIT)
    assert snapshot.weights_on_disk
    assert snapshot.source("config.json") == f"config.json@{COMMIT[:12]}"


@pytest.mark.parametrize(
    ("content", "problem"),
    [(shard(TINY)[:-1], "truncated"), (b"", "truncated"), (POINTER, "lfs-pointer"), (shard(TINY) + b"!", "truncated")],
)
def test_what_is_wrong_with_a_weight_file(tmp_path, content, problem):
    folder = write_model(tmp_path)
    (folder / "model.safetensors").write_bytes(content)
    [file] = _take(folder).weights
    assert (file.problem, file.tensors, file.size_bytes) == (problem, (), len(content))
    assert file.detail


def test_a_broken_index_is_a_malformed_file(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    for text in ("{", "[]", '{"weight_map": {}}', '{"weight_map": {"a": 1}}'):
        (tmp_path / "model.safetensors.index.json").write_text(text)
        [file] = _take(tmp_path).weights
        assert (file.name, file.problem) == ("model.safetensors.index.json", "malformed")


def test_shards_without_their_index_are_not_guessed(tmp_path):
    folder = write_sharded(tmp_path, {"model-00001-of-00001.safetensors": TINY})
    (folder / "model.safetensors.index.json").unlink()
    [file] = _take(folder).weights
    assert (file.name, file.problem, file.tensors) == ("model.safetensors.index.json", "missing", ())


@pytest.mark.parametrize("names", [("pytorch_model.bin",), ("pytorch_model-1.bin", "pytorch_model-2.bin")])
def test_pickles_are_listed_and_never_opened(tmp_path, names):
    bomb = b"cos\nsystem\n(S'touch " + str(tmp_path / "pwned").encode() + b"'\ntR."
    (tmp_path / "config.json").write_text("{}")
    for name in names:
        (tmp_path / name).write_bytes(bomb)
    snapshot = _take(tmp_path)
    assert [(w.name, w.format, w.problem, w.tensors) for w in snapshot.weights] == [
        (n, "pickle", None, ()) for n in names
    ]
    assert not (tmp_path / "pwned").exists()


def test_safetensors_win_over_pickles(tmp_path):
    folder = write_model(tmp_path)
    (folder / "pytorch_model.bin").write_bytes(b"x")
    assert [w.name for w in _take(folder).weights] == ["model.safetensors"]


def test_no_folder_no_model(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"x")
    (tmp_path / "model.safetensors").write_bytes(shard(TINY))
    for path in ("none", "empty", "photos", "model.safetensors", "none.gguf"):
        with pytest.raises(ModelNotFound) as caught:
            _take(tmp_path / path)
        assert caught.value.exit_code == 4
        assert caught.value.next_step


@pytest.mark.parametrize("name", ["model.safetensors", "m.gguf"])
def test_a_file_nobody_may_read_is_told_in_one_line(tmp_path, monkeypatch, name):
    path = write_gguf(tmp_path / name) if name == "m.gguf" else write_model(tmp_path)
    opened = Path.open

    def refused(self, *args, **kwargs):
        if self.name == name:
            raise PermissionError(13, "Permission denied")
        return opened(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(ModelNotFound, match="Permission denied"):
        _take(path)


def test_a_pipe_is_no_file_and_blocks_nobody(tmp_path):
    folder = write_model(tmp_path)
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")
    os.mkfifo(folder / "tokenizer.json")
    snapshot = _take(folder)
    assert snapshot.weights[0].problem == "missing"
    with pytest.raises(JsonUnreadable):
        snapshot.read_json("tokenizer.json")


BROKEN_JSON = {
    "absent": None,
    "not json": b"{",
    "a list": b"[1]",
    "not utf-8": b'{"a": "\xff"}',
    "deep": b'{"a":' + b"[" * 101 + b"]" * 101 + b"}",
    "a bomb": b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
}


@pytest.mark.parametrize("content", BROKEN_JSON.values(), ids=BROKEN_JSON.keys())
def test_json_unreadable(tmp_path, content):
    folder = write_model(tmp_path)
    if content is not None:
        (folder / "generation_config.json").write_bytes(content)
    with pytest.raises(JsonUnreadable, match=r"generation_config\.json"):
        _take(folder).read_json("generation_config.json")


def test_json_of_reasonable_depth_and_with_repeated_keys_is_read(tmp_path):
    folder = write_model(tmp_path)
    (folder / "generation_config.json").write_text('{"a": 1, "a": {"b": [[[[[[[[[[2]]]]]]]]]]}, "c": Infinity}')
    assert _take(folder).read_json("generation_config.json")["a"] == {"b": [[[[[[[[[[2]]]]]]]]]]}


def test_a_file_past_its_bound_is_not_read(tmp_path):
    folder = write_model(tmp_path)
    for name in ("merges.txt", "tokenizer.json"):
        with (folder / name).open("wb") as file:
            file.truncate(MAX_TEXT_BYTES + 1)
    snapshot = _take(folder)
    with pytest.raises(TextUnreadable, match="more than"):
        snapshot.read_text("merges.txt")
    assert len(snapshot.read_text("tokenizer.json")) == MAX_TEXT_BYTES + 1


def test_only_listed_files_are_read(tmp_path):
    (tmp_path / "secret.json").write_text('{"a": 1}')
    snapshot = _take(write_model(tmp_path / "m"))
    with pytest.raises(TextUnreadable):
        snapshot.read_text("../secret.json")


@pytest.mark.parametrize(
    "name", ["config.json", "additional_chat_templates/rag.jinja", "tokenizer.model", "x.index.json"]
)
def test_metadata(name):
    assert is_metadata(name)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "a/config.json", "additional_chat_templates/a/b.jinja", "README.md"]
)
def test_no_metadata(name):
    assert not is_metadata(name)


TENSOR_BYTES = {
    "meta-llama__Llama-3.1-8B-Instruct": 16_060_522_496,
    "meta-llama__Llama-3.2-1B-Instruct": 2_471_628_800,
    "meta-llama__Llama-3.2-3B-Instruct": 6_425_499_648,
    "Qwen__Qwen2.5-7B-Instruct": 15_231_233_024,
    "Qwen__Qwen2.5-1.5B-Instruct": 3_087_428_608,
    "mistralai__Mistral-7B-Instruct-v0.3": 14_496_047_104,
}


@needs_assets
@pytest.mark.parametrize(("name", "size"), TENSOR_BYTES.items())
def test_the_seed_models_have_the_published_bytes(name, size, tmp_path):
    snapshot = _take(seed_snapshot(name, tmp_path))
    assert sum(tensor.num_bytes for tensor in snapshot.tensors.values()) == size
    assert snapshot.weights_on_disk
