"""nginx's log, counted in a folder that stands for the tmpfs of its container."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters.ingress_metrics import BOUNDS_S, COUNTS, FORGET_AFTER_S, IngressMetrics
from reconciler.core.containers import PROXY_LOG
from reconciler.core.desired import Service
from reconciler.core.evidence.readings import Reading, Unread
from reconciler.core.observed import ObservedContainer, Slot, Status
from reconciler.ports import MeasureTarget

NGINX = ObservedContainer("n", "web-nginx", "nginx", "r", Status.RUNNING, pid=42)


def line(address: str, status: int | str = 200, took_ms: int = 10) -> str:
    return f"~{address}:3000|{status}|0.{took_ms:03}|0.{took_ms:03}\n"


def target(number: int = 2, slot: Slot = Slot.BLUE, **changes: Any) -> MeasureTarget:
    values: dict[str, Any] = {"address": f"10.0.0.{number}", "started_at": "2027-01-15T08:00:00Z"} | changes
    identifier = values.pop("id", f"c{number}")
    container = ObservedContainer(identifier, "x", "app", "r", Status.RUNNING, slot=slot, replica=0, **values)
    return MeasureTarget(container, Service("app", "demo:1", 3000))


class World:
    """A machine on which nginx runs as process 42."""

    def __init__(self, folder: Path) -> None:
        self.now = 1_800_000_100.0
        self.ticks = 0.0
        self.limit_s: float | None = None
        self.proc = folder / "proc"
        self.folder = self.proc / f"42/root{PROXY_LOG}"
        self.folder.mkdir(parents=True)
        self.log = self.folder / "evidence.log"
        self.log.touch()
        device = self.folder.stat().st_dev
        self.mount(f"{os.major(device)}:{os.minor(device)}")

    def mount(self, device: str, kind: str = "tmpfs") -> None:
        mounts = f"22 1 8:1 / / rw - ext4 /dev/x rw\n96 73 {device} / {PROXY_LOG} rw,nosuid - {kind} tmpfs rw\n"
        (self.proc / "42/mountinfo").write_text(mounts)

    def metrics(self) -> IngressMetrics:
        return IngressMetrics(
            latency_limit_s=lambda: self.limit_s, now=lambda: self.now, monotonic=lambda: self.ticks, proc=self.proc
        )

    def says(self, *lines: str) -> None:
        with self.log.open("a") as log:
            log.write("".join(lines))


@pytest.fixture
def world() -> Iterator[World]:
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        yield World(Path(folder))


def reading(world: World, *targets: MeasureTarget, of: str = "c2") -> Reading:
    found = world.metrics().read(targets or (target(),), NGINX)[of]
    assert isinstance(found, Reading), found
    return found


def unread(world: World, *targets: MeasureTarget) -> Unread:
    found = world.metrics().read(targets or (target(),), NGINX)[(targets or (target(),))[0].container.id]
    assert isinstance(found, Unread), found
    return found


def requests(of: Reading) -> tuple[int, int]:
    return of.requests[""], of.errors[""]


def test_counting_begins_when_a_container_is_first_seen(world):
    world.says(line("10.0.0.2"), line("10.0.0.2", 500))
    first = reading(world)
    assert requests(first) == (0, 0)
    assert (first.at, first.began, first.uptime_s) == (world.now, world.now, 100.0)
    world.says(line("10.0.0.2", took_ms=5), line("10.0.0.2", 502, 6), line("10.0.0.9"))
    world.now += 5
    second = reading(world)
    assert (requests(second), second.began) == ((2, 1), first.began)
    assert dict(second.buckets)[0.005] == 1
    assert second.buckets[-1] == (math.inf, 2)
    assert [bound for bound, _ in second.buckets[:-1]] == list(BOUNDS_S)


def test_counts_outlive_the_daemon_and_not_nginxs_container(world):
    began = reading(world).began
    world.says(line("10.0.0.2"))
    reading(world)
    world.now += 60
    world.says(line("10.0.0.2"))
    after = reading(world)
    assert (requests(after), after.began) == ((2, 0), began)
    world.log.unlink()
    (world.folder / "keep the inode").write_text("")
    world.log.write_text(line("10.0.0.2") * 9)
    again = reading(world)
    assert (requests(again), again.began) == ((0, 0), world.now)


def test_what_was_read_is_given_back_and_nothing_is_lost(world):
    reading(world)
    for round_ in range(1, 4):
        world.says(*[line("10.0.0.2")] * 5000)
        assert requests(reading(world)) == (round_ * 5000, 0)
        assert world.log.stat().st_blocks * 512 <= 8192
    assert world.log.stat().st_size == len(line("10.0.0.2")) * 15_000


def test_a_line_that_is_still_being_written_waits(world):
    reading(world)
    world.says(line("10.0.0.2"), "~10.0.0.2:3000|500|0.0")
    assert requests(reading(world)) == (1, 0)
    world.says("01|0.001\n")
    assert requests(reading(world)) == (2, 1)


@pytest.mark.fault("H11")
def test_one_who_is_new_at_an_address_starts_with_nothing(world):
    reading(world)
    world.says(line("10.0.0.2", 500))
    assert requests(reading(world, target(id="new"), of="new")) == (0, 0)
    world.says(line("10.0.0.2"))
    assert requests(reading(world, target(id="new"), of="new")) == (1, 0)


@pytest.mark.fault("H4")
def test_one_who_was_started_again_keeps_what_its_end_failed(world):
    reading(world)
    world.says(line("10.0.0.2"))
    before = reading(world)
    world.says(line("10.0.0.2", 502), line("10.0.0.2", 502, 20))
    world.now += 5
    after = reading(world, target(started_at="2027-01-15T08:01:40Z"))
    assert requests(after) == (2, 2)
    assert after.began == world.now > before.began
    assert after.buckets[-1] == (math.inf, 2)
    assert requests(reading(world, target(started_at="2027-01-15T08:01:40Z"))) == (2, 2)


def test_what_nobody_in_a_slot_could_be_asked_for_counts_once_for_the_slot(world):
    both = (target(2), target(3), target(4, Slot.GREEN))
    world.metrics().read(both, NGINX)
    world.says("~app-blue|502|-|0.000\n", line("10.0.0.3"), line("10.0.0.4"))
    found = world.metrics().read(both, NGINX)
    assert [requests(found[name]) for name in ("c2", "c3", "c4")] == [(1, 1), (1, 0), (1, 0)]  # type: ignore[arg-type]


def test_the_slots_count_stays_with_its_owner_and_passes_on_from_nothing(world):
    world.metrics().read([target(3)], NGINX)
    world.says("~app-blue|502|-|0.000\n")
    assert requests(reading(world, target(2), target(3), of="c3")) == (1, 1)
    began = reading(world, target(2)).began
    world.says("~app-blue|502|-|0.000\n", line("10.0.0.2"))
    after = reading(world, target(2))
    assert (requests(after), after.began) == ((2, 1), began)


def test_the_limit_is_a_bound_and_another_limit_is_another_histogram(world):
    world.limit_s = 0.45
    reading(world)
    world.says(line("10.0.0.2", took_ms=450), line("10.0.0.2", took_ms=451))
    assert dict(reading(world).buckets)[0.45] == 1
    world.limit_s, world.now = 0.3, world.now + 5
    after = reading(world)
    assert (requests(after), after.began) == ((0, 0), world.now)


def test_who_is_no_longer_asked_about_is_forgotten_after_a_while(world):
    reading(world, target(2), target(3))
    reading(world, target(3), of="c3")
    world.says(line("10.0.0.2"))
    assert requests(reading(world, target(2), target(3))) == (1, 0)
    world.now += FORGET_AFTER_S + 1
    reading(world, target(3), of="c3")
    assert "10.0.0.2" not in json.loads((world.folder / COUNTS).read_text())["entries"]


def test_a_log_too_long_for_one_look_is_read_on_at_the_next(world):
    reading(world)
    world.says(*[line("10.0.0.2")] * 60_000)

    ticks = iter(range(1000))
    slow = IngressMetrics(now=lambda: world.now, monotonic=lambda: next(ticks) * 0.6, proc=world.proc)
    assert "longer than" in slow.read([target()], NGINX)["c2"].why  # type: ignore[union-attr]
    assert requests(reading(world)) == (60_000, 0)


@pytest.mark.fault("I12")
def test_damage_is_unknown_unless_it_is_what_a_full_disk_leaves(world):
    reading(world)
    world.says("~10.0.0.2:3000|20", *[line("10.0.0.2")] * 500)
    assert requests(reading(world)) == (499, 0)
    world.says(*["nonsense\n"] * 5, *[line("10.0.0.2")] * 200)
    assert "damaged" in unread(world).why


def test_a_file_without_lines_is_not_read_for_ever(world):
    reading(world)
    world.says("x" * 3_000_000)
    assert "longer than" in unread(world).why
    assert "longer than" in unread(world).why
    world.says("\n", line("10.0.0.2"))
    assert requests(reading(world)) == (1, 0)


@pytest.mark.fault("C6")
@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"entries": {"10.0.0.2": 5}}', '{"entries": 7}', "\xff", "null", "[" * 5000]
)
def test_counts_that_cannot_be_read_start_over(world, text):
    reading(world)
    (world.folder / COUNTS).write_text(text)
    world.says(line("10.0.0.2"))
    assert requests(reading(world)) == (0, 0)


# ── where there is nothing to read ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "proxy",
    [
        None,
        ObservedContainer("n", "x", "nginx", "r", Status.EXITED, pid=42),
        ObservedContainer("n", "x", "nginx", "r", Status.RUNNING),
    ],
)
def test_an_nginx_that_does_not_run_counts_nothing(world, proxy):
    assert world.metrics().read([target()], proxy) == {"c2": Unread("nginx does not run")}


def test_an_nginx_that_does_not_keep_the_log_is_absent(world):
    world.log.unlink()
    assert unread(world).is_absent
    world.mount("0:1", "ext4")
    assert unread(world).is_absent


def test_a_process_that_cannot_be_looked_into_is_unknown(world):
    stranger = ObservedContainer("n", "x", "nginx", "r", Status.RUNNING, pid=43)
    found = world.metrics().read([target()], stranger)["c2"]
    assert isinstance(found, Unread)
    assert not found.is_absent


def test_a_container_without_an_address_is_unknown(world):
    assert unread(world, target(address=None)) == Unread("it has no address of its own")


def test_no_link_leads_out_of_the_tmpfs(world):
    outside = world.proc / "secret"
    outside.write_text(line("10.0.0.2") * 3000)
    world.log.unlink()
    world.log.symlink_to(outside)
    assert isinstance(world.metrics().read([target()], NGINX)["c2"], Unread)
    world.log.unlink()
    world.log.mkdir()
    assert isinstance(world.metrics().read([target()], NGINX)["c2"], Unread)
    assert outside.stat().st_size == len(line("10.0.0.2")) * 3000


def test_another_folder_than_the_one_that_is_mounted_is_not_touched(world):
    world.mount("0:999")
    world.says(line("10.0.0.2") * 3000)
    before = world.log.stat().st_blocks
    assert unread(world).is_absent
    assert world.log.stat().st_blocks == before
    assert [path.name for path in world.folder.iterdir()] == ["evidence.log"]
