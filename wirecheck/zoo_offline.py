"""Everything of a model loaded again, as its job will load it, in a process whose sockets are refused.

The child is an interpreter of its own, since huggingface_hub reads HF_HUB_OFFLINE when it is imported. Two fences keep
it from the network: Python's audit hook, which also writes down who was asked for, and where the system grants one, a
network namespace of its own, which holds code that is not Python's, too.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from wirecheck.errors import CannotRun
from wirecheck.snapshot import Snapshot
from wirecheck.zoo_fences import no_pickles, no_tokenizer_class

SECONDS = 600
"""How long the loading may take; a client that asks refused sockets again and again takes minutes."""
PARTS = ("AutoConfig", "AutoTokenizer", "AutoModelForCausalLM")
_ASKING = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg")
_NEW_USER, _NEW_NET = 0x10000000, 0x40000000
"""CLONE_NEWUSER and CLONE_NEWNET of unshare(2)."""
_RESULT = "wirecheck-offline: "


@dataclass(frozen=True)
class Reload:
    """What came of it."""

    asked: tuple[str, ...]
    """Hosts (or addresses) that something asked for, each once, in order."""
    failed: tuple[tuple[str, str], ...]
    """Parts that did not load, and the first line of why."""
    fence: Literal["namespace", "audit"]
    """Whether the kernel held the process off the network, too."""


def reload(snapshot: Snapshot, *, dtype: str, trust_remote_code: bool, hub_offline: bool) -> Reload:
    """Load config, tokenizer and weights in such a process. Raises CannotRun where it ends without a word.

    `hub_offline` sets HF_HUB_OFFLINE=1 in it; else the variable is taken out. A hub's model is loaded by its id at its
    commit, from the cache that the environment names; any other from its place.
    """
    told = {"dtype": dtype, "trust": trust_remote_code, **_place(snapshot)}
    told["folder"] = str(snapshot.folder.absolute())
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")}
    environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
    if hub_offline:
        environment["HF_HUB_OFFLINE"] = "1"
    # Without -P the working folder would come first, and a model's folder may hold a ctypes.py.
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-P", "-m", "wirecheck.zoo_offline"]
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter, this module
            command,
            input=json.dumps(told),
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CannotRun(f"loading with sockets refused took more than {SECONDS} s") from None
    last = done.stdout.strip().rpartition("\n")[2]
    if not last.startswith(_RESULT):
        raise CannotRun(f"the process that loads with sockets refused ended with {done.returncode} and no result")
    found = json.loads(last.removeprefix(_RESULT))
    failed = tuple((str(part), str(why)) for part, why in found["failed"])
    return Reload(asked=tuple(found["asked"]), failed=failed, fence=found["fence"])


def _place(snapshot: Snapshot) -> dict[str, Any]:
    ref = snapshot.ref
    if ref.kind == "hub":
        return {"model": ref.name, "given": {"revision": snapshot.commit}}
    if ref.kind == "gguf" and ref.path is not None:
        return {"model": str(ref.path.parent), "given": {"gguf_file": ref.path.name}}
    return {"model": str(snapshot.folder.absolute()), "given": {}}


# --- in the child ------------------------------------------------------------------------------------------------


def _main() -> None:
    told = json.loads(sys.stdin.read())
    fence = _fenced()
    asked: list[str] = []
    sys.addaudithook(_hook(asked))
    failed: list[tuple[str, str]] = []
    for part in PARTS:
        try:
            _load(part, told)
        except Exception as error:  # noqa: BLE001 - whatever keeps a part from loading is the answer
            failed.append((part, _first_line(error)))
    told = {"asked": list(dict.fromkeys(asked)), "failed": failed, "fence": fence}
    sys.stdout.write(f"\n{_RESULT}{json.dumps(told)}\n")


def _fenced() -> Literal["namespace", "audit"]:
    """Leave the machine's network, where the system lets a plain process do so."""
    if sys.platform != "linux":
        return "audit"
    library = ctypes.CDLL(None, use_errno=True)
    granted = library.unshare(_NEW_USER | _NEW_NET) == 0 or library.unshare(_NEW_NET) == 0
    return "namespace" if granted else "audit"


def _hook(asked: list[str]) -> Callable[[str, tuple[Any, ...]], None]:
    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _ASKING:
            return
        address = arguments[0] if event.startswith(("socket.getaddrinfo", "socket.gethostbyname")) else arguments[1]
        if isinstance(address, str | bytes) and event == "socket.connect":
            return  # a socket of this machine's own, by its path
        asked.append(_host(address))
        raise OSError(f"wirecheck refuses sockets here: {event}")

    return hook


def _host(address: object) -> str:
    if isinstance(address, tuple):
        return ":".join(str(part) for part in address[:2])
    return address.decode("ascii", "replace") if isinstance(address, bytes) else str(address)


def _load(part: str, told: dict[str, Any]) -> None:
    import transformers

    wrong = no_tokenizer_class(Path(told["folder"])) if part == "AutoTokenizer" else None
    if wrong is not None:
        raise ValueError(wrong)
    given = dict(told["given"]) | {"trust_remote_code": bool(told["trust"])}
    if part == "AutoModelForCausalLM":
        given |= {"dtype": told["dtype"]}
        if "gguf_file" not in given:
            given["use_safetensors"] = True
    with no_pickles():
        getattr(transformers, part).from_pretrained(told["model"], **given)


def _first_line(error: Exception) -> str:
    """Without the token, and without a password that HF_ENDPOINT holds: the library names the address in errors."""
    from wirecheck import snapshot_hub_guard

    text = snapshot_hub_guard.told(str(error)).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:300]}" if text else type(error).__name__


if __name__ == "__main__":
    _main()
