"""This machine, as far as a check needs it, and the models of a wirecheck.toml on it: every look, in reading order.

A look that raises becomes a line that is not sound, with the error; it never ends the rest. Nothing here imports torch,
which is asked in a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from wirecheck import doctor_disk, doctor_hub, doctor_limits, doctor_models, doctor_packages, doctor_slurm, doctor_torch
from wirecheck.cli_gate_file import Reader
from wirecheck.errors import WirecheckError
from wirecheck.machine_records import MachineCheck, MachineReport, bad

Look = Callable[[], Iterator[MachineCheck]]


def examine(
    listed: Mapping[str, Reader] | None = None, *, trust_remote_code: bool = False, offline: bool = False
) -> MachineReport:
    """Every check of this machine, and of those models by the names that the file gives them."""
    offline = offline or _told_to_be_offline()
    taken = {name: doctor_models.taken(reader) for name, reader in (listed or {}).items()}
    needed_bytes = doctor_models.bytes_to_fetch(taken.values())
    looks: list[tuple[str, Look]] = [
        ("python", doctor_packages.python),
        ("packages", doctor_packages.packages),
        ("torch", doctor_torch.torch_and_accelerator),
        ("memory", doctor_limits.memory),
        ("cpu", doctor_limits.cpus),
        ("fence", doctor_limits.fence),
        ("hub cache", partial(doctor_disk.hub_cache, needed_bytes, offline=offline)),
        ("wirecheck cache", doctor_disk.own_cache),
        ("hub access", partial(doctor_hub.token, offline=offline)),
        ("hub", partial(doctor_hub.reach_and_clock, offline=offline)),
        ("slurm", doctor_slurm.slurm),
    ]
    for name, reader in (listed or {}).items():
        looks.append((name, partial(doctor_models.look, name, taken[name], trust_remote_code=trust_remote_code)))
        looks.append((f"{name}: access", partial(doctor_hub.access, name, reader.text, offline=offline)))
    return MachineReport.of(_withholding_token(check) for name, look in looks for check in _guarded(name, look))


def _guarded(name: str, look: Look) -> Iterator[MachineCheck]:
    try:
        yield from look()
    except WirecheckError as error:
        yield bad(name, error.message, error.next_step or "see `wirecheck doctor --help`")
    except Exception as error:  # noqa: BLE001 - a broken machine may raise anything: it is the finding
        words = (str(error).strip().splitlines() or ["no message"])[0]
        yield bad(name, f"could not be looked at: {type(error).__name__}: {words}", "mend that, then ask again")


def _told_to_be_offline() -> bool:
    try:
        from wirecheck.snapshot_hub import is_offline
    except ImportError:  # told by the packages' own line
        return False
    return is_offline()


def _withholding_token(check: MachineCheck) -> MachineCheck:
    """The same check, whatever text came from outside: the token is in none of it."""
    try:
        from wirecheck.snapshot_hub_access import without_token
    except ImportError:
        return check
    told = {name: without_token(value) if isinstance(value, str) else value for name, value in check}
    return MachineCheck.model_validate(told)
