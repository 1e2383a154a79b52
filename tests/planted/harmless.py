"""Changes that mean nothing: how files are laid out, named, ordered and formatted; the answer must stay as it was."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from tests.planted import gguf_models
from tests.planted.cases import Change, Folder, Harmless, Tensors
from tests.planted.faults_tokenizer import added, core, declared
from tests.planted.faults_weights import INDEX, ONE, TWO, rename
from wirecheck.schema import Level


def _rows(base: str, *rows: tuple[Any, ...], depth: Level = Level.INSPECTED) -> tuple[Harmless, ...]:
    return tuple(Harmless(base=base, what=r[0], change=r[1], notes=tuple(r[2:]), depth=depth) for r in rows)


def _reversed(value: Any) -> Any:
    """Every object's keys in the other order."""
    if isinstance(value, dict):
        return {key: _reversed(value[key]) for key in reversed(list(value))}
    return [_reversed(one) for one in value] if isinstance(value, list) else value


def _other_order(name: str) -> Change:
    return lambda m: m.put(name, json.dumps(_reversed(m.json(name)), indent=2, ensure_ascii=False))


def _one_line(m: Folder) -> None:
    for path in sorted(m.path.glob("*.json")):
        m.put(path.name, json.dumps(m.json(path.name), separators=(",", ":")))


def _wide(m: Folder) -> None:
    """Tabs, and the line ends of Windows."""
    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        m.put(name, json.dumps(m.json(name), indent="\t").replace("\n", "\r\n").encode())


def _escaped(m: Folder) -> None:
    m.put("tokenizer.json", json.dumps(m.json("tokenizer.json"), ensure_ascii=True))


def _unescaped(m: Folder) -> None:
    m.put("tokenizer.json", json.dumps(m.json("tokenizer.json"), ensure_ascii=False))


def _renamed_shards(m: Folder) -> None:
    text = m.text(INDEX)
    for old, new in ((ONE, "weights-a.safetensors"), (TWO, "weights-b.safetensors")):
        (m.path / old).rename(m.path / new)
        text = text.replace(old, new)
    m.put(INDEX, text)


def _one_file(m: Folder) -> None:
    from safetensors.torch import save_file

    tensors = m.tensors()
    m.remove(ONE, TWO, INDEX)
    save_file(tensors, m.path / "model.safetensors", metadata={"format": "pt"})


def _a_shard_each(m: Folder) -> None:
    """One file per tensor, as some converters write."""
    from safetensors.torch import save_file

    tensors = m.tensors()
    for shard in m.shards:
        shard.unlink()
    names = {}
    for number, name in enumerate(sorted(tensors)):
        names[name] = f"model-{number + 1:05}-of-{len(tensors):05}.safetensors"
        save_file({name: tensors[name]}, m.path / names[name])
    m.put(INDEX, {"metadata": {"total_size": 1}, "weight_map": names})


def _index_of_one(m: Folder) -> None:
    """One file, and an index that names it."""
    names = dict.fromkeys(m.tensors(), "model.safetensors")
    m.put(INDEX, {"metadata": {}, "weight_map": names})


def _index_bare(m: Folder) -> None:
    index = m.json(INDEX)
    m.put(INDEX, {"weight_map": _reversed(index["weight_map"])})


def _index_more(m: Folder) -> None:
    index = m.json(INDEX)
    m.put(INDEX, index | {"metadata": {"total_size": 1234, "total_parameters": 7, "converted_by": "a tool"}})


def _other_placement(m: Folder) -> None:
    """The same tensors, dealt out to the two shards in another way."""
    from safetensors.torch import save_file

    tensors, index = m.tensors(), m.json(INDEX)
    names = sorted(tensors)
    for shard, part in ((ONE, names[::2]), (TWO, names[1::2])):
        save_file({name: tensors[name] for name in part}, m.path / shard, metadata={"format": "pt"})
        index["weight_map"] |= dict.fromkeys(part, shard)
    m.put(INDEX, index)


def _metadata(m: Folder) -> None:
    m.header(lambda header: header.update({"__metadata__": {"format": "pt", "author": "Ünï 世界", "step": "9000"}}))


def _no_metadata(m: Folder) -> None:
    m.header(lambda header: header.pop("__metadata__", None))


def _padded_header(m: Folder) -> None:
    """Blanks behind the header, as alignment has them."""
    raw = m.shards[0].read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    text = raw[8:end] + b" " * 64
    m.shards[0].write_bytes(len(text).to_bytes(8, "little") + text + raw[end:])


def _shuffled_header(m: Folder) -> None:
    def changed(header: dict[str, Any]) -> None:
        kept = _reversed(header)
        header.clear()
        header.update(kept)

    m.header(changed)


def _linked(m: Folder) -> None:
    """As in the hub's cache: a folder per commit, whose files are links into a store of blobs."""
    repository = m.path.parent / "models--org--name"
    blobs, commit = repository / "blobs", repository / "snapshots" / ("c0ffee" * 6 + "beef")
    blobs.mkdir(parents=True)
    commit.mkdir(parents=True)
    for path in sorted(p for p in m.path.iterdir() if p.is_file()):
        blob = blobs / hashlib.sha256(path.read_bytes()).hexdigest()
        path.rename(blob)
        (commit / path.name).symlink_to(os.path.relpath(blob, commit))
    m.path.rmdir()
    m.path.symlink_to(commit, target_is_directory=True)


