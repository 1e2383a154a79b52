"""What fuzzing begins with: kept inputs, and small sound ones made here. Recorded real files join where they lie."""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests import factories, gates, ggufs, tokenizer_factory
from tests.fuzz.targets import SHARD, TOKENIZER_FILES
from wirecheck.cli_gate_file import first_file
from wirecheck.cli_output import to_json
from wirecheck.demo import demo_folders
from wirecheck.lock_records import Lock

HERE = Path(__file__).parent
CORPUS, REGRESSIONS = HERE / "corpus", HERE / "regressions"
RECORDED = factories.SHARED / "assets" / "snapshots"


def kept(name: str) -> tuple[Path, ...]:
    """Every input that is kept for a target, those that once failed last."""
    return tuple(path for folder in (CORPUS, REGRESSIONS) for path in sorted((folder / name).glob("*")))


def seeds(name: str) -> Iterator[bytes]:
    """Inputs for a target: what is kept, and sound ones."""
    yield from (path.read_bytes() for path in kept(name))
    yield from _SOUND[name]()


def _headers() -> Iterator[bytes]:
    yield from (SHARD, _many(), (0).to_bytes(8, "little"), b"version https://git-lfs.github.com/spec/v1\n")


def _indexes() -> Iterator[bytes]:
    yield json.dumps({"metadata": {"total_size": 32}, "weight_map": {"a": _shard(1), "w": _shard(2)}}).encode()
    yield from _recorded("model.safetensors.index.json", 20_000)


def _configs() -> Iterator[bytes]:
    yield from ((folder / "config.json").read_bytes() for folder in demo_folders())
    yield from _recorded("config.json", 8_000)


def _generations() -> Iterator[bytes]:
    yield json.dumps({"eos_token_id": [2, 3], "bos_token_id": 1, "transformers_version": "5.0.0"}).encode()
    yield from _recorded("generation_config.json", 8_000)


def _templates() -> Iterator[bytes]:
    yield tokenizer_factory.CHATML.encode()
    yield from _recorded("chat_template.jinja", 12_000)
    for path in sorted(RECORDED.glob("*/tokenizer_config.json")):
        template = json.loads(path.read_bytes()).get("chat_template")
        if isinstance(template, str):
            yield template.encode()[:12_000]


def _results() -> Iterator[bytes]:
    yield to_json(factories.pair_result()).encode()
    yield to_json(factories.pair_result(b=None, runs=())).encode()


def _baselines() -> Iterator[bytes]:
    rows = (gates.row(gates.ran(gates.warning())), gates.lost("gone"))
    yield to_json(gates.gate(*rows, accepted=(gates.acceptance("used"), gates.acceptance("expired")))).encode()


def _claims() -> Iterator[bytes]:
    tables = 'source = "a paper"\n[a]\nvocab_size = 128256\ntied = true\n[b]\nhidden_size = 64.5\n'
    yield (tables + '[pair]\nverdict = "compatible"\n').encode()


def _locks() -> Iterator[bytes]:
    yield lock()


def _shard(number: int) -> str:
    return f"model-0000{number}-of-00002.safetensors"


def _many() -> bytes:
    table = {
        "__metadata__": {"format": "pt"},
        "model.embed_tokens.weight": {"dtype": "BF16", "shape": [8, 4], "data_offsets": [0, 64]},
        "lm_head.weight": {"dtype": "F8_E4M3", "shape": [8, 4], "data_offsets": [64, 96]},
        "s": {"dtype": "I64", "shape": [], "data_offsets": [96, 104]},
    }
    head = json.dumps(table).encode()
    return len(head).to_bytes(8, "little") + head + bytes(104)


def _recorded(name: str, most: int) -> Iterator[bytes]:
    for path in sorted(RECORDED.glob(f"*/{name}")):
        if path.stat().st_size <= most:
            yield path.read_bytes()


def _tokenizers() -> Iterator[bytes]:
    for core in (tokenizer_factory.byte_level(front=["<s>"]), tokenizer_factory.unigram()):
        with tempfile.TemporaryDirectory() as place:
            folder = tokenizer_factory.save(Path(place) / "m", core)
            for number, name in enumerate(TOKENIZER_FILES):
                if (folder / name).is_file():
                    yield bytes([number]) + (folder / name).read_bytes()
    yield from (b"\x03" + json.dumps(_CORE | part).encode() for part in _PARTS)
    yield b"\x01" + json.dumps({"bos_token": {"content": "<s>", "lstrip": False}, "eos_token": "</s>"}).encode()
    yield b"\x02" + json.dumps({"<extra>": 260, "<more>": 261}).encode()
    yield b"\x06" + json.dumps({"chat_template": tokenizer_factory.CHATML}).encode()
    for number, name in enumerate(TOKENIZER_FILES[:3]):
        yield from (bytes([number]) + data for data in _recorded(name, 12_000))


