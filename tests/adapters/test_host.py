"""The machine's figures, from a real machine and from files that are not there."""

from __future__ import annotations

import os
import shutil
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from reconciler.adapters.clock import SystemClock
from reconciler.adapters.host import LocalHost

MEMINFO = "MemTotal:       16000000 kB\nMemFree:          100000 kB\nMemAvailable:    4000000 kB\nSwapTotal: 0 kB\n"
TRIE = """Main:
  +-- 0.0.0.0/0 3 0 4
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 172.17.0.0/16 2 0 2
        |-- 172.17.0.0
           /16 link UNICAST
        |-- 172.17.255.255
           /32 link BROADCAST
Id 51820:
     |-- 10.213.0.0
        /21 universe UNICAST
     |-- 10.213.8.1
        /32 host LOCAL
     |-- 0.0.0.0
        /1 universe UNICAST
"""


def proc(folder: Path, meminfo: str | None = MEMINFO, trie: str | None = TRIE) -> Path:
    (folder / "net").mkdir()
    for name, text in (("meminfo", meminfo), ("net/fib_trie", trie)):
        if text is not None:
            (folder / name).write_text(text)
    return folder


def test_the_facts_of_this_machine_are_plausible(tmp_path: Path) -> None:
    facts = LocalHost(str(tmp_path)).facts(None)
    assert facts.disk_free_gb is not None
    assert abs(facts.disk_free_gb - shutil.disk_usage(tmp_path).free / 2**30) < 1
    assert facts.cpu_load is not None
    assert facts.mem_used_percent is not None
    assert 0 < facts.mem_used_percent < 100
    assert facts.cpus == os.cpu_count()
    assert facts.disk_path == str(tmp_path)


def test_memory_that_could_be_freed_is_not_used(tmp_path: Path) -> None:
    assert LocalHost("/", proc=proc(tmp_path)).facts(None).mem_used_percent == 75.0


def test_the_manifests_path_comes_before_the_engines(tmp_path: Path) -> None:
    assert LocalHost("/nowhere").facts(str(tmp_path)).disk_path == str(tmp_path)


def test_what_cannot_be_read_is_none_and_never_zero(tmp_path: Path) -> None:
    facts = LocalHost("/nowhere", proc=tmp_path).facts(None)
    assert (facts.disk_free_gb, facts.mem_used_percent) == (None, None)
    assert LocalHost(None).facts(None).disk_free_gb is None


@pytest.mark.parametrize(
    "meminfo", ["", "MemTotal: 5 kB\n", "MemTotal: 0 kB\nMemAvailable: 0 kB\n", "MemAvailable: x kB\n"]
)
def test_memory_that_makes_no_sense_is_none(tmp_path: Path, meminfo: str) -> None:
    assert LocalHost("/", proc=proc(tmp_path, meminfo)).facts(None).mem_used_percent is None


def test_free_space_is_rounded_down(monkeypatch: pytest.MonkeyPatch) -> None:
    almost = os.statvfs_result((4096, 4096, 10**9, 10**9, (10 * 2**30 - 1) // 4096, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: almost)
    assert LocalHost("/").facts(None).disk_free_gb == 9.99


def test_a_load_that_cannot_be_had_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_load() -> tuple[float, float, float]:
        raise OSError

    monkeypatch.setattr(os, "getloadavg", no_load)
    assert LocalHost("/").facts(None).cpu_load is None


# --- a network of our own ------------------------------------------------------------------------------------


def test_a_free_subnet_is_in_nobodys_way(tmp_path: Path) -> None:
    found = LocalHost("/", proc=proc(tmp_path)).free_subnet(["10.213.12.0/23", "fe80::/64", "nonsense", ""])
    assert found == ("10.213.16.0/22", "10.213.19.0/24")


def test_the_branches_of_the_routing_tree_are_no_routes(tmp_path: Path) -> None:
    branches = "     |-- 10.213.0.5\n        /32 host LOCAL\n     +-- 127.0.0.0/8 2 0 2\n     +-- 10.213.0.0/16 2 0 2\n"
    host = LocalHost("/", proc=proc(tmp_path, trie=branches))
    assert host.free_subnet([]) == ("10.213.4.0/22", "10.213.7.0/24")


def test_what_docker_may_use_is_a_part_that_leaves_room_for_ours(tmp_path: Path) -> None:
    found = LocalHost("/", proc=proc(tmp_path, trie="")).free_subnet([])
    assert found is not None
    subnet, part = map(IPv4Network, found)
    assert subnet.prefixlen == 22
    assert part.subnet_of(subnet)
    assert subnet.is_private
    assert part.network_address != subnet.network_address


@pytest.mark.fault("B34")
def test_a_taken_corner_of_private_space_is_left_for_another(tmp_path: Path) -> None:
    host = LocalHost("/", proc=proc(tmp_path))
    assert host.free_subnet(["10.0.0.0/8"]) == ("172.16.0.0/22", "172.16.3.0/24")
    assert host.free_subnet(["10.0.0.0/8", "172.16.0.0/12"]) == ("192.168.0.0/22", "192.168.3.0/24")


@pytest.mark.fault("B34")
def test_no_room_at_all_is_none(tmp_path: Path) -> None:
    host = LocalHost("/", proc=proc(tmp_path))
    assert host.free_subnet(["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]) is None
    assert host.free_subnet(["0.0.0.0/0"]) is None


def test_without_knowing_the_routes_nothing_is_chosen(tmp_path: Path) -> None:
    assert LocalHost("/", proc=proc(tmp_path, trie=None)).free_subnet([]) is None


def test_many_networks_in_the_way_are_passed_quickly(tmp_path: Path) -> None:
    taken = [f"10.{second}.{third}.0/24" for second in range(213, 216) for third in range(0, 256, 4)]
    found = LocalHost("/", proc=proc(tmp_path, trie="")).free_subnet(taken)
    assert found is not None
    assert not any(IPv4Network(found[0]).overlaps(IPv4Network(network)) for network in taken)


# --- its clock -------------------------------------------------------------------------------------------------


def test_a_timestamp_has_milliseconds_and_says_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.adapters.clock.now", lambda: 1_800_000_000.0)
    assert SystemClock().timestamp() == "2027-01-15T08:00:00.000Z"


def test_time_goes_on() -> None:
    clock = SystemClock()
    before, since = clock.monotonic(), clock.now()
    assert clock.monotonic() >= before
    assert clock.now() - since < 60
