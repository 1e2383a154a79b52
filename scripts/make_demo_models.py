"""Trains and writes the two small complete models that `wirecheck demo` wires together.

    python scripts/make_demo_models.py

Two families that differ wherever real pairs differ (width, depth, vocabulary, BOS, pad, tying, dtype, sharding, place
of the chat template), each with its own byte-level BPE tokenizer, both trained on `wirecheck/demo_models/corpus.txt`.
One thread and one seed: the same machine writes the same bytes again.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from math import cos, log, pi
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from transformers.utils.logging import disable_progress_bar

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DEMO_MODELS = Path(__file__).parents[1] / "wirecheck" / "demo_models"
SEED = 11
BATCH, WINDOW, STEPS, PEAK_RATE = 8, 256, 700, 4e-3
PLAIN_BLOCKS = 8
SAMPLE_CHARS = 2000
SYSTEM = "Answer in one short sentence."
QUESTION = "What is the capital of Norway?"

WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

LLAMA_TEMPLATE = (
    "{{- bos_token }}"
    "{%- for message in messages %}"
    "{{- '<|head|>' + message['role'] + '<|body|>\n\n' + message['content'] + '<|done|>' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|head|>assistant<|body|>\n\n' }}{%- endif %}"
)
QWEN_TEMPLATE = """\
{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


@dataclass(frozen=True)
class Recipe:
    """What makes one of the two models."""

    folder: str
    tokenizer_class: str
    num_tokens: int
    """Tokens in all, the special ones, which come last, included."""
    specials: tuple[str, ...]
    digits: str
    """How many digits one token may hold, as a piece of the splitting expression."""
    nfc: bool
    bos: str | None
    eos: str
    pad: str | None
    between: str
    """Special token that separates texts in training."""
    template: str
    template_in_config: bool
    dtype: torch.dtype
    max_shard_size: str
    model_class: type[PreTrainedModel]
    config_class: type[LlamaConfig] | type[Qwen2Config]
    shape: dict[str, Any]


RECIPES = (
    Recipe(
        folder="llama-mini",
        tokenizer_class="PreTrainedTokenizerFast",
        num_tokens=1024,
        specials=("<|begin|>", "<|head|>", "<|body|>", "<|done|>", *(f"<|reserved_{i}|>" for i in range(4))),
        digits=r"\p{N}{1,3}",
        nfc=False,
        bos="<|begin|>",
        eos="<|done|>",
        pad=None,
        between="<|begin|>",
        template=LLAMA_TEMPLATE,
        template_in_config=True,
        dtype=torch.bfloat16,
        max_shard_size="1MB",
        model_class=LlamaForCausalLM,
        config_class=LlamaConfig,
        shape={
            "vocab_size": 1024,
            "hidden_size": 128,
            "intermediate_size": 352,
            "num_hidden_layers": 4,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "max_position_embeddings": 1024,
            "tie_word_embeddings": False,
        },
    ),
    Recipe(
        folder="qwen-mini",
        tokenizer_class="Qwen2Tokenizer",
        num_tokens=1500,
        specials=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        digits=r"\p{N}",
        nfc=True,
        bos=None,
        eos="<|im_end|>",
        pad="<|endoftext|>",
        between="<|endoftext|>",
        template=QWEN_TEMPLATE,
        template_in_config=False,
        dtype=torch.float32,
        max_shard_size="5MB",
        model_class=Qwen2ForCausalLM,
        config_class=Qwen2Config,
        shape={
            "vocab_size": 1536,
            "hidden_size": 96,
            "intermediate_size": 256,
            "num_hidden_layers": 3,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "max_position_embeddings": 2048,
            "tie_word_embeddings": True,
        },
    ),
)


def train_tokenizer(recipe: Recipe, text: str) -> Tokenizer:
    """A byte-level BPE: every UTF-8 text encodes, and decodes to itself."""
    tokenizer = Tokenizer(models.BPE())
    if recipe.nfc:
        tokenizer.normalizer = normalizers.NFC()
    words = Regex(WORDS.replace("DIGITS", recipe.digits))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.num_tokens - len(recipe.specials),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(text.split("\n\n"), trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in recipe.specials])
    if recipe.bos:
        bos_id = tokenizer.token_to_id(recipe.bos)
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{recipe.bos} $A", pair=f"{recipe.bos} $A {recipe.bos} $B", special_tokens=[(recipe.bos, bos_id)]
        )
    if tokenizer.get_vocab_size() != recipe.num_tokens:
        raise ValueError(f"{recipe.folder}: the text gave {tokenizer.get_vocab_size()} tokens, not {recipe.num_tokens}")
    return tokenizer


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Indented JSON with a final newline, as the hub's files are."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_tokenizer(recipe: Recipe, tokenizer: Tokenizer, folder: Path) -> None:
    """tokenizer.json, tokenizer_config.json, special_tokens_map.json and the chat template."""
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    roles = {"bos_token": recipe.bos, "eos_token": recipe.eos, "pad_token": recipe.pad}
    flags = {"normalized": False, "lstrip": False, "rstrip": False, "single_word": False, "special": True}
    config = {
        "tokenizer_class": recipe.tokenizer_class,
        **roles,
        "unk_token": None,
        "model_max_length": recipe.shape["max_position_embeddings"],
        "clean_up_tokenization_spaces": False,
        "added_tokens_decoder": {
            str(tokenizer.token_to_id(token)): {"content": token, **flags} for token in recipe.specials
        },
    }
    if recipe.template_in_config:
        config["chat_template"] = recipe.template
    else:
        (folder / "chat_template.jinja").write_text(recipe.template, encoding="utf-8")
    write_json(folder / "tokenizer_config.json", config)
    write_json(folder / "special_tokens_map.json", {role: token for role, token in roles.items() if token})


