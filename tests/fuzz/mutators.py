"""Changes that know how an input is put together: a byte flipped in JSON is nearly always only no JSON any more."""

from __future__ import annotations

import copy
import json
import random
import tomllib
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

Bytes = Callable[[bytes, int], bytes]
"""The fuzzer's own change of bytes, to a length at most."""

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 7, 8, 64, 127, 255, 4096, 65536, 2**31 - 1, 2**31, 2**53, 2**63 - 1, 2**63),
    *(2**64, 10**12, 10**30, -(2**63), -(10**30), 0.5, -0.0, 1e308, 1e-308, float("nan"), float("inf"), 3.0),
    *(
        "",
        " ",
        "a",
        "\n",
        "\x00",
        "\x1b[31m",
        "\u202e",
        "\ud800",
        "é",
        "../x",
        "/etc/hostname",
        "C:\\x",
        "0",
        "1",
        "true",
    ),
    *("auto", "float32", "bfloat16", "fp8", "default", "llama", "qwen2", "gpt2", "gemma3", "t5", "a" * 300, "{}", "[]"),
    *([], {}, [[]], [{}], {"": {}}, [None], [1, 2], ["a"], {"a": 1}, {"model_type": "llama"}),
)
"""What a field of any JSON may be found to be."""
JINJA = (
    *("{{", "}}", "{%", "%}", "{#", "#}", "{%-", "-%}", "for m in messages", "endfor", "if", "elif", "else", "endif"),
    *(
        "set x = ",
        "namespace(",
        "macro f(a)",
        "endmacro",
        "f(1)",
        "raise_exception('x')",
        "strftime_now('%d')",
        "loop.",
    ),
    *(
        "messages[0]",
        "m.role",
        "m['content']",
        "|trim",
        "|length",
        "|tojson",
        "|join(',')",
        "|map('upper')",
        "~",
        "is ",
    ),
    *(
        "defined",
        "bos_token",
        "eos_token",
        "add_generation_prompt",
        "range(99)",
        "|list",
        "|string",
        "|items",
        "[::-1]",
    ),
    *(
        "recursive",
        "loop(m)",
        "call f()",
        "endcall",
        "filter upper",
        "endfilter",
        "import",
        "include 'x'",
        "extends 'x'",
    ),
    *("__class__", ".format(", "|attr('x')", "generation", "endgeneration", "break", "continue", "self.", "caller()"),
    *(
        "raw",
        "endraw",
        "block b",
        "endblock",
        "autoescape true",
        "'",
        '"',
        "\\",
        "\n",
        "(",
        ")",
        "[",
        "]",
        "and",
        "not",
    ),
)
TOML = (
    *("[", "]", "[[", "]]", "=", ".", ",", "{", "}", '"', "'", '"""', "#", "\n", "[models.one]\n", 'id = "org/one"\n'),
    *("[gate]\n", "[[gate.accepted]]\n", 'pairs = "all"\n', 'pairs = [["one", "two"]]\n', 'require = "executed"\n'),
    *("[wire]\n", "[train]\n", "batch = 0\n", "minutes = inf\n", "seed = -1\n", "until = 2027-01-31\n", "1e999", "nan"),
    *(
        'gpus = ["H100-80GBx9999999"]\n',
        'code = "CFG11"\n',
        'on = "one"\n',
        "[models.one.expect]\n",
        "vocab_size = 1\n",
    ),
    *('name = "a.b:c"\n', "options = {x = 1}\n", "[policy]\n", "[a]\n", "[pair]\n", 'source = "s"\n', "true", "0x1F"),
    *("1979-05-27T07:32:00Z", "07:32:00", "\\u0000", "\\ud800", "\x00", "é", "[a.b]\n", "a.b = 1\n"),
)


