"""Who may read what on the hub, and the hub's clock: asked per repository; the token's value leaves no function."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from huggingface_hub import HfApi, constants, get_session, hf_raise_for_status
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # documented

from wirecheck import snapshot_hub_guard
from wirecheck.snapshot_hub_calls import ask
from wirecheck.snapshot_hub_repository import TIMEOUT_S, without_password

T = TypeVar("T")

DEADLINE_S = 30.0
_PROXY_ASKS = 407
_SERVER_FAILS = 500
_REFUSED, _WELL = (401, 403), 200


@dataclass(frozen=True)
class HubClock:
    """One answer of the hub."""

    status: int
    ahead_s: float | None
    """Seconds that this machine's clock is ahead of the hub's; None where the answer tells no time."""
    is_hub: bool
    """Whether it was answered in JSON."""


def endpoint() -> str:
    """The hub that huggingface_hub asks, without a password that its address may hold."""
    return without_password(constants.ENDPOINT.rstrip("/"))


def clock() -> HubClock:
    """Ask the hub for a model, any. Raises HubUnreachable and other children of CouldNotCheck."""

    def call() -> HubClock:
        before = time.time()
        answer = _get("/api/models?limit=1")
        middle = (before + time.time()) / 2
        if answer.status_code >= _SERVER_FAILS or answer.status_code == _PROXY_ASKS:
            hf_raise_for_status(answer)
        ahead_s = _ahead(answer.headers.get("Date"), answer.headers.get("Age"), middle)
        return HubClock(answer.status_code, ahead_s, is_hub=_is_json(answer))

    return ask(call, repo=endpoint(), what="a list of models", deadline_s=DEADLINE_S, page=endpoint())


def token_taken() -> bool | None:
    """Whether the hub knows the account of this machine's token; None where it does not say. Raises CouldNotCheck's."""

    def call() -> bool | None:
        answer = _get("/api/whoami-v2", **build_hf_headers())
        if answer.status_code in _REFUSED:
            return False
        return True if answer.status_code == _WELL and _is_json(answer) else None

    return ask(call, repo=endpoint(), what="whose token it is", deadline_s=DEADLINE_S, page=endpoint())


def _get(path: str, **headers: str) -> Any:
    """An answer as it comes: no redirect is followed, to a login page or elsewhere."""
    url = f"{constants.ENDPOINT.rstrip('/')}{path}"
    return get_session().get(url, headers=headers, timeout=TIMEOUT_S, follow_redirects=False)


def _is_json(answer: Any) -> bool:
    """Whether it speaks as a hub does, in all it says: a portal answers with pages."""
    try:
        answer.json()
    except ValueError:
        return False
    return True


def _ahead(date: str | None, age: str | None, now: float) -> float | None:
    """`Date` has whole seconds; a cache in between tells by `Age` how old its copy is."""
    try:
        told = parsedate_to_datetime(date or "")
    except ValueError:
        return None
    told = told if told.tzinfo else told.replace(tzinfo=UTC)
    return now - (told.timestamp() + (int(age) if age is not None and age.isdigit() else 0))


def require_access(repository: str) -> None:
    """Return where the hub says that this account may read the repository. Raises CouldNotCheck's children."""
    _ask(lambda: HfApi(endpoint=constants.ENDPOINT).auth_check(repository), repository, "access to it")


def gating(repository: str) -> str | None:
    """`auto` or `manual` where terms must be accepted, `no` where not, None where the hub does not tell.

    Raises CouldNotCheck's children.
    """
    api = HfApi(endpoint=constants.ENDPOINT)
    info = _ask(
        lambda: api.model_info(repository, expand=["gated"], timeout=TIMEOUT_S), repository, "whether it is gated"
    )
    return None if info.gated is None else str(info.gated) if info.gated else "no"


def _ask(call: Callable[[], T], repository: str, what: str) -> T:
    return ask(call, repo=repository, what=what, deadline_s=DEADLINE_S, page=f"{endpoint()}/{repository}")


def without_token(text: str) -> str:
    """The text, with the token that huggingface_hub would send taken out of it."""
    return snapshot_hub_guard.told(text)
