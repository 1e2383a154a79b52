"""A stranger's folder full of programs: at no depth is one run, imported or unpickled."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from wirecheck import zoo, zoo_fences, zoo_sentence
from wirecheck.errors import CannotRun
from wirecheck.runner import Request, check
from wirecheck.schema import Level, PairResult, Policy, TrainSpec, WireSpec
from wirecheck.snapshot import parse_ref, take
from wirecheck.views import markdown

MODULES = (
    "configuration_evil",
    "modeling_evil",
    "tokenization_evil",
    "processing_evil",
    "generate",
    "torch",
    "__init__",
)
PICKLES = ("pytorch_model.bin", "adapter_model.bin", "tokenizer.pkl", "vocab.pkl", "training_args.bin", "optimizer.pt")
AUTO_MAP = {
    "AutoConfig": "configuration_evil.Evil",
    "AutoModelForCausalLM": "modeling_evil.Evil",
    "AutoTokenizer": ["tokenization_evil.Evil", "tokenization_evil.Evil"],
    "AutoProcessor": "processing_evil.Evil",
}
ELSEWHERE = {key: f"org/other--{value[0] if isinstance(value, list) else value}" for key, value in AUTO_MAP.items()}
_SEEN: list[str] = []
"""What the audit hook below saw while `_WATCHING`: a hook cannot be taken away again, so there is one."""
_WATCHING: list[Path] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _WATCHING:
        return
    if event == "pickle.find_class":
        _SEEN.append(f"unpickled {arguments}")
    if event == "compile" and str(_WATCHING[0]) in str(arguments[1]):
        _SEEN.append(f"compiled {arguments[1]}")


sys.addaudithook(_hook)


def _merge(folder: Path, name: str, **fields: Any) -> None:
    path = folder / name
    held = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(held | fields))


@pytest.fixture
def mined(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sound model with a program in every place that some loader would take one from; each would write a file."""
    program = f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).write_text(__name__)\nclass Evil: pass\n"

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return exec, (program,)

    for name in PICKLES:
        (llama / name).write_bytes(pickle.dumps(Bomb()))
    (llama / "custom_generate").mkdir()
    for name in (*MODULES, "custom_generate/generate"):
        (llama / f"{name}.py").write_text(program)
    _merge(
        llama, "config.json", auto_map=AUTO_MAP, custom_pipelines={"text-generation": {"impl": "modeling_evil.Evil"}}
    )
    _merge(llama, "tokenizer_config.json", auto_map=AUTO_MAP, tokenizer_file="tokenizer.pkl", vocab_file="vocab.pkl")
    _merge(llama, "generation_config.json", auto_map=AUTO_MAP, custom_generate=str(llama))
    for name in ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json"):
        _merge(llama, name, auto_map=AUTO_MAP, processor_class="EvilProcessor")
    monkeypatch.chdir(llama)  # what would be imported by its bare name lies in the working folder
    return llama


def _checked(folder: Path, b: Path | None = None, depth: Level = Level.EXECUTED) -> PairResult:
    request = Request(wire=WireSpec(), train=TrainSpec(), policy=Policy(depth=depth), seed=0, command="check")
    snapshots = [take(parse_ref(str(path))) for path in (folder, b) if path is not None]
    _SEEN.clear()
    _WATCHING.append(folder)
    try:
        return check(snapshots[0], snapshots[1] if b else None, request)
    finally:
        _WATCHING.clear()


@pytest.mark.parametrize("depth", [Level.DECLARED, Level.INSPECTED, Level.EXECUTED])
def test_a_folder_of_programs_runs_none(mined, qwen, tmp_path, depth):
    result = _checked(mined, qwen if depth is Level.EXECUTED else None, depth)
    assert not [run for run in result.runs if run.kind == "crashed"]
    assert not _SEEN
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("auto_map", [AUTO_MAP, ELSEWHERE], ids=["here", "in another repository"])
def test_a_model_type_of_the_repository_runs_none_of_its_code(mined, tmp_path, auto_map):
    _merge(mined, "config.json", model_type="evil", auto_map=auto_map)
    _merge(mined, "tokenizer_config.json", auto_map=auto_map, tokenizer_class="EvilTokenizer")
    result = _checked(mined)
    assert "CFG04" in {finding.code for finding in result.findings if finding.severity == "warn"}
    assert not _SEEN
    assert not (tmp_path / "ran").exists()


