"""Start, stop and chaos are told, on standard output and in the log folder where there is one."""

import json
from pathlib import Path

from workload_client import Workload

EVENTS = ["service.started", "chaos.changed", "chaos.changed", "service.stopping", "service.stopped"]


def live(workload: Workload) -> list[dict[str, object]]:
    """A short life with requests, the same chaos asked for twice, and a stop."""
    for _ in range(3):
        workload.request("GET", "/")
    workload.inject({"mode": "error", "rate": 0.5})
    workload.inject({"mode": "error", "rate": 0.5})
    workload.inject({"mode": "recover"})
    workload.terminate()
    assert workload.wait() == 0
    return workload.printed()


def read_events(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_happened_is_told_on_standard_output_and_in_the_log_folder(start_workload, tmp_path: Path):
    printed = live(start_workload(MODE="canary", APP_VERSION="1.2.3", LOG_DIR=str(tmp_path)))
    assert [event["event"] for event in printed] == EVENTS
    assert (printed[0]["mode"], printed[0]["version"]) == ("canary", "1.2.3")
    assert printed[1]["chaos"] == {"mode": "error", "rate": 0.5}
    assert read_events(tmp_path / "events.jsonl") == printed


def test_a_second_life_adds_to_the_log(start_workload, tmp_path: Path):
    for mode in ("canary", "stable"):
        workload = start_workload(MODE=mode, LOG_DIR=str(tmp_path))
        workload.terminate()
        workload.wait()
    modes = [event["mode"] for event in read_events(tmp_path / "events.jsonl") if event["event"] == "service.started"]
    assert modes == ["canary", "stable"]


def test_without_a_log_folder_it_works_and_creates_none(start_workload, tmp_path: Path):
    printed = live(start_workload(MODE="canary", LOG_DIR=str(tmp_path / "absent")))
    assert [event["event"] for event in printed] == EVENTS
    assert list(tmp_path.iterdir()) == []


def test_a_log_that_cannot_be_written_stops_nothing(start_workload, tmp_path: Path):
    (tmp_path / "events.jsonl").mkdir()
    printed = live(start_workload(MODE="canary", LOG_DIR=str(tmp_path)))
    assert [event["event"] for event in printed] == EVENTS


def test_the_log_does_not_grow_for_ever(start_workload, tmp_path: Path):
    (tmp_path / "events.jsonl").write_bytes(b"x" * 5 * 1024 * 1024)
    live(start_workload(MODE="canary", LOG_DIR=str(tmp_path)))
    assert [event["event"] for event in read_events(tmp_path / "events.jsonl")] == EVENTS[1:]
    assert (tmp_path / "events.jsonl.1").stat().st_size > 5 * 1024 * 1024


def test_a_reader_of_the_output_that_leaves_stops_nothing(start_workload):
    workload = start_workload(MODE="canary")
    workload.process.stdout.close()
    assert workload.inject({"mode": "error", "rate": 1}).status == 200
    assert workload.request("GET", "/").status == 500
    workload.process.stdout = None
    workload.terminate()
    assert workload.wait() == 0
