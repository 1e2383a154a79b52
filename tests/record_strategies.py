"""Strategies for the records of every file format, made from their own fields: a sound one, with fields varied."""

from __future__ import annotations

import json
import types
from datetime import date
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from tests import differences, gates, picture_cases
from tests.factories import pair_result
from tests.fuzz.seeds import lock as small_lock
from tests.matrices import hostile
from tests.strangers import _architectures, _frontier, _gate, _pair
from wirecheck.difference import compare
from wirecheck.lock_records import Lock, LockCheck, LockedModelNow, Moved
from wirecheck.machine_records import MachineReport, bad, good
from wirecheck.record import Record

texts = st.text(max_size=12)
"""Example: 'a\\n\u202e'"""


def _sound() -> dict[str, tuple[BaseModel, ...]]:
    """Of every file format, sound records to begin with."""
    lock = Lock.model_validate_json(small_lock())
    moved = Moved(file="config.json", part="config", how="changed", what="x", matters=True)
    now = LockedModelNow(name="one", id="org/one", revision=None, locked="a", now="b", moved=(moved,))
    other = differences.with_runs(drop=("embeds",), seed=3)
    gate = gates.gate(gates.row(gates.ran(gates.warning())), gates.lost("gone"), accepted=(gates.acceptance("used"),))
    return {
        "result": (pair_result(), _pair("x"), pair_result(b=None, runs=pair_result().runs[:2])),
        "gate": (gate, _gate("x")),
        "lock": (lock,),
        "lock-check": (LockCheck(models=(now,), versions=(("torch", "2", None),)),),
        "matrix": (hostile(),),
        "diff": (compare(differences.OLD, other, ("a", "b")), compare(gate, gate, ("a", "b"))),
        "fit": (_frontier("x"), picture_cases.curved()),
        "doctor": (MachineReport.of([good("a", "b"), bad("c", "d", "e")]),),
        "architectures": (_architectures("x"),),
    }


SOUND = _sound()


@st.composite
def varied(draw: st.DrawFn, start: BaseModel) -> BaseModel:
    """The record with a few fields, at any depth, otherwise; what does not validate so is left as it was.

    Example: PairResult(…, seed=7, a=CheckedModel(name='', …), …)
    """
    made = start
    for name in draw(st.lists(st.sampled_from(sorted(type(start).model_fields)), max_size=3)):
        field, value = type(start).model_fields[name], getattr(made, name)
        if isinstance(value, Record) and draw(st.integers(0, 3)):
            other: Any = draw(varied(value))
        elif isinstance(value, tuple) and value and isinstance(value[0], Record) and draw(st.integers(0, 3)):
            at = draw(st.integers(0, len(value) - 1))
            other = (*value[:at], draw(varied(value[at])), *value[at + 1 :])
        else:
            other = draw(values(field.annotation))
        try:
            made = type(start).model_validate(made.model_dump(exclude_computed_fields=True) | {name: other})
        except ValidationError:
            continue
    return made


def records(name: str) -> st.SearchStrategy[BaseModel]:
    """Records of one file format."""
    return st.sampled_from(SOUND[name]).flatmap(varied)


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type, its bounds left to validation; of a record None: only a sound one is varied."""
    origin, inside = get_origin(kind), get_args(kind)
    if origin is not None:
        return _of_parts(origin, inside)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(list(kind))
    return _PLAIN.get(kind, st.none())


def _of_parts(origin: Any, inside: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    if origin is Annotated:
        made = values(inside[0])
    elif origin is Literal:
        made = st.sampled_from(inside)
    elif origin is dict:
        made = st.dictionaries(values(inside[0]), values(inside[1]), max_size=2)
    elif origin is not tuple:
        assert origin in (Union, types.UnionType)
        made = st.one_of(*map(values, inside))
    elif inside[1:] == (...,):
        made = st.lists(values(inside[0]), max_size=2).map(tuple)
    else:
        made = st.tuples(*map(values, inside))
    return made


_PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(-2, 2**70),
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: texts,
    date: st.dates(),
}


@st.composite
def spoilt(draw: st.DrawFn, name: str) -> str:
    """The JSON of a record with one thing in it, at any depth, replaced, removed or doubled.

    Example: '{"schema_version": [], …}'
    """
    tree = json.loads(draw(st.sampled_from(SOUND[name])).model_dump_json())
    holder, key = draw(st.sampled_from(list(_places(tree))))
    match draw(st.sampled_from(["replace", "replace", "remove", "double"])):
        case "remove":
            del holder[key]
        case "double" if isinstance(holder, list):
            holder.append(holder[key])
        case _:
            holder[key] = draw(odd)
    return json.dumps(tree)


odd = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | texts | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
"""Any JSON, and what Python's JSON takes besides: NaN, half of a surrogate pair. Example: [{'a': nan}]"""


def _places(tree: Any) -> Any:
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from _places(tree[key])