def test_the_watch_would_see_it(mined, tmp_path):
    _WATCHING.append(mined)
    try:
        pickle.loads((mined / "tokenizer.pkl").read_bytes())
        compile((mined / "generate.py").read_text(), str(mined / "generate.py"), "exec")
    finally:
        _WATCHING.clear()
    assert len(_SEEN) >= 2
    assert (tmp_path / "ran").exists()


def test_weights_that_are_pickles_alone_are_not_read(mined, tmp_path):
    for file in mined.glob("model*"):
        file.unlink()
    result = _checked(mined)
    assert "WGT10" in {finding.code for finding in result.findings}
    assert not _SEEN
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("tokenizer_config.json", "LlamaForCausalLM"),
        ("tokenizer_config.json", "pipeline"),
        ("config.json", "AutoModelForCausalLM"),
        ("config.json", "RagRetriever"),
    ],
)
def test_a_tokenizer_class_that_is_none_is_not_called(mined, tmp_path, name, file):
    # AutoTokenizer calls `from_pretrained` of whatever transformers exports by that name: it would load the weights.
    for path in mined.glob("model*"):
        path.unlink()
    _merge(mined, "tokenizer_config.json", tokenizer_class=None, auto_map={})
    _merge(mined, file, tokenizer_class=name)
    with pytest.raises(zoo.Unloadable, match=f"names {name} as its tokenizer"):
        zoo.load_tokenizer(take(parse_ref(str(mined))), trust_remote_code=False)
    with pytest.raises(CannotRun, match=f"names {name} as its tokenizer"):
        zoo_sentence.load(str(mined))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name", ["LlamaTokenizer", "LlamaTokenizerFast", "PreTrainedTokenizerFast", "NoSuchTokenizer", 7]
)
def test_a_tokenizer_class_that_is_one_or_none_at_all_is_left_to_the_library(llama, name):
    _merge(llama, "tokenizer_config.json", tokenizer_class=name)
    assert zoo_fences.no_tokenizer_class(llama) is None


def test_nothing_is_unpickled_while_files_are_loaded(llama, monkeypatch):
    own = torch.load

    def asks(*_: Any, **__: Any) -> None:
        torch.load(llama / "pytorch_model.bin", weights_only=True)

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", asks)
    with pytest.raises(zoo.Unloadable, match="PickleRefused"):
        zoo.load_tokenizer(take(parse_ref(str(llama))), trust_remote_code=False)
    assert torch.load is own


def test_a_panic_of_a_rust_library_is_the_files_fault(llama, monkeypatch):
    class PanicException(BaseException):  # as pyo3 makes it: no Exception
        pass

    def panics(*_: Any, **__: Any) -> None:
        raise PanicException("index out of bounds")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", panics)
    with pytest.raises(zoo.Unloadable, match=r"LibraryPanic: .*index out of bounds"):
        zoo.load_tokenizer(take(parse_ref(str(llama))), trust_remote_code=False)


def test_ctrl_c_while_files_are_loaded_is_no_fault_of_theirs(llama, monkeypatch):
    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", stopped)
    with pytest.raises(KeyboardInterrupt):
        zoo.load_tokenizer(take(parse_ref(str(llama))), trust_remote_code=False)


def test_a_report_of_such_a_folder_names_no_file_of_this_machine(mined, tmp_path):
    result = _checked(mined, depth=Level.INSPECTED)
    assert str(tmp_path) not in markdown.render(result).replace(result.a.ref, "")
