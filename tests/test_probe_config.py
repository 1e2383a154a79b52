"""The config probe: every code on a planted fault and on sound files, hostile values, real files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benches import LLAMA, SEEDS, config_folder, model_bench, run
from tests.factories import SHARED, needs_assets
from tests.test_geometry import RECORDED, TRUTH
from wirecheck import zoo
from wirecheck.probes.config import CONFIG
from wirecheck.schema import Level, Policy, TrainSpec

SOUND = "test_a_sound_config_is_ok_on_every_code"
pytestmark = pytest.mark.usefixtures("said")

STATIC = ("CFG01", "CFG02", "CFG03", "CFG04", "CFG05", "CFG06", "CFG07", "CFG08", "CFG12")


@pytest.fixture
def check(tmp_path):
    """check(changed keys) -> output of the config probe on a small sound config with these changes."""

    def checked(config=LLAMA, *, train=None, policy=None, without=(), **changed):
        return run(
            CONFIG, model_bench(config_folder(tmp_path, config, without=without, **changed), train=train, policy=policy)
        )

    return checked


def test_a_sound_config_is_ok_on_every_code(check):
    output = check()
    assert output.fired == set()
    assert [finding.code for finding in output.findings] == [
        *("CFG01", "CFG02", "CFG04", "CFG03", "CFG05", "CFG06", "CFG07", "CFG08", "CFG12"),
    ]


def test_sources_lead_to_the_key_and_name_no_path(check, tmp_path):
    output = check(torch_dtype="bfloat16", without=("dtype",))
    (finding,) = output.of("CFG12")
    assert finding.evidence[0].source.startswith("config.json@sha256:")
    assert finding.evidence[0].source.endswith("#torch_dtype")
    assert str(tmp_path) not in "".join(f.model_dump_json() for f in output.findings)


# --- CFG01 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "7", '{"a": ' * 5000 + "1" + "}" * 5000, '{"n": 1' + "0" * 5000 + "}"]
)
def test_cfg01_fires_on_what_is_no_object(check, text):
    output = check(text)
    assert output.severity("CFG01") == "block"
    assert len(output.findings) == 1


def test_cfg01_fires_on_a_missing_file(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    output = run(CONFIG, model_bench(tmp_path))
    assert output.severity("CFG01") == "block"
    assert "config.json is not there" in output.of("CFG01")[0].evidence[0].observed


def test_cfg01_silent_on_an_object(check):
    assert check().severity("CFG01") == "ok"


def test_cfg01_says_of_a_gguf_file_that_its_metadata_makes_no_config(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"GGUF, so it says")
    output = run(CONFIG, model_bench(tmp_path / "m.gguf"))
    assert output.severity("CFG01") == "block"
    assert "No config can be made from the metadata of m.gguf" in output.claim("CFG01")


# --- CFG02, CFG04 ------------------------------------------------------------------------------------------------


def test_cfg02_fires_and_names_the_newer_version_that_wrote_it(check):
    output = check(model_type="llama17", transformers_version="99.1.0.dev0")
    assert output.severity("CFG02") == "block"
    assert "newer 99.1.0.dev0, which should have it" in output.claim("CFG02")


def test_cfg02_promises_nothing_where_the_writer_is_no_newer(check):
    assert "4.41.0, which is no newer" in check(model_type="internlm2", transformers_version="4.41.0").claim("CFG02")
    assert "newer" not in check(model_type="internlm2", without=("transformers_version",)).claim("CFG02")


def test_cfg02_fires_without_a_model_type(check):
    assert "no model type" in check(without=("model_type",)).claim("CFG02")
    assert check(model_type=["llama"]).severity("CFG02") == "block"


def test_cfg02_silent_on_a_native_type(check):
    assert check().severity("CFG02") == "ok"


def test_cfg02_reads_the_installed_table(check, monkeypatch):
    monkeypatch.setattr(zoo, "known_model_types", lambda: frozenset({"mistral"}))
    assert check().severity("CFG02") == "block"


@pytest.mark.parametrize("nothing", [{}, "modeling_x.X", ["modeling_x.X"]])
def test_cfg02_of_an_auto_map_that_names_no_code(check, nothing):
    output = check(model_type="llama17", auto_map=nothing)
    assert output.severity("CFG02") == "block"
    assert output.of("CFG04") == []


AUTO_MAP = {"AutoModelForCausalLM": "modeling_phi.PhiForCausalLM"}


def test_cfg04_fires_on_code_without_a_native_class(check):
    output = check(model_type="phi-msft", auto_map=AUTO_MAP)
    assert output.severity("CFG04") == "warn"
    assert output.of("CFG02") == []
    assert output.severity("CFG03") == "ok"


def test_cfg04_is_a_note_where_the_user_trusts_the_code(check):
    output = check(model_type="phi-msft", auto_map=AUTO_MAP, policy=Policy(trust_remote_code=True))
    assert output.severity("CFG04") == "note"


def test_cfg04_silent_where_a_native_class_makes_the_code_needless(check):
    output = check(auto_map=AUTO_MAP)
    assert output.severity("CFG04") == "ok"
    assert "needless" in output.claim("CFG04")


# --- CFG03 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [
        {"model_type": "bert", "architectures": ["BertForMaskedLM"]},
        {"model_type": "bert", "architectures": ["BertLMHeadModel"]},
        {"model_type": "bert", "architectures": None},
        {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True},
        {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]},
        {"model_type": "t5", "architectures": None},
        {"architectures": ["LlamaForSequenceClassification"]},
        {"architectures": ["LlamaForTokenClassification"]},
        {"architectures": ["LlamaRewardModel"]},
        {"architectures": ["LlamaModel"], "tie_word_embeddings": False},
        {"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"], "text_config": LLAMA},
    ],
    ids=lambda changed: f"{changed.get('model_type', 'llama')}-{(changed['architectures'] or ['none'])[0]}",
)
def test_cfg03_fires_on_another_kind_of_model(check, changed):
    assert check(**changed).severity("CFG03") == "block"


def test_cfg03_warns_of_a_bare_model_whose_head_may_be_the_embedding(check):
    assert check(architectures=["LlamaModel"]).severity("CFG03") == "warn"


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"architectures": None},
        {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]},
        {"model_type": "bert", "architectures": ["BertLMHeadModel"], "is_decoder": True},
        {"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"], "text_config": LLAMA},
        {"architectures": ["LlamaModel", "LlamaForCausalLM"]},
    ],
)
def test_cfg03_silent_on_a_causal_model(check, changed):
    assert check(**changed).severity("CFG03") == "ok"


def test_cfg03_says_that_an_unknown_class_is_not_judged(check):
    output = check(model_type="chatglm", architectures=["ChatGLMModel"], auto_map=AUTO_MAP)
    assert output.severity("CFG03") == "note"


# --- CFG05 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"hidden_size": 66, "head_dim": None}, "4 heads do not divide hidden size 66"),
        ({"num_key_value_heads": 3}, "3 key-value heads do not divide 4 heads"),
        ({"num_key_value_heads": 8}, "8 key-value heads do not divide 4 heads"),
        ({"head_dim": 15}, "15 rotated dimensions per head are not an even number"),
        ({"partial_rotary_factor": 0.05}, "0 rotated dimensions"),
        ({"layer_types": ["full_attention"] * 2}, "layer_types names 2 layers, there are 3"),
        ({"num_local_experts": 4, "num_experts_per_tok": 5}, "5 experts per token of 4"),
        ({"vocab_size": 10**12}, "vocab_size is 1000000000000, which is past 67,108,864"),
        ({"num_hidden_layers": -3}, "num_hidden_layers is -3, which is below 1"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"hidden_size": 64.0}, "hidden_size is 64.0, which is not a whole number"),
        ({"hidden_size": "64"}, 'hidden_size is "64"'),
        ({"num_attention_heads": True}, "num_attention_heads is true"),
        ({"tie_word_embeddings": "yes"}, 'tie_word_embeddings is "yes"'),
    ],
)
def test_cfg05_fires_and_says_what_does_not_fit(check, changed, words):
    output = check(**changed)
    assert output.severity("CFG05") == "block"
    assert words in output.claim("CFG05")


def test_cfg05_names_every_fault(check):
    assert len(check(hidden_size=-1, vocab_size=0, num_key_value_heads=3).of("CFG05")) == 3


@pytest.mark.parametrize(
    "changed", [{}, {"head_dim": None}, {"head_dim": 15, "rope_theta": None}, {"head_dim": 24},
                {"layer_types": ["full_attention"] * 3}, {"num_local_experts": 4, "num_experts_per_tok": 4}],
)  # fmt: skip
def test_cfg05_silent_on_sizes_that_agree(check, changed):
    assert check(**changed).severity("CFG05") == "ok"


def test_cfg05_says_that_nothing_was_declared(check):
    assert check({"model_type": "llama"}).severity("CFG05") == "note"


# --- CFG06 -------------------------------------------------------------------------------------------------------


def test_cfg06_notes_a_nested_config_and_facts_name_it(check):
    output = check({"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"], "text_config": LLAMA})
    assert output.severity("CFG06") == "note"
    assert output.facts["hidden_size"].source.endswith("#text_config.hidden_size")
    assert output.facts["config_bos_id"].source.endswith("#text_config.bos_token_id")


def test_cfg06_silent_on_a_flat_config(check):
    assert check().severity("CFG06") == "ok"


# --- CFG07 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "severity"),
    [
        ({"quant_method": "fp8", "fmt": "e4m3"}, "block"),
        ({"quant_method": "mxfp4"}, "block"),
        ({"quant_method": "fbgemm_fp8"}, "block"),
        ({"quant_method": "compressed-tensors", "config_groups": {"0": {"weights": {"type": "float"}}}}, "block"),
        ({"quant_method": "compressed-tensors", "config_groups": {"0": {"weights": {"type": "int"}}}}, "warn"),
        ({"quant_method": "gptq", "bits": 4}, "warn"),
        ({"quant_method": "awq", "bits": 4}, "warn"),
        ({"quant_method": "tomorrow"}, "warn"),
        ("fp8", "warn"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "note"),
        ({"load_in_8bit": True}, "note"),
        ({"quant_method": "mxfp4", "dequantize": True}, "note"),
    ],
)
def test_cfg07_judges_each_method_by_its_backward(check, declared, severity):
    assert check(quantization_config=declared).severity("CFG07") == severity


def test_cfg07_reads_a_nested_declaration(check):
    nested = LLAMA | {"quantization_config": {"quant_method": "fp8"}}
    assert check({"model_type": "gemma3", "text_config": nested}).severity("CFG07") == "block"


def test_cfg07_silent_without_quantization(check):
    output = check()
    assert output.severity("CFG07") == "ok"
    assert "quantization" not in output.facts


# --- CFG08 -------------------------------------------------------------------------------------------------------


def test_cfg08_fires_past_the_positions(check):
    output = check(max_position_embeddings=159)
    assert output.severity("CFG08") == "block"
    assert (
        output.claim("CFG08") == "The run takes 160 positions (32 latent + 64 context + 64 answer); the model has 159."
    )


def test_cfg08_silent_at_the_last_position(check):
    assert check(max_position_embeddings=160).severity("CFG08") == "ok"


@pytest.mark.parametrize("kind", ["linear", "dynamic"])
def test_cfg08_warns_where_the_maximum_may_count_the_scaling_already(check, kind):
    """Gemma 3 declares 131072 with linear x 8, and has 131072."""
    scaling = {"type": kind, "factor": 2.0}
    output = check(max_position_embeddings=80, rope_scaling=scaling)
    assert output.severity("CFG08") == "warn"
    assert "the model has 80, or 160 if" in output.claim("CFG08")
    assert "whether the declared maximum counts the rope scaling" in output.of("CFG08")[0].remedy
    assert check(max_position_embeddings=79, rope_scaling=scaling).severity("CFG08") == "block"
    assert check(max_position_embeddings=160, rope_scaling=scaling).severity("CFG08") == "ok"


def test_cfg08_counts_scaling_of_a_declared_original(check):
    scaling = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 40}
    assert check(max_position_embeddings=40, rope_scaling=scaling).severity("CFG08") == "ok"
    scaling["type"] = "linear"
    assert check(max_position_embeddings=40, rope_scaling=scaling).severity("CFG08") == "ok"


def test_cfg08_says_that_no_limit_is_declared(check):
    assert check(without=("max_position_embeddings",)).severity("CFG08") == "note"


# --- CFG12 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "words"), [("float16", "declares float16"), (None, "declares no dtype")])
def test_cfg12_notes_another_dtype(check, dtype, words):
    output = check(dtype=dtype)
    assert output.severity("CFG12") == "note"
    assert words in output.claim("CFG12")


def test_cfg12_silent_on_the_runs_dtype(check):
    assert check(dtype="float32", train=TrainSpec(dtype="float32")).severity("CFG12") == "ok"


# --- real files --------------------------------------------------------------------------------------------------


@needs_assets
@pytest.mark.parametrize("name", SEEDS)
def test_seed_models_are_sound_and_their_facts_are_known(tmp_path, name):
    text = (SHARED / "assets" / "snapshots" / name / "config.json").read_text(encoding="utf-8")
    output = run(CONFIG, model_bench(config_folder(tmp_path, text)))
    assert output.fired == set()
    fields = (
        "hidden_size",
        "num_layers",
        "num_heads",
        "num_kv_heads",
        "head_dim",
        "vocab_size",
        "tied",
        "max_positions",
    )
    assert tuple(output.facts[field].value for field in fields) == TRUTH[name]
    assert output.facts["architecture"].value in ("LlamaForCausalLM", "Qwen2ForCausalLM", "MistralForCausalLM")
    assert {"model_type", "intermediate_size", "dtype", "rope", "config_bos_id"} <= set(output.facts)
    assert {fact.level for fact in output.facts.values()} == {Level.DECLARED}


FIRING = {
    "CohereLabs__aya-23-8B": {"CFG12"},
    "Qwen__Qwen3-30B-A3B-FP8": {"CFG07"},
    "allenai__OLMo-2-1124-7B": {"CFG12"},
    "bigscience__bloom": {"CFG08", "CFG12"},
    "deepseek-ai__DeepSeek-V3": {"CFG07"},
    "google__gemma-4-26B-A4B": {"CFG06"},
    "internlm__internlm2_5-7b-chat": {"CFG02"},
    "meta-llama__Llama-4-Scout-17B-16E-Instruct": {"CFG06"},
    "microsoft__phi-2": {"CFG04", "CFG12"},
    "moonshotai__Kimi-K2-Instruct": {"CFG04", "CFG07"},
    "openai-community__gpt2": {"CFG12"},
    "openai__gpt-oss-20b": {"CFG07", "CFG12"},
    "tiiuae__falcon-40b": {"CFG04", "CFG08"},
}
"""What fires on the recorded configs; on the others nothing does."""


@needs_assets
@pytest.mark.parametrize("name", RECORDED)
def test_recorded_configs_fire_what_is_true_of_them(tmp_path, name):
    text = (SHARED / "assets" / "snapshots" / name / "config.json").read_text(encoding="utf-8")
    assert run(CONFIG, model_bench(config_folder(tmp_path, text))).fired == FIRING.get(name, set())


def test_the_probe_loads_neither_torch_nor_transformers(tmp_path):
    config_folder(tmp_path)
    program = (
        "import sys; from tests.benches import *; from wirecheck.probes.config import CONFIG; from pathlib import Path;"
        "run(CONFIG, model_bench(Path(sys.argv[1])));"
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, cwd=Path(__file__).parents[1])


def test_same_file_same_words(tmp_path):
    folder = config_folder(tmp_path, num_key_value_heads=3, quantization_config={"quant_method": "fp8"})
    first, second = (run(CONFIG, model_bench(folder)) for _ in range(2))
    assert json.dumps([f.model_dump() for f in first.findings]) == json.dumps([f.model_dump() for f in second.findings])


def test_cfg01_says_why(tmp_path):
    assert run(CONFIG, model_bench(config_folder(tmp_path, "[1]"))).claim("CFG01").endswith("JSON list, not an object.")
