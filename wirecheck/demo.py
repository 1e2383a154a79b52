"""Where the two small complete models of `wirecheck demo` lie: package data, so that a demo needs no network."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def demo_folders() -> tuple[Path, Path]:
    """The Llama-like and the Qwen2-like model folder, in this order."""
    models = Path(str(files("wirecheck"))) / "demo_models"
    return models / "llama-mini", models / "qwen-mini"