class Mutator:
    """Changes of one shape of inputs. Pieces of other inputs of the corpus are spliced in."""

    def __init__(self, shape: str, seeds: tuple[bytes, ...]) -> None:
        self.shape = shape
        self.seeds = seeds or (b"{}",)

    def change(self, data: bytes, most: int, seed: int, raw: Bytes) -> bytes:
        """Another input, no longer than `most`."""
        dice = random.Random(seed)
        if dice.random() < 0.15 or self.shape == "gguf":
            return raw(data, most)
        match self.shape:
            case "json":
                made = self._json(data, dice, raw, most)
            case "header":
                made = _framed(self._json(_header_of(data), dice, raw, most), dice)
            case "files":
                made = self._file(data, dice, raw, most)
            case "jinja":
                made = self._text(data, dice, JINJA)
            case _:
                made = self._toml(data, dice)
        return made[:most]

    def _file(self, data: bytes, dice: random.Random, raw: Bytes, most: int) -> bytes:
        if dice.random() < 0.1:
            return bytes([dice.randrange(7)]) + data[1:]
        return data[:1] + self._json(data[1:], dice, raw, most)

    def _toml(self, data: bytes, dice: random.Random) -> bytes:
        if dice.random() < 0.4:
            return self._text(data, dice, TOML)
        try:
            tree = tomllib.loads(data.decode("utf-8"))
        except (ValueError, RecursionError):
            return self._text(data, dice, TOML)
        for _ in range(dice.choice((1, 1, 1, 2))):
            tree = self._changed(tree, dice)
        try:
            return _as_toml(tree).encode("utf-8", "surrogatepass")
        except (ValueError, RecursionError):  # as above
            return self._text(data, dice, TOML)

    def _json(self, data: bytes, dice: random.Random, raw: Bytes, most: int) -> bytes:
        try:
            tree = json.loads(data)
        except (ValueError, RecursionError):
            return raw(data, most)
        for _ in range(dice.choice((1, 1, 1, 2, 4))):
            tree = self._changed(tree, dice)
        try:
            return json.dumps(tree, ensure_ascii=dice.random() < 0.9).encode("utf-8", "surrogatepass")
        except (ValueError, RecursionError):  # a number grew past the digits that Python prints
            return raw(data, most)

    def _changed(self, tree: Any, dice: random.Random) -> Any:
        places = list(_places(tree))
        if not places:
            return _odd(dice)
        holder, key = dice.choice(places)
        match dice.randrange(8):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, list):
                holder.insert(dice.randrange(len(holder) + 1), copy.deepcopy(holder[key]))
            case 1:
                holder[dice.choice([one for one in ODD if isinstance(one, str)])] = copy.deepcopy(holder[key])
            case 2:
                other, other_key = dice.choice(places)
                holder[key] = copy.deepcopy(other[other_key])
            case 3:
                holder[key] = self._loan(dice)
            case 4 | 5:
                holder[key] = _beside(holder[key], dice)
            case 6:
                for _ in range(dice.choice((1, 5, 150))):
                    holder[key] = [holder[key]] if dice.random() < 0.5 else {"a": holder[key]}
            case _:
                holder[key] = _odd(dice)
        return tree

    def _loan(self, dice: random.Random) -> Any:
        """A piece of another input."""
        seed = dice.choice(self.seeds)
        for cut in (0, 1, 8):
            try:
                places = list(_places(json.loads(seed[cut:])))
            except (ValueError, RecursionError):
                continue
            if places:
                holder, key = dice.choice(places)
                return holder[key]
        return _odd(dice)

    def _text(self, data: bytes, dice: random.Random, words: tuple[str, ...]) -> bytes:
        text = data.decode("utf-8", "replace")
        for _ in range(dice.choice((1, 1, 2, 3))):
            at, to = sorted((dice.randrange(len(text) + 1), dice.randrange(len(text) + 1)))
            match dice.randrange(5):
                case 0:
                    text = text[:at] + text[min(to, at + 40) :]
                case 1:
                    other = dice.choice(self.seeds).decode("utf-8", "replace")
                    begin = dice.randrange(len(other) + 1)
                    text = text[:at] + other[begin : begin + dice.choice((5, 30, 200))] + text[at:]
                case 2:
                    lines = text.splitlines(keepends=True)
                    dice.shuffle(lines)
                    text = "".join(lines)
                case _:
                    text = text[:at] + dice.choice(words) + text[at:]
        return text.encode("utf-8", "replace")


def _beside(value: Any, dice: random.Random) -> Any:
    """A number a little off, a text with one letter otherwise."""
    match value:
        case int() if not isinstance(value, bool):
            return value + dice.choice((-1, 1, -8, 8, 2**32))
        case str():
            at = dice.randrange(len(value) + 1)
            return value[:at] + dice.choice(("", "\n", "\u202e", "|", "<b>", "{{x}}", "%s", "@")) + value[at + 1 :]
        case _:
            return _odd(dice)


def _odd(dice: random.Random) -> Any:
    return copy.deepcopy(dice.choice(ODD))


def _header_of(data: bytes) -> bytes:
    return data[8 : 8 + int.from_bytes(data[:8], "little")]


_BITS = {"F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "I64": 64, "BOOL": 8, "F4": 4}


def _framed(header: bytes, dice: random.Random) -> bytes:
    """A header behind its length, which is true but for one time in ten, and before bytes as many as it speaks of."""
    filled = dice.randrange(32)
    try:
        table = json.loads(header)
        filled = _laid_out(table) if dice.random() < 0.7 else filled
        header = json.dumps(table).encode("utf-8", "surrogatepass")
    except (ValueError, TypeError, AttributeError, RecursionError):
        filled = dice.randrange(64)
    length = len(header) if dice.random() < 0.9 else dice.choice((0, 1, len(header) + 1, 2**32, 2**63, 10**8))
    return length.to_bytes(8, "little") + header + bytes(min(filled, 4096))


def _laid_out(table: dict[str, Any]) -> int:
    """Give every entry that has a shape the bytes that it needs, one behind the other; how many in all."""
    end = 0
    for entry in table.values():
        if not isinstance(entry, dict) or not isinstance(entry.get("shape"), list):
            continue
        bits = _BITS.get(str(entry.get("dtype")), 8)
        for size in entry["shape"]:
            bits *= size if isinstance(size, int) else 1
        entry["data_offsets"] = [end, end + abs(bits) // 8]
        end += abs(bits) // 8
    return end


def _as_toml(tree: Any) -> str:
    """Every table of the top as lines, all below it as inline tables."""
    if not isinstance(tree, dict):
        return _inline(tree)
    lines = [f"{_inline(str(key))} = {_inline(value)}\n" for key, value in tree.items() if not isinstance(value, dict)]
    for key, value in tree.items():
        if isinstance(value, dict):
            lines.append(f"[{_inline(str(key))}]\n")
            lines += [f"{_inline(str(inner))} = {_inline(held)}\n" for inner, held in value.items()]
    return "".join(lines)


def _inline(value: Any) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{_inline(str(key))} = {_inline(held)}" for key, held in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_inline, value)) + "]"
        case datetime() | date():
            return value.isoformat()
        case float():
            return repr(value)
        case None:
            return '"none"'
        case _:
            return json.dumps(value, ensure_ascii=False)


def _places(tree: Any) -> Any:
    """Every (holder, key) of a JSON tree."""
    todo = [tree]
    while todo:
        holder = todo.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        for key in keys:
            yield holder, key
            todo.append(holder[key])
