"""The catalogue of GPUs row by row, the counts of a request, and `auto`: this machine's GPU, read from torch."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from wirecheck.errors import UsageError
from wirecheck.schema import GpuRequest
from wirecheck.vram.gpus import GIB, GPUS, MIB, MOST_GPUS, find, machine, parse_gpu

WANTED = (
    *("H200", "H100-80GB", "H100-94GB", "H100-NVL", "GH200", "B200", "A100-40GB", "A100-80GB", "L40S", "L40", "A6000"),
    *("RTX 6000 Ada", "A40", "L4", "T4", "V100-16GB", "V100-32GB", "A10", "A10G", "A30", "RTX 3090", "RTX 4090"),
    *("RTX 5090", "MI300X", "MI250X", "RTX PRO 6000", "RTX 4080", "RTX-3060-12GB", "RTX A5000", "P100-16GB"),
)
DRIVER_NAMES = {
    "NVIDIA H100 80GB HBM3": "H100-80GB",
    "NVIDIA H100 NVL": "H100-94GB",
    "NVIDIA GH200 480GB": "GH200",
    "NVIDIA A100-SXM4-40GB": "A100-40GB",
    "NVIDIA A100 80GB PCIe": "A100-80GB",
    "NVIDIA RTX 6000 Ada Generation": "RTX-6000-Ada",
    "NVIDIA RTX PRO 6000 Blackwell Server Edition": "RTX-PRO-6000",
    "Tesla V100-SXM2-32GB": "V100-32GB",
    "Tesla P100-PCIE-16GB": "P100-16GB",
    "NVIDIA GeForce RTX 2080 Ti": "RTX-2080-Ti",
    "Quadro RTX 8000": "RTX-8000",
    "AMD Instinct MI300X": "MI300X",
    "AMD Instinct MI250X / MI250": "MI250X",
}


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
def test_every_row_is_whole(gpu):
    assert 0.9 * gpu.nominal_bytes < gpu.usable_bytes < gpu.nominal_bytes
    assert gpu.nominal_bytes % MIB == 0
    assert 20 <= gpu.multiprocessors <= 304
    assert (6, 0) <= gpu.capability <= (12, 0)
    assert gpu.maker == ("amd" if gpu.name.startswith("MI") else "nvidia")
    assert gpu.source


def test_a_total_in_mib_is_the_one_in_gib():
    for gpu in GPUS:
        for mib in re.findall(r"([\d,]+) MiB(?! nominal)", gpu.source):
            assert gpu.usable_bytes / GIB == pytest.approx(int(mib.replace(",", "")) / 1024, abs=0.01), gpu.name


@pytest.mark.parametrize("name", WANTED)
def test_what_laboratories_have_is_there(name):
    assert find(name) in GPUS


@pytest.mark.parametrize(("driver", "name"), DRIVER_NAMES.items())
def test_the_names_drivers_give_are_known(driver, name):
    assert find(driver).name == name


# --- counts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "count"), [("T4x100000", MOST_GPUS), ("T4 x 0002", 2), ("t4*3", 3), ("T4x" + "0" * 9 + "5", 5)]
)
def test_counts_are_read(text, count):
    assert parse_gpu(text) == GpuRequest(name="T4", count=count)


@pytest.mark.parametrize("count", ["100001", "999999", "1000000000000", "9" * 5_000, "٩" * 5_000])
def test_an_absurd_count_is_a_usage_error_of_one_short_line(count):
    with pytest.raises(UsageError, match="more than 100,000 GPUs") as caught:
        parse_gpu(f"H100-80GBx{count}")
    assert len(caught.value.message) < 120
    assert caught.value.next_step == "give a count, for example H100-80GBx8"


@pytest.mark.parametrize("text", ["T4x0", "T4x000"])
def test_a_count_of_none_is_a_usage_error(text):
    with pytest.raises(UsageError, match="at least 1"):
        parse_gpu(text)


def test_an_unknown_name_is_not_repeated_without_end():
    with pytest.raises(UsageError) as caught:
        find("Z" * 10_000)
    assert len(caught.value.message) < 120


# --- auto -----------------------------------------------------------------------------------------------------------


def device(name: str = "NVIDIA A100-SXM4-80GB", mib: int = 81_038, **more) -> SimpleNamespace:
    known = {"major": 8, "minor": 0, "multi_processor_count": 108}
    return SimpleNamespace(name=name, total_memory=mib * MIB, **{**known, **more})


@pytest.fixture
def plugged(monkeypatch):
    """Makes torch see the devices it is given."""

    def plug(*devices: SimpleNamespace, hip: str | None = None) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(devices))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(devices))
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: devices[index])
        monkeypatch.setattr(torch.version, "hip", hip)

    return plug


def test_the_machine_is_read(plugged):
    plugged(device(), device())
    gpu, count = machine()
    known = find("A100-80GB")
    assert gpu == replace(known, usable_bytes=81_038 * MIB, source="read on this machine", also=())
    assert count == 2


def test_auto_is_all_of_the_machine(plugged):
    plugged(device(), device(), device())
    assert parse_gpu("auto") == parse_gpu(" AUTO ") == GpuRequest(name="auto", count=3)
    assert find("auto") == machine()[0]


def test_auto_takes_a_count_too(plugged):
    plugged(device())
    assert parse_gpu("autox2") == GpuRequest(name="auto", count=2)
    with pytest.raises(UsageError, match="autox1000000: more than"):
        parse_gpu("autox1000000")


def test_a_gpu_the_catalogue_lacks_goes_by_the_drivers_name(plugged):
    plugged(device("NVIDIA B1000", 999_000, major=13, minor=1, multi_processor_count=500))
    gpu, count = machine()
    assert (gpu.name, gpu.capability, gpu.multiprocessors, count) == ("NVIDIA B1000", (13, 1), 500, 1)
    assert gpu.usable_bytes == gpu.nominal_bytes == 999_000 * MIB


def test_a_card_of_a_known_name_with_other_memory_keeps_the_drivers_name(plugged):
    plugged(device("NVIDIA GeForce RTX 3060", 7_800))
    assert machine()[0].name == "NVIDIA GeForce RTX 3060"


def test_only_those_like_the_first_are_counted(plugged):
    plugged(device(), device("Tesla T4", 14_910), device())
    assert machine()[1] == 2


def test_rocm_is_amd(plugged):
    plugged(device("AMD Instinct MI300X", 196_592, major=9, minor=4, multi_processor_count=304), hip="6.4")
    gpu, _ = machine()
    assert (gpu.name, gpu.maker, gpu.capability) == ("MI300X", "amd", (9, 4))


@pytest.mark.parametrize("ask", [find, parse_gpu])
def test_auto_without_a_device_says_what_to_type(plugged, ask):
    plugged()
    with pytest.raises(UsageError) as caught:
        ask("auto")
    assert caught.value.message == "--gpu auto: PyTorch sees no CUDA device on this machine"
    assert caught.value.next_step == "name the GPU instead, for example --gpu H100-80GB"


def test_autox_without_a_device_is_the_same_error(plugged):
    plugged()
    with pytest.raises(UsageError, match="sees no CUDA device"):
        parse_gpu("autox2")


def test_a_driver_that_fails_is_the_users_one_line(plugged, monkeypatch):
    plugged(device())

    def fail(index: int) -> None:
        raise RuntimeError("CUDA unknown error\nand a page about it")

    monkeypatch.setattr(torch.cuda, "get_device_properties", fail)
    with pytest.raises(UsageError) as caught:
        machine()
    assert caught.value.message == "--gpu auto: CUDA unknown error"
