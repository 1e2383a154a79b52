"""The store of answers: what is kept is there, what is damaged or another's is as good as none, and nothing raises."""

from __future__ import annotations

import multiprocessing
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wirecheck.store import FORMAT, Held, OtherFormat, Store


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "sub" / "kept.sqlite")


@settings(deadline=None, max_examples=30)
@given(rows=st.dictionaries(st.text(min_size=1), st.text(), max_size=5))
def test_what_is_put_is_got(tmp_path_factory, rows):
    store = Store(tmp_path_factory.mktemp("s") / "kept.sqlite")
    legible = {
        key.encode("utf-8", "ignore").decode(): text.encode("utf-8", "ignore").decode() for key, text in rows.items()
    }
    store.put_many([(key, "x", text) for key, text in legible.items()])
    assert dict(store.get_many(legible)) == legible


def test_nothing_is_there_before(store):
    assert store.get("a") is None
    assert store.held() == ()
    assert not store.path.exists(), "reading makes no file"


def test_the_later_of_two_stands(store):
    store.put("a", "x", "1")
    store.put("a", "x", "2")
    assert (store.get("a"), [(one.kind, one.count) for one in store.held()]) == ("2", [("x", 1)])


def test_kinds_are_counted(store):
    store.put_many([("a", "model", "1" * 1000), ("b", "model", ""), ("c", "pair", "2")])
    held = store.held()
    assert [(one.kind, one.count) for one in held] == [("model", 2), ("pair", 1)]
    assert all(isinstance(one, Held) and 0 < one.size < 100 for one in held)


def test_cleared(store):
    store.put("a", "x", "1")
    store.clear()
    store.clear()
    assert (store.get("a"), list(store.path.parent.iterdir())) == (None, [])


@pytest.mark.parametrize("damage", [b"no database at all", b"", None])
def test_a_damaged_file_is_moved_aside_and_begun_again(store, damage):
    store.put_many([(str(n), "x", "text" * n) for n in range(1000)])
    data = store.path.read_bytes()
    store.path.write_bytes(data[: len(data) // 2] if damage is None else damage)
    assert store.get("999") is None
    store.put("b", "x", "2")
    store.put("b", "x", "2")
    assert store.get("b") == "2" or damage is None


def test_a_text_that_is_garbled_is_none(store):
    store.put("a", "x", "1")
    with closing(sqlite3.connect(store.path)) as database, database:
        database.execute("update kept set text = x'00'")
    assert store.get("a") is None


def test_another_format_is_left_alone_and_told(store):
    store.put("a", "x", "1")
    with closing(sqlite3.connect(store.path)) as database:
        database.execute(f"pragma user_version = {FORMAT + 1}")
    before = store.path.read_bytes()
    assert store.get("a") is None
    store.put("b", "x", "2")
    with pytest.raises(OtherFormat, match="format 2"):
        store.held()
    assert store.path.read_bytes() == before


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path):
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / "kept.sqlite")
    store.put("a", "x", "1")
    assert store.get("a") is None


def _many(path: Path, first: int) -> None:
    store = Store(path)
    for n in range(first, first + 25):
        store.put(str(n), "x", str(n))


def test_two_processes_at_once(store):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_many, args=(store.path, first)) for first in (0, 25, 50)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert dict(store.get_many(map(str, range(75)))) == {str(n): str(n) for n in range(75)}


def test_why_nothing_can_be_kept(store):
    assert store.trouble() is None
    with closing(sqlite3.connect(store.path)) as database:
        database.execute(f"pragma user_version = {FORMAT + 1}")
    assert "so nothing is kept; next: wirecheck cache --clear" in store.trouble()
    assert "cannot be opened to write" in Store(Path("/dev/null/kept.sqlite")).trouble()
