"""From a manifest to an answer, without a daemon."""

from __future__ import annotations

import http.server
import itertools
import json
import os
import threading

import pytest

from tests.e2e.stack import IMAGE, Stack, wait_for

SIX_LINES = [
    "Manifest valid",
    "Docker image found",
    "Nginx config valid",
    "Services starting...",
    "Health check passed",
    "Deployment successful",
]


def test_six_keys_must_be_enough(stack: Stack) -> None:
    stack.write(
        f"services:\n  image: {IMAGE}\n  port: 3000\n"
        f"nginx:\n  image: nginx:latest\n  port: {stack.port}\n"
        f"network:\n  name: {stack.project}-net\n  driver_type: bridge\n"
        # the machine that runs the tests is busier than the guide allows a host to be
        f"project: {{name: {stack.project}}}\npolicy: {{infrastructure: {{max_cpu_load: 49, min_disk_free_gb: 0.1}}}}\n"
    )
    done = stack.run("deploy")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == SIX_LINES
    status, headers, body = stack.get()
    assert status == 200
    assert headers["x-deployed-by"] == "swiftdeploy"
    assert json.loads(body)["mode"] == "stable"
    again = stack.run("deploy")
    assert again.stdout.splitlines() == SIX_LINES
    assert {c.attrs["RestartCount"] for c in stack.containers()} == {0}
    assert len(stack.containers("app")) == 1


def test_history_must_carry_the_guides_fields_and_an_unbroken_chain(stack: Stack) -> None:
    assert stack.run("deploy").returncode == 0
    records = stack.history()
    cycles = [record for record in records if record["kind"] == "cycle"]
    for field in ("timestamp", "mode", "req_per_sec", "p99_latency", "error_rate", "policy"):
        assert all(field in record for record in cycles), field
    assert cycles[-1]["policy"] == "PASS"
    assert all(later["prev"] == earlier["hash"] for earlier, later in itertools.pairwise(records))
    for at, record in enumerate(records):
        acted = [a for a in record.get("actions", ()) if a["outcome"] == "ok" and not a["verb"].startswith("wait")]
        if acted:
            assert (records[at - 1]["kind"], records[at - 1]["number"]) == ("intent", record["number"])


def test_a_full_disk_must_keep_everything_as_it_is(stack: Stack) -> None:
    stack.write(stack.manifest().replace("min_disk_free_gb: 0.1", "min_disk_free_gb: 900000"))
    done = stack.run("deploy")
    assert done.returncode == 3
    assert "DENIED: Disk space below 900000GB" in done.stderr
    assert stack.containers("app") == []
    assert stack.containers("nginx") == []


def test_a_busy_host_must_not_get_a_deployment(stack: Stack) -> None:
    stack.write(stack.manifest().replace("max_cpu_load: 49", "max_cpu_load: 0.0001"))
    done = stack.run("deploy")
    assert (done.returncode, "DENIED: CPU load above 0.0001" in done.stderr) == (3, True)


@pytest.mark.fault("B8")
def test_a_missing_image_must_be_named(stack: Stack) -> None:
    stack.write(stack.manifest().replace(IMAGE, "nowhere.invalid/nothing:1"))
    done = stack.run("deploy")
    assert done.returncode == 1
    assert "nowhere.invalid/nothing:1" in done.stderr
    assert stack.containers("app") == []


@pytest.mark.fault("I6")
def test_a_taken_port_must_name_its_holder(stack: Stack) -> None:
    server = http.server.ThreadingHTTPServer(("0.0.0.0", stack.port), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        checks = stack.run("validate")
        done = stack.run("deploy")
    finally:
        server.shutdown()
        server.server_close()
    assert checks.returncode == 1
    assert str(os.getpid()) in checks.stdout
    assert done.returncode == 1
    assert str(stack.port) in done.stderr
    assert str(os.getpid()) in done.stderr
    assert stack.containers("app") == []


def test_a_first_release_that_never_gets_healthy_must_leave_nothing_behind(stack: Stack) -> None:
    stack.write(stack.manifest(service="healthcheck:\n  path: /nowhere\nrollout:\n  health_deadline: 2"))
    done = stack.run("deploy")
    assert done.returncode == 5
    assert "Health check failed" in done.stderr
    assert stack.containers("app") == []


@pytest.mark.fault("E7")
def test_a_bad_manifest_must_be_refused_with_its_place(stack: Stack) -> None:
    stack.write(stack.manifest().replace("port: 3000", "port: 30000000"))
    done = stack.run("deploy")
    assert done.returncode == 6
    assert "manifest.yaml:5:9" in done.stderr
    assert stack.containers() == []


def test_a_teardown_must_leave_nothing_but_files(stack: Stack) -> None:
    assert stack.run("deploy").returncode == 0
    assert stack.run("teardown").returncode == 0
    assert stack.containers() == []
    assert stack.engine.networks.list(names=[f"{stack.project}-net"]) == []
    assert stack.rendered("docker-compose.yml").exists()
    assert stack.run("teardown", "--clean").returncode == 0
    assert not stack.rendered("docker-compose.yml").exists()
    assert (stack.folder / "state/history.jsonl").exists()
    assert stack.run("deploy").returncode == 0
    assert stack.answers()


def test_rendering_again_must_give_the_same_bytes(stack: Stack) -> None:
    assert stack.run("init").returncode == 0
    paths = [path for path in stack.rendered("").rglob("*") if path.is_file() and not path.is_symlink()]
    before = {path: path.read_bytes() for path in paths}
    assert stack.rendered("docker-compose.yml") in before
    for path in before:
        path.unlink()
    assert stack.run("init").returncode == 0
    assert {path: path.read_bytes() for path in before} == before


def test_promote_must_switch_the_mode_and_back_and_change_one_line(stack: Stack) -> None:
    """Without a daemon: a canary of the same revision, which gets every request here, and back."""
    stack.write(stack.manifest(service="rollout: {steps: [{weight: 100, duration: 0s}], watch: 0s}"))
    assert stack.run("deploy").returncode == 0
    before = stack.path.read_text()
    done = stack.run("promote", "canary")
    assert done.returncode == 0, done.stderr
    assert stack.get()[1]["x-mode"] == "canary"
    changed = [line for line in stack.path.read_text().splitlines() if line not in before.splitlines()]
    assert [line.strip() for line in changed] == ["mode: canary"]
    again = stack.run("promote", "canary")
    assert again.returncode == 0
    assert "already" in again.stdout + again.stderr
    denied = stack.run("promote", "stable")
    assert denied.returncode == 3, "policy is asked first, and nothing was measured"
    assert "mode: canary" in stack.path.read_text()
    for _ in range(40):
        stack.get()
    back = stack.run("promote", "stable")
    assert back.returncode == 0, back.stderr
    assert "mode: stable" in stack.path.read_text()
    assert "x-mode" not in stack.get()[1]


@pytest.mark.fault("I6")
def test_a_change_that_interrupts_must_be_announced_and_wait_for_a_word(stack: Stack) -> None:
    assert stack.run("deploy").returncode == 0
    from tests.e2e.stack import free_port

    old, stack.port = stack.port, free_port()
    stack.write(stack.path.read_text().replace(f"port: {old}", f"port: {stack.port}"))
    diff = stack.run("diff")
    assert diff.returncode == 2
    assert "--allow-interruption" in diff.stdout + diff.stderr
    done = stack.run("deploy", "--allow-interruption")
    assert done.returncode == 0, done.stderr
    wait_for("an answer on the new port", stack.answers)
