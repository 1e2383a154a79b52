"""Faults of config.json and generation_config.json: CFG."""

from __future__ import annotations

from tests.planted.cases import Folder, Plant, plants
from wirecheck.schema import Level

_FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
_GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False}
_T5 = {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "d_model": 128, "num_layers": 2}


def _cut(m: Folder) -> None:
    text = m.text("config.json")
    m.put("config.json", text[: len(text) // 2])


def _comment(m: Folder) -> None:
    m.put("config.json", m.text("config.json").replace("{", "{ // edited by hand", 1))


def _merge_marks(m: Folder) -> None:
    text = m.text("config.json")
    m.put("config.json", f"<<<<<<< HEAD\n{text}\n=======\n{text}\n>>>>>>> upstream\n")


def _without_heads(m: Folder) -> None:
    m.config(["head_dim"], num_attention_heads=7)


def _stop_word(m: Folder) -> None:
    """The stop string is one the tokenizer does not know, looked up as the unknown token."""
    m.edit("tokenizer_config.json", unk_token="<|im_start|>")
    m.edit("generation_config.json", eos_token_id=[258, 257])
    m.config(eos_token_id=258)


CONFIG = (
    *plants(
        "llama",
        (
            ("CFG01", "config.json is not in the folder", lambda m: m.remove("config.json")),
            ("CFG01", "a download of config.json ended halfway", _cut),
            (
                "CFG01",
                "config.json holds a list with the object in it",
                lambda m: m.put("config.json", [m.json("config.json")]),
            ),
            (
                "CFG01",
                "config.json is nested 3,000 deep",
                lambda m: m.put("config.json", '{"a":' * 3000 + "1" + "}" * 3000),
            ),
            (
                "CFG01",
                "config.json was saved as UTF-16",
                lambda m: m.put("config.json", m.text("config.json").encode("utf-16")),
            ),
            ("CFG01", "config.json has a comment in it", _comment),
            ("CFG01", "config.json has the marks of an unfinished merge", _merge_marks),
            ("CFG01", "config.json is empty", lambda m: m.put("config.json", b"")),
            (
                "CFG01",
                "config.json is a Git LFS pointer",
                lambda m: m.put(
                    "config.json", "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 727\n"
                ),
            ),
            ("CFG02", "the model type is one that no release knows yet", lambda m: m.config(model_type="llama7")),
            ("CFG02", "config.json names no model type", lambda m: m.config(["model_type"])),
            ("CFG02", "the model type is written in capitals", lambda m: m.config(model_type="Llama")),
            (
                "CFG03",
                "a classifier's head: LlamaForSequenceClassification",
                lambda m: m.config(architectures=["LlamaForSequenceClassification"], num_labels=2),
            ),
            (
                "CFG03",
                "a reward model: one number per sequence",
                lambda m: m.config(architectures=["LlamaForTokenClassification"], num_labels=1),
            ),
            (
                "CFG03",
                "an encoder: model type bert",
                lambda m: m.config(model_type="bert", architectures=["BertForMaskedLM"]),
            ),
            ("CFG03", "an encoder-decoder: model type t5", lambda m: m.put("config.json", _T5 | {"vocab_size": 1024})),
            (
                "CFG03",
                "saved from the bare body, without the head that it needs",
                lambda m: m.config(architectures=["LlamaModel"]),
            ),
            (
                "CFG04",
                "auto_map and a model type of its own",
                lambda m: m.config(
                    model_type="acme",
                    architectures=["AcmeForCausalLM"],
                    auto_map={"AutoModelForCausalLM": "modeling_acme.AcmeForCausalLM"},
                ),
                "warn",
            ),
            ("CFG05", "7 heads for a width of 128", _without_heads),
            ("CFG05", "3 key-value heads for 8 heads", lambda m: m.config(num_key_value_heads=3)),
            ("CFG05", "a head of 15 dimensions, which rotary embeddings cannot halve", lambda m: m.config(head_dim=15)),
            ("CFG05", "no layers", lambda m: m.config(num_hidden_layers=0)),
            ("CFG05", "the width as a text", lambda m: m.config(hidden_size="128")),
            ("CFG05", "the width as a fraction, 128.0", lambda m: m.config(hidden_size=128.0)),
            ("CFG05", "a vocabulary of -1", lambda m: m.config(vocab_size=-1)),
            ("CFG05", "a width of 10^12", lambda m: m.config(hidden_size=10**12)),
            ("CFG05", "true where the number of layers belongs", lambda m: m.config(num_hidden_layers=True)),
            ("CFG07", "declared fp8, which hands no gradient back", lambda m: m.config(quantization_config=_FP8)),
            ("CFG07", "declared mxfp4", lambda m: m.config(quantization_config={"quant_method": "mxfp4"})),
            (
                "CFG07",
                "declared GPTQ, whose kernels decide about the gradient",
                lambda m: m.config(quantization_config=_GPTQ),
                "warn",
            ),
            (
                "CFG08",
                "positions cut to 12 by a hand that saved memory",
                lambda m: m.config(max_position_embeddings=12),
            ),
            (
                "CFG09",
                "generation stops at a token that nothing writes",
                lambda m: m.edit("generation_config.json", eos_token_id=5),
                "warn",
            ),
            (
                "CFG09",
                "generation_config.json names no stop, so config.json's is not used",
                lambda m: m.edit("generation_config.json", ["eos_token_id"]),
                "warn",
            ),
            ("CFG09", "generation_config.json cannot be read", lambda m: m.put("generation_config.json", "{"), "warn"),
            ("CFG09", "generation_config.json is a list", lambda m: m.put("generation_config.json", "[]"), "warn"),
        ),
    ),
    Plant(
        base="llama",
        code="CFG08",
        what="a context of 1,000 tokens for 1,024 positions, with latent and answer",
        train={"context": 1000, "answer": 64},
    ),
    Plant(
        base="llama",
        code="CFG11",
        what="the user wrote down 32,000 tokens",
        policy={"expectations": [{"subject": "a", "key": "vocab_size", "value": 32000}]},
    ),
    Plant(
        base="qwen",
        code="CFG11",
        what="the user wrote down an untied head",
        policy={"expectations": [{"subject": "a", "key": "tied", "value": False}]},
    ),
    Plant(
        base="qwen",
        code="CFG11",
        what="the user wrote down a BOS token that the model lacks",
        policy={"expectations": [{"subject": "a", "key": "bos_token", "value": "<s>"}]},
    ),
    *plants(
        "qwen",
        (
            ("CFG05", "layer_types names one layer too few", lambda m: m.config(layer_types=["full_attention"] * 2)),
            (
                "CFG09",
                "generation stops at the pad token alone, as Qwen3's first release did",
                lambda m: m.edit("generation_config.json", eos_token_id=1497),
                "warn",
            ),
            ("CFG12", "saved in another dtype than the run's", lambda m: m.config(dtype="float16"), "note"),
            (
                "CFG13",
                "attention by a kernel of a stranger's repository",
                lambda m: m.config(attn_implementation="org/attention"),
                "warn",
            ),
            (
                "CFG13",
                "attention by a name that no release knows",
                lambda m: m.config(_attn_implementation="fast"),
                "warn",
            ),
            (
                "CFG13",
                "experts by a name that no release knows",
                lambda m: m.config(experts_implementation="fast"),
                "warn",
            ),
            (
                "CFG09",
                "two files, two stops, and the one that is used holds what is needed",
                lambda m: m.config(eos_token_id=1498),
                "note",
            ),
            (
                "CFG03",
                "an embedding model: attends both ways",
                lambda m: m.config(
                    is_causal=False,
                    use_bidirectional_attention=True,
                    architectures=["Qwen2Model"],
                    tie_word_embeddings=False,
                ),
            ),
        ),
    ),
    *plants(
        "mixtral",
        (
            ("CFG05", "6 experts per token of 4", lambda m: m.config(num_experts_per_tok=6)),
            ("WGT07", "config.json has no experts, the files have four", lambda m: m.config(num_local_experts=0)),
        ),
    ),
    *plants(
        "gpt2",
        (
            ("CFG05", "heads that do not divide the width, by GPT-2's own names", lambda m: m.config(n_head=5)),
            ("CFG08", "a table of 12 positions, by GPT-2's own name", lambda m: m.config(n_positions=12)),
            ("CFG09", "generation stops at the unknown token", _stop_word, "warn"),
        ),
    ),
    *plants(
        "wrapper",
        (
            (
                "CFG05",
                "odd key-value heads in the nested text config",
                lambda m: m.config(text_config=m.json("config.json")["text_config"] | {"num_key_value_heads": 3}),
            ),
            (
                "CFG01",
                "the text config's brace was lost",
                lambda m: m.put("config.json", m.text("config.json").replace("}", "", 1)),
            ),
        ),
    ),
    Plant(
        base="gemma",
        code="CFG03",
        what="an encoder made of a decoder: use_bidirectional_attention",
        depth=Level.SIMULATED,
        change=lambda m: m.config(use_bidirectional_attention=True),
    ),
)