def turns(block: str) -> list[dict[str, str]] | None:
    """The chat turns of a block of `Q:` and `A:` lines; None for any other block."""
    lines = block.splitlines()
    if not lines[0].startswith("Q: "):
        return None
    return [{"role": "user" if line.startswith("Q: ") else "assistant", "content": line[3:]} for line in lines]


def encoded_texts(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, text: str) -> list[list[int]]:
    """The corpus as ids: as plain text, and its conversations again through the template, some with a system turn."""
    between = tokenizer.convert_tokens_to_ids(recipe.between)
    blocks = text.strip().split("\n\n")
    plain = ["\n\n".join(blocks[start : start + PLAIN_BLOCKS]) for start in range(0, len(blocks), PLAIN_BLOCKS)]
    encoded = [[between, *tokenizer.encode(piece, add_special_tokens=False)] for piece in plain]
    for index, messages in enumerate(filter(None, map(turns, blocks))):
        system = [{"role": "system", "content": SYSTEM}] if index % 3 == 0 else []
        rendered = tokenizer.apply_chat_template([*system, *messages], tokenize=False)
        encoded.append(tokenizer.encode(rendered, add_special_tokens=False))
    return encoded


def batches(texts: list[list[int]], rng: random.Random) -> Iterator[torch.Tensor]:
    """Endless (BATCH, WINDOW) windows over the texts, joined in another order each time round."""
    rows: list[torch.Tensor] = []
    while True:
        rng.shuffle(texts)
        stream = torch.tensor([token for ids in texts for token in ids])
        rows.extend(stream[: len(stream) // WINDOW * WINDOW].view(-1, WINDOW))
        while len(rows) >= BATCH:
            yield torch.stack(rows[:BATCH])
            rows = rows[BATCH:]


def train(model: PreTrainedModel, texts: list[list[int]]) -> None:
    """AdamW with a short warm-up and a cosine to zero."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=0.01)
    windows = batches(texts, random.Random(SEED))  # noqa: S311  an order, not secrets
    model.train()
    for step in range(STEPS):
        warmth = min(1.0, (step + 1) / 20)
        optimizer.param_groups[0]["lr"] = PEAK_RATE * warmth * 0.5 * (1 + cos(pi * step / STEPS))
        ids = next(windows)
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 50 == 0 or step == STEPS - 1:
            print(f"  step {step:4d}  loss {loss.item():.3f}", flush=True)
    model.eval()


@torch.no_grad()
def sample_loss(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str) -> float:
    """Mean next-token loss in nats on the first characters of the corpus."""
    ids = torch.tensor([tokenizer.encode(text[:SAMPLE_CHARS])])
    return float(model(input_ids=ids, labels=ids).loss)


@torch.no_grad()
def answer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, question: str) -> str:
    """The model's greedy answer."""
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt"
    )
    out = model.generate(**prompt, max_new_tokens=24, do_sample=False, pad_token_id=tokenizer.eos_token_id)
    return str(tokenizer.decode(out[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))


def new_model(recipe: Recipe, tokenizer: Tokenizer) -> PreTrainedModel:
    """Random weights from the seed; the special ids are those of the tokenizer."""
    ids = {
        f"{role}_token_id": tokenizer.token_to_id(token) if token else None
        for role, token in (("bos", recipe.bos), ("eos", recipe.eos), ("pad", recipe.pad))
    }
    torch.manual_seed(SEED)
    model = recipe.model_class(recipe.config_class(**recipe.shape, **ids))
    for name, value in ids.items():
        setattr(model.generation_config, name, value)
    return model


def readme(recipe: Recipe, num_parameters: int, before: float, after: float, reply: str) -> str:
    """What the folder's README.md says."""
    rows = recipe.shape["vocab_size"]
    dtype = str(recipe.dtype).removeprefix("torch.")
    return f"""\
# {recipe.folder}

A small complete `{recipe.model_class.__name__}` for `wirecheck demo`: {num_parameters:,} parameters,
{recipe.num_tokens:,} tokens, {rows:,} embedding rows, {dtype}. Trained on `../corpus.txt`, which is original text;
good for nothing but showing that the wiring works.

Made by `python scripts/make_demo_models.py --only {recipe.folder}` with seed {SEED}:
{STEPS} steps of {BATCH} windows of {WINDOW} tokens, one thread.

| mean loss in nats on the first {SAMPLE_CHARS:,} characters of the corpus | |
|---|---|
| before training (ln of the rows: {log(rows):.2f}) | {before:.3f} |
| after training, as stored | {after:.3f} |

Asked "{QUESTION}" it says, greedily: "{reply}"
"""


def make(recipe: Recipe, text: str, destination: Path) -> None:
    """Write one complete folder."""
    folder = destination / recipe.folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    raw_tokenizer = train_tokenizer(recipe, text)
    write_tokenizer(recipe, raw_tokenizer, folder)
    model = new_model(recipe, raw_tokenizer)
    model.config.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model.eval()
    before = sample_loss(model, tokenizer, text)
    print(f"{recipe.folder}: {model.num_parameters():,} parameters, loss before {before:.3f}", flush=True)
    train(model, encoded_texts(recipe, tokenizer, text))
    model.to(recipe.dtype).save_pretrained(folder, max_shard_size=recipe.max_shard_size)
    for path in folder.iterdir():
        path.chmod(0o644)  # save_pretrained leaves weights readable by their owner alone
    stored = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    after = sample_loss(stored, tokenizer, text)
    reply = answer(stored, tokenizer, QUESTION)
    page = readme(recipe, model.num_parameters(), before, after, reply)
    (folder / "README.md").write_text(page, encoding="utf-8")
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{recipe.folder}: loss after {after:.3f}, {size / 1e6:.2f} MB; {QUESTION} -> {reply}", flush=True)


def main() -> int:
    """Make both folders, or the one named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=[recipe.folder for recipe in RECIPES])
    parser.add_argument("--into", type=Path, default=DEMO_MODELS, help="folder to write the model folders into")
    options = parser.parse_args()
    disable_progress_bar()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    text = (DEMO_MODELS / "corpus.txt").read_text(encoding="utf-8")
    for recipe in RECIPES:
        if options.only in (None, recipe.folder):
            make(recipe, text, options.into)
    return 0


if __name__ == "__main__":
    sys.exit(main())
