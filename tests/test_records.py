"""Every record of the public JSON survives its file; a file that is spoilt is read, or refused in one line."""

from __future__ import annotations

import json
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.mutators import Mutator
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import target
from tests.record_strategies import SOUND, odd, records, spoilt, texts, varied
from wirecheck.cli_output import read_record, to_json
from wirecheck.errors import ModelNotFound, UsageError
from wirecheck.expectations import KNOWN_KEYS, compare
from wirecheck.safetensors_header import HeaderError, header_end, is_lfs_pointer, parse_header
from wirecheck.schema import Expectation, Fact, GpuRequest, Level, Policy, TrainSpec, WireSpec
from wirecheck.snapshot import ModelRef, parse_ref
from wirecheck.vram.gpus import GPUS, parse_gpu
from wirecheck.weight_files import shards, spelt_outside

few = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
FORMATS = list(SOUND)


def is_one_line(error: Exception, where: str) -> None:
    assert str(error).strip()
    assert "\n" not in str(error)
    assert where in str(error)


@pytest.mark.parametrize("name", FORMATS)
@few
@given(data=st.data())
def test_a_record_survives_its_file(name, data):
    record = data.draw(records(name))
    written = to_json(record)
    read = type(record).model_validate_json(written)
    assert read == record
    assert to_json(read) == written
    written.encode("utf-8")


@pytest.mark.parametrize("name", FORMATS)
@few
@given(data=st.data())
def test_a_spoilt_file_is_read_or_refused_in_one_line(name, tmp_path, data):
    path = tmp_path / "spoilt.json"
    path.write_bytes(data.draw(spoilt(name)).encode("utf-8", "surrogatepass"))
    kind = type(SOUND[name][0])
    try:
        record = read_record(path, kind, "such file", "make one")
    except UsageError as error:
        is_one_line(error, str(path))
    else:
        assert kind.model_validate_json(to_json(record)) == record


@pytest.mark.parametrize("kind", [WireSpec, TrainSpec, Policy])
@few
@given(data=st.data())
def test_what_is_asked_survives_its_file(kind, data):
    record = data.draw(varied(kind()))
    assert kind.model_validate_json(to_json(record)) == record


# --- parsers -----------------------------------------------------------------------------------------------------


@given(texts | st.text(alphabet="ab/@.~\\\0 \ud800-", max_size=20))
def test_any_text_is_a_model_or_refused_in_one_line(text):
    try:
        ref = parse_ref(text)
    except (UsageError, ModelNotFound) as error:
        is_one_line(error, "")
    else:
        assert isinstance(ref, ModelRef)
        assert ref.text == text
        assert ref.kind != "hub" or (ref.name and ".." not in (ref.revision or ""))


@given(
    texts
    | st.sampled_from([gpu.name for gpu in GPUS]).flatmap(lambda n: st.integers(-1, 10**7).map(f"{n}x{{}}".format))
)
def test_any_text_is_a_gpu_or_refused_in_one_line(text):
    try:
        asked = parse_gpu(text)
    except UsageError as error:
        is_one_line(error, "")
    else:
        assert isinstance(asked, GpuRequest)
        assert parse_gpu(f"{asked.name}x{asked.count}") == asked


entries = st.fixed_dictionaries(
    {"dtype": st.sampled_from(["F32", "BF16", "F4", "NEW", ""]), "shape": st.lists(st.integers(-1, 6), max_size=3)},
    optional={"data_offsets": st.lists(st.integers(-1, 200), min_size=2, max_size=2)},
)


@given(st.dictionaries(texts | st.just("__metadata__"), entries | odd, max_size=4), st.integers(-1, 64))
def test_any_header_is_a_table_or_an_error_of_one_line(table, behind):
    raw = json.dumps(table).encode("utf-8", "surrogatepass")
    data = len(raw).to_bytes(8, "little") + raw + bytes(max(behind, 0))
    try:
        tensors, metadata = parse_header(data, file_size=None if behind < 0 else len(data))
    except HeaderError as error:
        is_one_line(error, "")
    else:
        assert sum(one.num_bytes for one in tensors) == (tensors[-1].end - len(raw) - 8 if tensors else 0)
        assert all(isinstance(value, str) for value in metadata.values())


@given(
    st.lists(
        st.tuples(texts.filter(lambda name: name != "__metadata__"), st.integers(0, 5)),
        max_size=4,
        unique_by=lambda x: x[0],
    )
)
def test_a_sound_header_is_read_as_it_was_written(tensors):
    table, end = {}, 0
    for name, size in tensors:
        table[name] = {"dtype": "F32", "shape": [size], "data_offsets": [end, end + 4 * size]}
        end += 4 * size
    raw = json.dumps(table).encode()
    found, _ = parse_header(len(raw).to_bytes(8, "little") + raw, file_size=8 + len(raw) + end)
    assert {one.name: one.shape for one in found} == {name: (size,) for name, size in tensors}


@given(st.binary(max_size=64))
def test_any_bytes_have_a_header_end_or_none(data):
    is_lfs_pointer(data)
    try:
        assert header_end(data, file_size=len(data)) <= len(data)
    except HeaderError as error:
        is_one_line(error, "")


@given(
    st.dictionaries(texts, odd, max_size=3) | st.fixed_dictionaries({"weight_map": odd | st.dictionaries(texts, texts)})
)
def test_any_index_names_files_that_can_be_named_or_is_broken(index):
    found = shards("model.safetensors.index.json", index, "safetensors")
    assert bool(found.names) is not bool(found.broken)
    for name in found.names:
        name.encode("utf-8")
        spelt_outside(name)


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts


@given(scalars, scalars, st.sampled_from(sorted(KNOWN_KEYS)))
def test_an_expectation_holds_where_value_and_kind_are_the_same_and_nowhere_else(found, expected, key):
    fact = Fact(key=key, subject="a", value=found, level=Level.INSPECTED, source="s")
    (made,) = compare([Expectation(subject="a", key=key, value=expected)], [fact])
    alike = found == expected and isinstance(found, bool) is isinstance(expected, bool)
    assert made.holds is alike
    assert made.evidence.observed == found


# --- whole files, each by its target of fuzzing ------------------------------------------------------------------

CHEAP = ("header", "index", "config", "gguf", "gate", "lock", "claims", "generation")


@pytest.mark.parametrize("name", CHEAP)
@few
@given(
    seed=st.integers(0, 2**32),
    number=st.integers(0, 7),
    flips=st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=4),
)
def test_a_changed_file_is_read_or_refused_by_the_readers_own_errors(name, tmp_path_factory, seed, number, flips):
    one, inputs = target(name), sound(name)
    folder = tmp_path_factory.mktemp(name)
    data = Mutator(one.shape, inputs).change(
        inputs[number % len(inputs)], 64 * 1024, seed, lambda old, _: flipped(old, flips)
    )
    one.place(data, folder)
    try:
        one.read(data, folder)
    except one.errors as error:
        is_one_line(error, "")


@cache
def sound(name: str) -> tuple[bytes, ...]:
    return tuple(data for data in seeds(name) if len(data) < 20_000)[:8]


def flipped(data: bytes, flips: list[tuple[int, int]]) -> bytes:
    changed = bytearray(data)
    for at, value in flips:
        if changed:
            changed[at % len(changed)] = value
    return bytes(changed)
