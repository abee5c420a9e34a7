"""What the daemon must see and mend by itself."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.e2e.stack import BIN, Stack, wait_for

LOAD = Path(__file__).with_name("load.py")


def kill_the_service(stack: Stack) -> None:
    stack.containers("app")[0].kill()


def remove_the_service(stack: Stack) -> None:
    stack.containers("app")[0].remove(force=True)


def stop_nginx(stack: Stack) -> None:
    stack.containers("nginx")[0].stop()


def kill_nginx_and_leave_its_socket(stack: Stack) -> None:
    os.kill(stack.containers("nginx")[0].attrs["State"]["Pid"], signal.SIGKILL)
    time.sleep(0.2)


def remove_nginx(stack: Stack) -> None:
    stack.containers("nginx")[0].remove(force=True)


def edit_the_nginx_configuration(stack: Stack) -> None:
    path = stack.rendered("nginx/live/nginx.conf")
    path.write_text(path.read_text().replace("proxy_pass", "#proxy_pass"), encoding="utf-8")


def edit_the_compose_file(stack: Stack) -> None:
    stack.rendered("docker-compose.yml").write_text("services: {}\n", encoding="utf-8")


def remove_the_network(stack: Stack) -> None:
    """With the daemon held still: it reattaches a container faster than the next one is taken off."""
    assert stack.daemon is not None
    stack.daemon.send_signal(signal.SIGSTOP)
    try:
        (network,) = stack.engine.networks.list(names=[f"{stack.project}-net"])
        for container in stack.containers():
            if f"{stack.project}-net" in container.attrs["NetworkSettings"]["Networks"]:
                network.disconnect(container, force=True)
        network.remove()
    finally:
        stack.daemon.send_signal(signal.SIGCONT)


def remove_opa(stack: Stack) -> None:
    stack.containers("opa")[0].remove(force=True)


def drop_the_flags(stack: Stack) -> None:
    (stack.rendered("nginx/live/flags") / "app").unlink()


@pytest.mark.fault("B26", "B27", "G1", "I4", "I11", "I15")
@pytest.mark.parametrize(
    "harm",
    [
        kill_the_service,
        remove_the_service,
        stop_nginx,
        kill_nginx_and_leave_its_socket,
        remove_nginx,
        edit_the_nginx_configuration,
        edit_the_compose_file,
        remove_the_network,
        remove_opa,
        drop_the_flags,
    ],
)
def test_drift_must_be_repaired_without_anybody_asking(deployed: Stack, harm: Callable[[Stack], None]) -> None:
    before = {path: deployed.rendered(path).read_bytes() for path in ("docker-compose.yml",)}
    cycles = deployed.status()["last_cycle"]["number"]
    harm(deployed)
    wait_for("a cycle that acted", lambda: deployed.status()["last_cycle"]["number"] > cycles + 1)
    deployed.wait_converged()
    wait_for("an answer", deployed.answers)
    assert {path: deployed.rendered(path).read_bytes() for path in before} == before
    assert sorted(c.labels["io.swiftdeploy.service"] for c in deployed.containers()) == ["app", "nginx", "opa"]
    assert deployed.service()["revision"] == deployed.service()["containers"][0]["revision"]


@pytest.mark.fault("I14")
def test_updates_must_lose_no_request(deployed: Stack) -> None:
    """Keep-alive clients, half of what they send POST, none ever retries."""
    load = subprocess.Popen(
        [sys.executable, str(LOAD), str(deployed.port), "25", "8"], stdout=subprocess.PIPE, text=True
    )
    try:
        for version in ("1.1.0", "1.2.0", "1.3.0"):
            deployed.write(deployed.manifest(service=f'version: "{version}"'))
            wait_for(f"version {version}", lambda v=version: deployed.answers(v))
            deployed.wait_converged()
        counts: dict[str, int] = json.loads(load.communicate(timeout=120)[0])
    finally:
        load.kill()
    assert list(counts) == ["200"], counts
    assert counts["200"] > 1000
    assert len(deployed.containers("app")) == 1


@pytest.mark.fault("B22")
def test_a_bad_update_must_leave_the_old_release_serving_and_not_be_tried_again(deployed: Stack) -> None:
    before = deployed.service()["revision"]
    deployed.write(
        deployed.manifest(service='version: "2.0.0"\nhealthcheck:\n  path: /nowhere\nrollout:\n  health_deadline: 2')
    )
    given_up = wait_for("the revision given up", lambda: deployed.service()["quarantined"])
    wait_for("rest", lambda: deployed.service()["phase"] == "stable")
    assert deployed.status()["state"] == "degraded"
    assert deployed.answers("1.0.0")
    assert deployed.service()["revision"] == before
    names = {c.name for c in deployed.containers()}
    deployed.run("reconcile")
    assert {c.name for c in deployed.containers()} == names
    assert given_up == deployed.service()["quarantined"]


@pytest.mark.fault("B19")
def test_a_candidate_that_cannot_start_must_be_given_up_at_once(deployed: Stack) -> None:
    deployed.write(deployed.manifest(service='entrypoint: ["/no/such/program"]'))
    wait_for("given up", lambda: deployed.service()["quarantined"], 20)
    assert deployed.answers()


@pytest.mark.fault("A1", "A2")
def test_killed_in_the_middle_the_daemon_must_go_on_where_it_was(deployed: Stack) -> None:
    for pause_s in (0.2, 0.6, 1.2, 1.8, 2.4):
        version = f"3.{pause_s}"
        deployed.write(deployed.manifest(service=f'version: "{version}"'))
        time.sleep(pause_s)
        deployed.stop(signal.SIGKILL)
        assert deployed.answers()
        deployed.start()
        wait_for(f"version {version}", lambda v=version: deployed.answers(v))
        deployed.wait_converged()
        assert len(deployed.containers("app")) == 1
    records = deployed.history()
    assert all(later["prev"] == earlier["hash"] for earlier, later in itertools.pairwise(records))


@pytest.mark.fault("C6")
def test_a_lost_rollout_must_be_rebuilt_from_what_runs(deployed: Stack) -> None:
    ids = {c.id for c in deployed.containers()}
    assert deployed.stop() == 0
    (deployed.folder / "state/rollout.json").unlink()
    deployed.start()
    deployed.wait_converged()
    assert {c.id for c in deployed.containers()} == ids


@pytest.mark.fault("A5")
def test_a_stopped_daemon_must_leave_everything_running(deployed: Stack) -> None:
    assert deployed.stop() == 0
    assert deployed.answers()
    assert "no daemon" in deployed.run("status", "--once").stdout


def rename_into_place(path: Path, text: str) -> None:
    new = path.with_suffix(".tmp")
    new.write_text(text)
    os.replace(new, path)


def write_in_place(path: Path, text: str) -> None:
    path.write_text(text)


def write_slowly_in_place(path: Path, text: str) -> None:
    with path.open("w") as file:
        for line in text.splitlines(keepends=True):
            file.write(line)
            file.flush()
            time.sleep(0.05)


def delete_and_create(path: Path, text: str) -> None:
    path.unlink()
    time.sleep(0.3)
    path.write_text(text)


@pytest.mark.fault("E1", "E3")
@pytest.mark.parametrize("edit", [rename_into_place, write_in_place, write_slowly_in_place, delete_and_create])
def test_an_edit_must_be_seen_however_the_editor_writes(deployed: Stack, edit: Callable[[Path, str], None]) -> None:
    edit(deployed.path, deployed.manifest(service='version: "7.0.0"'))
    wait_for("the edit to arrive", lambda: deployed.answers("7.0.0"), 20)
    assert len({record["revision"] for record in deployed.history() if record["kind"] == "cycle"} - {None}) == 2


def test_a_manifest_in_a_linked_folder_must_be_seen_when_the_link_turns(stack: Stack) -> None:
    old, new = stack.folder / "v1", stack.folder / "v2"
    for folder, version in ((old, "1.0.0"), (new, "2.0.0")):
        folder.mkdir()
        (folder / "manifest.yaml").write_text(stack.manifest(service=f'version: "{version}"'))
    link = stack.folder / "current"
    link.symlink_to(old)
    log = stack.log.open("ab")
    stack.daemon = subprocess.Popen(
        [
            str(BIN / "reconcilerd"),
            "--manifest",
            "current/manifest.yaml",
            "--state-dir",
            "state",
            "--metrics-port",
            "0",
        ],
        cwd=stack.folder,
        stdout=log,
        stderr=log,
    )
    log.close()
    wait_for("version 1", lambda: stack.answers("1.0.0"))
    other = stack.folder / "next"
    other.symlink_to(new)
    os.replace(other, link)
    wait_for("version 2", lambda: stack.answers("2.0.0"), 30)


@pytest.mark.fault("E3", "E4")
def test_a_bad_manifest_must_change_nothing_and_be_recorded_once(deployed: Stack) -> None:
    ids = {c.id for c in deployed.containers()}
    deployed.write(deployed.manifest().replace("port: 3000", "port: many"))
    wait_for("the problem in status", lambda: not deployed.status()["manifest"]["valid"])
    time.sleep(1.0)
    told = [
        r for r in deployed.history() if r["kind"] == "cycle" and any("manifest.yaml:5:9" in p for p in r["problems"])
    ]
    assert len(told) == 1
    assert {c.id for c in deployed.containers()} == ids
    deployed.path.unlink()
    wait_for(
        "its absence in status", lambda: "there is no manifest.yaml" in str(deployed.status()["manifest"]["problems"])
    )
    assert {c.id for c in deployed.containers()} == ids
    deployed.containers("app")[0].remove(force=True)
    wait_for("healing goes on", deployed.answers)


@pytest.mark.fault("E10")
def test_a_denied_update_must_wait_while_healing_goes_on(deployed: Stack) -> None:
    deployed.write(
        deployed.manifest(service='version: "2.0.0"').replace("min_disk_free_gb: 0.1", "min_disk_free_gb: 900000")
    )
    wait_for("the denial", lambda: "DENIED: Disk space below 900000GB" in deployed.service()["reason"])
    deployed.containers("app")[0].remove(force=True)
    wait_for("healing", lambda: deployed.answers("1.0.0"))
    deployed.write(deployed.manifest(service='version: "2.0.0"'))
    wait_for("the update", lambda: deployed.answers("2.0.0"))


@pytest.mark.fault("J1", "J3", "J5")
def test_a_second_daemon_must_be_refused(deployed: Stack, tmp_path: Path) -> None:
    same = subprocess.run(
        [str(BIN / "reconcilerd"), "--state-dir", "state"],
        cwd=deployed.folder,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert same.returncode == 3
    assert str(deployed.daemon.pid) in same.stderr  # type: ignore[union-attr]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(deployed.path, elsewhere)
    other = subprocess.run(
        [str(BIN / "swiftdeploy"), "deploy"], cwd=elsewhere, capture_output=True, text=True, timeout=60
    )
    assert other.returncode == 1
    assert "another state directory" in other.stderr
    assert deployed.answers()


@pytest.mark.fault("J5")
def test_torn_down_must_stay_down_until_deploy(deployed: Stack) -> None:
    assert deployed.run("teardown").returncode == 0
    time.sleep(1.0)
    assert deployed.containers() == []
    assert deployed.status()["state"] == "torn_down"
    assert deployed.run("deploy").returncode == 0
    assert deployed.answers()


def test_policies_that_do_not_load_must_keep_the_last_good_manifest(deployed: Stack) -> None:
    policies = deployed.folder / "policies"
    policies.mkdir()
    (policies / "mine.rego").write_text("package swiftdeploy.infrastructure.user\n\ndeny contains 'x'\n")
    deployed.write(deployed.manifest(service='version: "2.0.0"'))
    wait_for("OPA's own message", lambda: "rego_parse_error" in str(deployed.status()["manifest"]["problems"]))
    assert deployed.answers("1.0.0")
    (policies / "mine.rego").write_text(
        "package swiftdeploy.infrastructure.user\n\nimport rego.v1\n\n"
        'deny contains "not on a Monday" if input.cpus > 0\n'
    )
    wait_for("the policy's word", lambda: "not on a Monday" in deployed.service()["reason"])
    (policies / "mine.rego").unlink()
    wait_for("the update", lambda: deployed.answers("2.0.0"))


@pytest.mark.fault("A5", "A7")
def test_hup_must_wake_and_term_must_end_cleanly(deployed: Stack) -> None:
    number = deployed.status()["last_cycle"]["number"]
    assert deployed.daemon is not None
    deployed.daemon.send_signal(signal.SIGHUP)
    wait_for("a cycle", lambda: deployed.status()["last_cycle"]["number"] > number, 5)
    began = time.monotonic()
    assert deployed.stop(signal.SIGTERM) == 0
    assert time.monotonic() - began < 10
    assert deployed.answers()


def hardened(config: dict[str, Any]) -> dict[str, Any]:
    host = config["HostConfig"]
    return {
        "user": config["Config"]["User"].split(":")[0] not in ("", "0", "root"),
        "capabilities": host["CapDrop"] == ["ALL"] and not host["CapAdd"],
        "privileges": "no-new-privileges" in " ".join(host["SecurityOpt"]) and not host["Privileged"],
        "read_only": host["ReadonlyRootfs"],
        "pids": 0 < host["PidsLimit"] <= 512,
        "logs": host["LogConfig"]["Config"].get("max-size") is not None,
    }


def test_every_container_must_be_hardened_and_only_nginx_published(deployed: Stack) -> None:
    for container in deployed.containers():
        assert all(hardened(container.attrs).values()), (container.name, hardened(container.attrs))
        published = bool(container.attrs["HostConfig"]["PortBindings"])
        assert published == (container.labels["io.swiftdeploy.service"] == "nginx")
    (opa,) = deployed.containers("opa")
    assert list(opa.attrs["NetworkSettings"]["Networks"]) == ["none"]
    assert {m["Name"] for m in deployed.containers("app")[0].attrs["Mounts"]} == {f"{deployed.project}-logs"}


@pytest.mark.fault("B34")
def test_a_subnet_taken_meanwhile_must_be_chosen_anew(stack: Stack) -> None:
    assert stack.run("deploy").returncode == 0
    (network,) = stack.engine.networks.list(names=[f"{stack.project}-net"])
    config = network.attrs["IPAM"]["Config"][0]
    assert stack.run("teardown").returncode == 0
    pool = docker.types.IPAMPool(subnet=config["Subnet"])
    squatter = stack.engine.networks.create(
        f"{stack.project}-squatter", ipam=docker.types.IPAMConfig(pool_configs=[pool])
    )
    try:
        assert stack.run("deploy").returncode == 0
        assert stack.answers()
    finally:
        squatter.remove()


@pytest.mark.fault("E2")
def test_a_renamed_service_must_take_over_without_a_gap(deployed: Stack) -> None:
    load = subprocess.Popen(
        [sys.executable, str(LOAD), str(deployed.port), "15", "4"], stdout=subprocess.PIPE, text=True
    )
    try:
        deployed.write(deployed.manifest(service='name: web\nversion: "2.0.0"'))
        wait_for("the new name", lambda: deployed.answers("2.0.0"))
        deployed.wait_converged()
        counts: dict[str, int] = json.loads(load.communicate(timeout=120)[0])
    finally:
        load.kill()
    assert list(counts) == ["200"], counts
    assert deployed.containers("app") == []
    assert [service["name"] for service in deployed.status()["services"]] == ["web"]


def test_another_project_name_must_be_refused_while_the_first_runs(deployed: Stack) -> None:
    deployed.write(deployed.manifest().replace(f"name: {deployed.project}\n", f"name: {deployed.project}x\n", 1))
    wait_for("the refusal", lambda: "this state directory runs" in str(deployed.status()["manifest"]["problems"]))
    assert deployed.answers()


def test_replaced_folders_must_be_told_and_mended_with_a_word(deployed: Stack) -> None:
    shutil.rmtree(deployed.rendered(""))
    wait_for("the trouble in status", lambda: deployed.status()["state"] == "degraded")
    assert deployed.answers()
    assert "--allow-interruption" in str(deployed.status()["last_cycle"]["notes"])
    done = deployed.run("deploy", "--allow-interruption")
    assert done.returncode == 0, done.stderr
    deployed.write(deployed.manifest(service='version: "2.0.0"'))
    wait_for("an update", lambda: deployed.answers("2.0.0"))