def _linked_folder(m: Folder) -> None:
    real = m.path.parent / "elsewhere"
    m.path.rename(real)
    m.path.symlink_to(real, target_is_directory=True)


def _readme(m: Folder) -> None:
    m.put("README.md", "---\nlicense: mit\n---\n# A model\n")
    m.put(".gitattributes", "*.safetensors filter=lfs diff=lfs merge=lfs -text\n")
    m.put("LICENSE", "MIT")
    m.put("images/loss.png", b"\x89PNG\r\n")


def _trainer(m: Folder) -> None:
    """What a training run leaves behind."""
    m.put("trainer_state.json", {"global_step": 9, "log_history": [{"loss": 1.5}]})
    m.put("training_args.bin", b"\x80\x04.")
    m.put("scheduler.pt", b"\x80\x04.")
    m.put("all_results.json", {"eval_loss": 2.0})


def _pickle_beside(m: Folder) -> None:
    """The same weights as a pickle beside them, which no loader prefers."""
    import torch

    torch.save(m.tensors(), m.path / "pytorch_model.bin")


def _consolidated(m: Folder) -> None:
    """The maker's own format in a folder of its own."""
    m.put("original/params.json", {"dim": 128, "n_layers": 4})
    m.put("original/consolidated.00.pth", b"\x80\x04.")
    m.put("onnx/model.onnx", b"\x08\x07")


def _other_formats(m: Folder) -> None:
    m.put("tf_model.h5", b"\x89HDF")
    m.put("flax_model.msgpack", b"\x80")
    m.put("rust_model.ot", b"PK")


def _old_rope(m: Folder) -> None:
    rope = m.json("config.json")["rope_parameters"]
    m.config(["rope_parameters"], rope_theta=rope["rope_theta"], rope_scaling=None)


def _old_dtype(m: Folder) -> None:
    m.config(["dtype"], torch_dtype=m.json("config.json")["dtype"])


def _defaults_left_out(m: Folder) -> None:
    m.config(["attention_bias", "mlp_bias", "attention_dropout", "pretraining_tp", "use_cache", "initializer_range"])


def _extras(m: Folder) -> None:
    m.config(
        _name_or_path="models/llama",
        my_note="kept",
        use_flash_attn=True,
        torchscript=False,
        transformers_version="4.31.0",
        task_specific_params={"summarization": {"max_length": 3}},
    )


def _native_with_code(m: Folder) -> None:
    """auto_map beside a class that transformers has."""
    m.config(auto_map={"AutoModelForCausalLM": "modeling_llama.LlamaForCausalLM"})
    m.put("modeling_llama.py", "raise SystemExit('never imported')\n")


def _merges_as_strings(content: Any) -> None:
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]


def _slow_files(m: Folder) -> None:
    """vocab.json and merges.txt beside tokenizer.json, as older tools want them."""
    model = m.json("tokenizer.json")["model"]
    m.put("vocab.json", model["vocab"])
    m.put("merges.txt", "#version: 0.2\n" + "\n".join(" ".join(pair) for pair in model["merges"]) + "\n")


def _map_of_objects(m: Folder) -> None:
    """special_tokens_map.json with whole tokens for strings."""
    plain = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    kept = m.json("special_tokens_map.json")
    m.put("special_tokens_map.json", {role: plain | {"content": token} for role, token in kept.items() if token})


def _token_added_with_row(m: Folder) -> None:
    added("<|tool|>", 1024)(m)
    m.rows("embed_tokens lm_head", 1025)
    m.config(vocab_size=1025)


def _to_jinja(m: Folder) -> None:
    text = m.json("tokenizer_config.json")["chat_template"]
    m.edit("tokenizer_config.json", ["chat_template"])
    m.put("chat_template.jinja", text)


def _to_config(m: Folder) -> None:
    text = m.text("chat_template.jinja")
    m.remove("chat_template.jinja")
    m.edit("tokenizer_config.json", chat_template=text)


def _as_list(m: Folder) -> None:
    """Named templates in a list, the default among them."""
    text = m.json("tokenizer_config.json")["chat_template"]
    named = [{"name": "default", "template": text}, {"name": "rag", "template": text}]
    m.edit("tokenizer_config.json", chat_template=named)


def _reformatted(m: Folder) -> None:
    """The same text from other statements."""
    m.put(
        "chat_template.jinja",
        "{#- The same turns, written otherwise. -#}\n{%- set role_of = 'role' %}\n"
        "{%- for turn in messages -%}\n"
        "{{- '<|im_start|>' ~ turn[role_of] ~ '\\n' ~ turn['content'] ~ '<|im_end|>\\n' -}}\n"
        "{%- endfor -%}\n{%- if add_generation_prompt is defined and add_generation_prompt -%}\n"
        "{{- '<|im_start|>assistant\\n' -}}\n{%- endif -%}\n",
    )