_CORE = {
    **dict.fromkeys(("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder")),
    "version": "1.0",
    "added_tokens": [],
    "model": {"type": "BPE", "vocab": {"H": 0, "e": 1, "l": 2, "o": 3, "He": 4, "<s>": 5}, "merges": ["H e"]},
}
_ADDED = {"id": 5, "content": "<s>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
_PARTS: tuple[dict[str, Any], ...] = (
    {"added_tokens": [_ADDED | {"special": True}]},
    {"truncation": {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}},
    {
        "padding": {
            "strategy": {"Fixed": 4},
            "direction": "Left",
            "pad_to_multiple_of": 2,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "H",
        }
    },
    {
        "normalizer": {
            "type": "Sequence",
            "normalizers": [{"type": "NFC"}, {"type": "Replace", "pattern": {"Regex": "a+"}, "content": "b"}],
        }
    },
    {
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": "BAAAAAAAAAA="},
        "decoder": {"type": "Metaspace", "replacement": "_"},
    },
    {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "\\s+|\\w+"}, "behavior": "Isolated", "invert": False}},
    {
        "pre_tokenizer": {"type": "FixedLength", "length": 3},
        "decoder": {"type": "Strip", "content": "H", "start": 1, "stop": 1},
    },
    {
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "decoder": {"type": "ByteFallback"},
    },
    {
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [5], "tokens": ["<s>"]}},
        }
    },
    {
        "model": {
            "type": "WordPiece",
            "vocab": {"H": 0, "##e": 1, "?": 2},
            "unk_token": "?",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 9,
        }
    },
    {"model": {"type": "WordLevel", "vocab": {"Hello": 0, "?": 1}, "unk_token": "?"}},
    {
        "model": {
            "type": "Unigram",
            "unk_id": 0,
            "vocab": [["?", 0.0], ["H", -1.0], ["e", -2.5]],
            "byte_fallback": False,
        }
    },
)
"""Small tokenizers that between them have every kind of part."""


def _ggufs() -> Iterator[bytes]:
    def text(word: str) -> bytes:
        return struct.pack("<Q", len(word)) + word.encode()

    keys = text("general.architecture") + struct.pack("<I", 8) + text("llama")
    keys += text("llama.block_count") + struct.pack("<II", 4, 2)
    keys += text("llama.attention.head_count_kv") + struct.pack("<IIQii", 9, 5, 2, 2, 4)
    keys += text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b")
    tensor = text("token_embd.weight") + struct.pack("<IQQIQ", 2, 4, 8, 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 4) + keys + tensor
    yield head.ljust(-len(head) % 32 + len(head), b"\0") + bytes(128)
    with tempfile.TemporaryDirectory() as place:
        yield ggufs.write_gguf(Path(place) / "m.gguf").read_bytes()[: 64 * 1024]


def _gates() -> Iterator[bytes]:
    yield first_file(("org/one@main", "./two"), 2027).encode()
    yield (
        b'[models.one]\nid = "org/one"\nrevision = "abc"\nexpect = { hidden_size = 64, tied = true }\n'
        b'[models.two]\nid = "./two"\n[gate]\npairs = [["one", "two"]]\nrequire = "inspected"\ngpus = ["H100-80GBx2"]\n'
        b'minutes = 3.5\n[[gate.accepted]]\ncode = "TOK05"\non = "one+two"\nreason = "r"\nuntil = 2027-01-31\n'
        b'[wire]\nname = "pkg.mod:make"\noptions = { depth = 2 }\n[train]\nbatch = 2\ndtype = "float16"\n'
    )


def lock() -> bytes:
    """A small wirecheck.lock."""
    file = {"name": "config.json", "size": 3, "sha256": "0" * 64}
    model = {"name": "one", "id": "org/one", "kind": "hub", "commit": "a" * 40, "files": [file], "beside": ["x.bin"]}
    told = {
        "models": [model],
        "versions": [["python", "3.11.7"], ["torch", "2.6"]],
        "asked": "0" * 64,
        "results": [{"a": "one", "outcome": "compatible", "strength": "inspected", "digest": "1" * 64}],
    }
    return to_json(Lock.model_validate_json(json.dumps(told))).encode()


_SOUND: dict[str, Callable[[], Iterator[bytes]]] = {
    "header": _headers,
    "weights": _headers,
    "index": _indexes,
    "config": _configs,
    "autoconfig": _configs,
    "tokenizer": _tokenizers,
    "generation": _generations,
    "template": _templates,
    "template_probe": _templates,
    "gguf": _ggufs,
    "gate": _gates,
    "lock": _locks,
    "result": _results,
    "baseline": _baselines,
    "claims": _claims,
}
