"""The header parser: real files agree with the reference library; broken ones give our error and nothing else."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from tests.shards import POINTER, TINY, WIDTHS, raw, shard, table
from wirecheck.safetensors_header import (
    MAX_HEADER_BYTES,
    FileTruncated,
    HeaderError,
    HeaderMalformed,
    header_end,
    is_lfs_pointer,
    parse_header,
)

_SHAPES = st.dictionaries(
    st.text(min_size=1, max_size=20).filter(lambda name: name != "__metadata__"),
    st.tuples(st.sampled_from(sorted(WIDTHS)), st.lists(st.integers(0, 4), max_size=3).map(tuple)),
    max_size=8,
)


def _entry(begin: object = 0, end: object = 4, dtype: object = "F32", shape: object = (1,)) -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape) if isinstance(shape, tuple) else shape, "data_offsets": [begin, end]}


def _parse(content: bytes):
    return parse_header(content, file_size=len(content))


def test_a_file_of_the_reference_library_is_read():
    arrays = {
        "scalar": np.array(3.0, np.float32),
        "half": np.ones((2, 3), np.float16),
        "none": np.zeros((0, 5), np.int64),
        "flags": np.ones((7,), np.bool_),
    }
    content = safetensors.numpy.save(arrays, metadata={"format": "np"})
    tensors, metadata = _parse(content)
    assert metadata == {"format": "np"}
    found = {t.name: (t.dtype, t.shape, t.num_bytes, t.num_elements) for t in tensors}
    assert found == {
        "scalar": ("F32", (), 4, 1),
        "half": ("F16", (2, 3), 12, 6),
        "none": ("I64", (0, 5), 0, 0),
        "flags": ("BOOL", (7,), 7, 7),
    }
    half = next(t for t in tensors if t.name == "half")
    assert content[half.begin : half.end] == arrays["half"].tobytes()


@given(_SHAPES)
def test_random_tables_come_back(shapes):
    content = shard(shapes)
    tensors, metadata = _parse(content)
    assert {t.name: (t.dtype, t.shape) for t in tensors} == shapes
    assert metadata == {}
    assert sum(t.num_bytes for t in tensors) == table(shapes)[1]


def test_cut_anywhere_it_is_truncated_and_nothing_else():
    content = shard(TINY)
    for length in range(len(content)):
        with pytest.raises(FileTruncated):
            _parse(content[:length])


@given(st.integers(0, len(shard(TINY)) - 1), st.integers(0, 255))
def test_one_wrong_byte_gives_a_table_or_our_error(position, value):
    content = bytearray(shard(TINY))
    content[position] = value
    try:
        _parse(bytes(content))
    except HeaderError:
        return


@given(st.binary(max_size=64))
def test_any_bytes_give_a_table_or_our_error(content):
    try:
        _parse(content)
    except HeaderError:
        return


def test_bytes_after_the_last_tensor_are_another_size_than_the_header_s():
    """WGT02, whose sentence names them: what was cut short, and what has bytes too many."""
    with pytest.raises(FileTruncated, match="1 more"):
        _parse(shard(TINY) + b"\0")


def test_without_a_file_size_the_end_is_not_compared():
    content = shard(TINY)
    header_only = content[: header_end(content)]
    assert len(parse_header(header_only, file_size=None)[0]) == len(TINY)
    with pytest.raises(FileTruncated):
        parse_header(header_only[:-1], file_size=None)


@pytest.mark.parametrize("size", [MAX_HEADER_BYTES + 1, 2**64 - 1])
def test_a_declared_length_past_the_limit_is_malformed(size):
    with pytest.raises(HeaderMalformed, match="limit"):
        header_end(size.to_bytes(8, "little"), file_size=None)


def test_a_declared_length_at_the_limit_is_believed():
    assert header_end(MAX_HEADER_BYTES.to_bytes(8, "little")) == MAX_HEADER_BYTES + 8


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_a_header_around_the_end_of_the_file(extra):
    text = b"{}"
    head = (len(text) + extra).to_bytes(8, "little") + text
    if extra > 0:
        with pytest.raises(FileTruncated):
            _parse(head)
    elif extra < 0:
        with pytest.raises(HeaderMalformed):
            _parse(head)
    else:
        assert _parse(head) == ((), {})


def test_an_unknown_dtype_counts_by_its_offsets():
    tensors, _ = _parse(raw({"x": _entry(0, 5, dtype="F5_E9M9", shape=(2, 4))}, b"12345"))
    assert (tensors[0].dtype, tensors[0].num_bytes, tensors[0].num_elements) == ("F5_E9M9", 5, 8)


def test_padding_spaces_in_the_header_are_allowed():
    assert len(_parse(raw(json.dumps({"x": _entry()}).encode() + b"   ", b"1234"))[0]) == 1


BROKEN = {
    "not json": b"<!DOCTYPE html>",
    "not utf-8": b'{"\xff": 1}',
    "a list": [],
    "nan": b'{"x": NaN}',
    "a deep bomb": b'{"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "a huge integer": b'{"x":' + b"9" * 5000 + b"}",
    "duplicate tensor": b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
    b'"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    "duplicate field": b'{"x":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    "a lone surrogate": b'{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    "metadata of numbers": {"__metadata__": {"a": 1}},
    "metadata a list": {"__metadata__": []},
    "entry a list": {"x": [1]},
    "no dtype": {"x": {"shape": [1], "data_offsets": [0, 4]}},
    "dtype a number": {"x": _entry(dtype=32)},
    "dtype empty": {"x": _entry(dtype="")},
    "shape a number": {"x": _entry(shape=1)},
    "shape of booleans": {"x": _entry(shape=[True])},
    "shape of floats": {"x": _entry(shape=[1.0])},
    "negative shape": {"x": _entry(shape=[-1])},
    "offsets of booleans": {"x": _entry(False, True)},
    "float offsets": {"x": _entry(0.0, 4.0)},
    "negative offsets": {"x": _entry(-4, 0)},
    "three offsets": {"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 2, 4]}},
    "begins after its end": {"x": _entry(4, 0)},
    "size is not dtype times shape": {"x": _entry(shape=(2,))},
    "a size past 64 bits": {"x": _entry(0, 0, dtype="NEW", shape=[2**64, 0])},
    "a product past 64 bits": {"x": _entry(0, 0, dtype="NEW", shape=[2**40, 2**40, 0])},
    "an offset past 64 bits": {"x": _entry(0, 2**64, dtype="NEW")},
    "an offset of 4300 digits": b'{"x":{"dtype":"NEW","shape":[],"data_offsets":[%s,%s]}}' % (b"9" * 4300, b"9" * 4300),
    "too many dimensions": {"x": _entry(0, 4, shape=[1] * 65)},
    "overlap": {"x": _entry(0, 4), "y": _entry(2, 6)},
    "gap": {"x": _entry(0, 4), "y": _entry(5, 9)},
    "gap in front": {"x": _entry(1, 5)},
    "the same bytes twice": {"x": _entry(0, 4), "y": _entry(0, 4)},
}


@pytest.mark.parametrize("header", BROKEN.values(), ids=BROKEN.keys())
def test_malformed(header):
    with pytest.raises(HeaderMalformed):
        parse_header(raw(header, b"\0" * 16), file_size=None)


def test_sixty_four_dimensions_and_the_largest_product_are_believed():
    sizes = {"x": _entry(0, 4, shape=[1] * 64), "y": _entry(4, 4, dtype="NEW", shape=[2**32 - 1, 2**32 + 1])}
    tensors, _ = _parse(raw(sizes, b"1234"))
    assert (len(tensors[0].shape), tensors[1].num_elements) == (64, 2**64 - 1)


@pytest.mark.parametrize(
    ("name", "shown"), [("a\nb", r"'a\\nb'"), ("\x1b[2J", r"'\\x1b\[2J'"), ("n" * 500, "n" * 119 + "…: ")]
)
def test_a_name_stands_in_a_message_of_one_line(name, shown):
    with pytest.raises(HeaderMalformed, match=shown) as told:
        _parse(raw({name: {}}))
    assert "\n" not in str(told.value)


def test_offsets_past_the_end_are_truncation():
    with pytest.raises(FileTruncated, match="tensors end"):
        _parse(raw({"x": _entry()}, b"123"))


def test_lfs_pointer():
    assert is_lfs_pointer(POINTER)
    assert not is_lfs_pointer(shard(TINY))