def _windows_lines(m: Folder) -> None:
    m.put("chat_template.jinja", m.text("chat_template.jinja").replace("\n", "\r\n").encode())


def _tied_twice(m: Folder) -> None:
    """The head is tied, and is stored all the same."""

    def changed(tensors: Tensors) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()

    m.weights(changed)


def _gguf(**options: Any) -> Change:
    return lambda m: gguf_models.write(m.path / "model.gguf", **options)


def _stops_as_list(m: Folder) -> None:
    m.config(eos_token_id=[m.json("config.json")["eos_token_id"]])
    m.edit("generation_config.json", eos_token_id=[m.json("generation_config.json")["eos_token_id"]])


def _sampling(m: Folder) -> None:
    m.edit("generation_config.json", do_sample=True, temperature=0.6, top_p=0.95, repetition_penalty=1.05)


HARMLESS = (
    *_rows(
        "llama",
        ("config.json has its keys in the other order", _other_order("config.json")),
        ("tokenizer_config.json has its keys in the other order", _other_order("tokenizer_config.json")),
        ("tokenizer.json has its keys in the other order", _other_order("tokenizer.json")),
        ("every JSON file stands on one line", _one_line),
        ("JSON with tabs and the line ends of Windows", _wide),
        ("the config names the attention that runs anyway", lambda m: m.config(attn_implementation="sdpa")),
        ("tokenizer.json with every sign escaped", _escaped),
        ("tokenizer.json with no sign escaped", _unescaped),
        ("keys of other tools in config.json", _extras),
        ("defaults left out of config.json", _defaults_left_out),
        ("rope_theta in place of rope_parameters", _old_rope),
        ("torch_dtype in place of dtype", _old_dtype),
        ("shards under other names, and the index says so", _renamed_shards),
        ("one file in place of two shards and an index", _one_file),
        ("a shard for every tensor", _a_shard_each),
        ("tensors dealt out to the shards in another way", _other_placement),
        ("an index without metadata, its names in the other order", _index_bare),
        ("an index with other metadata", _index_more),
        ("a shard with metadata in other scripts", _metadata),
        ("a shard without metadata", _no_metadata),
        ("blanks behind a shard's header", _padded_header),
        ("a shard's header in the other order", _shuffled_header),
        ("the folder of a commit in the hub's cache, all links", _linked),
        ("the folder is a link", _linked_folder),
        ("a README, a licence, a picture", _readme),
        ("what a training run leaves behind", _trainer),
        ("the same weights as a pickle beside them", _pickle_beside),
        ("the maker's own format in a folder of its own", _consolidated),
        ("the weights for other libraries beside them", _other_formats),
        ("auto_map beside a class that transformers has", _native_with_code),
        ("merges as strings in place of pairs", core(_merges_as_strings)),
        ("vocab.json and merges.txt beside tokenizer.json", _slow_files),
        ("added_tokens_decoder left out of tokenizer_config.json", declared(("added_tokens_decoder",))),
        ("special_tokens_map.json left out", lambda m: m.remove("special_tokens_map.json")),
        ("special_tokens_map.json with whole tokens", _map_of_objects),
        ("a token added, with a row in both tables", _token_added_with_row),
        ("the template in chat_template.jinja", _to_jinja),
        ("the template in a list of two, the default among them", _as_list),
        ("stops as lists of one", _stops_as_list),
        ("generation_config.json samples", _sampling),
        ("generation_config.json left out", lambda m: m.remove("generation_config.json")),
        ("model_max_length without a bound", declared(model_max_length=10**30)),
        ("tokenizer_class of the slow kind's name", declared(tokenizer_class="LlamaTokenizerFast"), "TPL05"),
    ),
    *_rows(
        "llama",
        ("one file in place of two shards, its real weights run", _one_file),
        ("rope_theta in place of rope_parameters, the real weights run", _old_rope),
        ("tensors dealt out in another way, the real weights run", _other_placement),
        depth=Level.EXECUTED,
    ),
    *_rows(
        "qwen",
        ("one file, and an index that names it", _index_of_one),
        ("a tied head that is stored all the same", _tied_twice),
        ("the template written with other statements", _reformatted),
        ("the template with the line ends of Windows", _windows_lines),
        ("the template in tokenizer_config.json", _to_config),
        ("a key for tying left to the class's default is written out", lambda m: m.config(tie_word_embeddings=True)),
        ("layer_types left to the class", lambda m: m.config(["layer_types"])),
    ),
    *_rows(
        "qwen", ("a tied head that is stored all the same, the real weights run", _tied_twice), depth=Level.EXECUTED
    ),
    *_rows("neox", ("the head under lm_head, which transformers reads too", rename("embed_out", "lm_head"))),
    *_rows(
        "gpt2", ("names without the prefix transformer., as the first release has them", rename("transformer.", ""))
    ),
    *_rows(
        "mixtral",
        ("keys of the router's loss left out", lambda m: m.config(["router_aux_loss_coef", "router_jitter_noise"])),
    ),
    *_rows("gguf", ("a GGUF file with a description", _gguf(note="made by hand"))),
)
