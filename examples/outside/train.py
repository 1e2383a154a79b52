"""Trains a bridge: python -m outside.train READER ANSWERER rows.jsonl --out bridge.pt"""

import argparse
import json
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from .bridge import SoftPromptBridge
from .data import QACollator


def freeze(model, checkpointing=False):
    """No gradient for its own weights; with `checkpointing`, activations are recomputed in backward."""
    model.requires_grad_(False)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()  # in eval mode transformers skips it


def read(reader, batch, layer):
    """Hidden states of the passages after `layer` layers, [B, T, d_reader]."""
    with torch.no_grad():
        out = reader(
            input_ids=batch["passage_ids"],
            attention_mask=batch["passage_mask"],
            output_hidden_states=True,
            use_cache=False,
        )
    return out.hidden_states[layer]


def assemble(bridge, reader, answerer, batch, layer):
    """[soft prompts][cue][answer] as embeddings, with mask and labels: what the answerer is called with."""
    prompts = bridge(read(reader, batch, layer), batch["passage_mask"])
    text = answerer.get_input_embeddings()(batch["text_ids"])
    ones = torch.ones(prompts.shape[:2], dtype=torch.long, device=prompts.device)
    return {
        "inputs_embeds": torch.cat([prompts.to(text.dtype), text], dim=1),
        "attention_mask": torch.cat([ones, batch["text_mask"]], dim=1),
        "labels": torch.cat([ones * -100, batch["labels"]], dim=1),
    }


def compute_loss(bridge, reader, answerer, batch, layer):
    """Mean cross-entropy of the answers' tokens; the answerer shifts the labels itself."""
    return answerer(**assemble(bridge, reader, answerer, batch, layer), use_cache=False).loss


@torch.no_grad()
def generate(bridge, reader, answerer, batch, layer, max_new_tokens, eos):
    """Greedy answers, token ids row by row up to and with `eos`."""
    inputs = assemble(bridge, reader, answerer, batch, layer)
    end = inputs["labels"].shape[1] - batch["text_ids"].shape[1] + batch["cue_length"]
    ids = answerer.generate(
        inputs_embeds=inputs["inputs_embeds"][:, :end],
        attention_mask=inputs["attention_mask"][:, :end],
        max_new_tokens=max_new_tokens,
        do_sample=False,
        repetition_penalty=1.0,
        eos_token_id=eos,
        pad_token_id=eos,
    )
    return [row[: row.index(eos) + 1] if eos in row else row for row in ids.tolist()]


def train(bridge, reader, answerer, collate, rows, layer, steps=1000, lr=1e-4, batch_size=8):
    """The training loop: yields the loss of every step."""
    freeze(reader)
    freeze(answerer)
    optimizer = torch.optim.AdamW(bridge.parameters(), lr=lr)
    step = 0
    while step < steps:
        for batch in DataLoader(rows, batch_size=batch_size, shuffle=True, collate_fn=collate):
            optimizer.zero_grad()
            loss = compute_loss(bridge, reader, answerer, batch, layer)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(bridge.parameters(), 1.0)
            optimizer.step()
            yield loss.item()
            step += 1
            if step == steps:
                break


def main():
    """The command line."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reader")
    parser.add_argument("answerer")
    parser.add_argument("rows", type=Path)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("bridge.pt"))
    args = parser.parse_args()
    names = (args.reader, args.answerer)
    reader, answerer = (AutoModelForCausalLM.from_pretrained(name) for name in names)
    collate = QACollator(*(AutoTokenizer.from_pretrained(name) for name in names))
    rows = [json.loads(line) for line in args.rows.read_text(encoding="utf-8").splitlines()]
    table = answerer.get_input_embeddings().weight
    bridge = SoftPromptBridge(
        reader.config.hidden_size, table.shape[1], embedding_rms=table.square().mean().sqrt().item()
    )
    layer = reader.config.num_hidden_layers * 2 // 3
    for step, loss in enumerate(train(bridge, reader, answerer, collate, rows, layer, args.steps)):
        print(f"{step} {loss:.4f}")
    torch.save(bridge.state_dict(), args.out)


if __name__ == "__main__":
    main()
