"""The service under a real systemd, with a real engine: installed, killed, frozen, hung, stopped, removed."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.e2e.stack import IMAGE, wait_for
from tests.e2e.systemd_machine import CODE, CONTROL, NGINX, Machine, image_of_machines, machine

FOLDER = "/home/op/app"
MANIFEST = f"{FOLDER}/manifest.yaml"
UNIT = "/etc/systemd/system/reconcilerd.service"
STATE = "/var/lib/swiftdeploy"
KEY = "swiftdeploy.history-key"
TEXT = f"""\
project:
  name: demo
services:
  image: {IMAGE}
  port: 3000
  metrics: {{provider: ingress}}
nginx:
  image: {NGINX}
  port: 8080
network:
  name: demo-net
  driver_type: bridge
policy:
  infrastructure:
    max_cpu_load: 49
    min_disk_free_gb: 0.1
"""
QUICK = """\
[Service]
WatchdogSec=8
TimeoutAbortSec=3
RestartSec=0
ExecStart=
{command} --hang-limit 7
"""
NOTICE_S = 120


@pytest.fixture
def host(engine: docker.DockerClient, tmp_path: Path) -> Iterator[Machine]:
    with machine(engine, tmp_path) as here:
        yield here


def status(host: Machine) -> dict[str, Any]:
    """What the daemon says; it may be about to come back."""

    def said() -> Any:
        return json.loads(host.run(CONTROL, "--state-dir", STATE, "status", "--once", "-o", "json").text)

    return dict(wait_for("an answer of the daemon", said, NOTICE_S))


def answer(host: Machine) -> bool:
    return "SwiftDeploy sample service" in host.run("busybox", "wget", "-qO-", "http://127.0.0.1:8080/").text


def containers(host: Machine) -> set[str]:
    return {str(container["id"]) for container in status(host)["services"][0]["containers"]}


def wait_converged(host: Machine) -> None:
    wait_for("the stack to converge", gently(lambda: status(host)["state"] == "converged"), NOTICE_S)


def gently(check: Callable[[], Any]) -> Callable[[], Any]:
    """`check`, which starts programs in the machine, at most some times a second: what is waited for needs room."""

    def checked() -> Any:
        found = check()
        if not found:
            time.sleep(0.3)
        return found

    return checked


def wait_for_another_process(host: Machine, before: str) -> None:
    """It is started again by systemd, and ready."""

    def again() -> bool:
        return host.unit("ActiveState") == "active" and host.unit("MainPID") not in ("0", before)

    wait_for("systemd to start it again", gently(again), NOTICE_S)


@pytest.mark.fault("A5", "A10")
def test_the_service_must_outlive_what_happens_to_it(host: Machine) -> None:
    host.write(MANIFEST, TEXT)
    host.do("chmod", "700", "/home/op")
    it_is_installed_and_converges(host)
    it_is_confined(host)
    it_measures_what_nginx_sees(host)
    it_is_started_again_when_it_is_killed(host)
    it_looks_again_when_it_is_reloaded(host)
    it_is_started_again_when_it_is_frozen_or_hangs(host)
    it_stops_and_starts_while_the_containers_serve(host)
    it_installs_twice_without_effect_and_keeps_edits(host)
    it_may_write_the_mode_into_the_manifest(host)
    it_is_removed_while_the_containers_serve(host)


def it_is_installed_and_converges(host: Machine) -> None:
    assert "not installed" in host.run(CONTROL, "service", "status").text
    said = host.do(CONTROL, "service", "install", "--manifest", MANIFEST)
    assert "systemctl start reconcilerd.service" in said
    assert f"cannot write {FOLDER}" in said
    assert host.unit("ActiveState") == "active"
    assert host.unit("UnitFileState") == "enabled"
    assert host.do("systemd-analyze", "verify", UNIT) == ""
    assert exposure(host.do("systemd-analyze", "security", "--offline=true", "--no-pager", UNIT)) <= 1.5
    wait_converged(host)
    assert answer(host)
    said = host.do(CONTROL, "service", "status")
    assert re.search(r"active \(running\) since .*, process \d+", said)
    assert re.search(r"watchdog +a sign of life \d+ s ago, wanted every 30s", said)
    assert "as we wrote it" in said


def user_of(host: Machine, flag: str = "-u") -> str:
    """The service's user (`-g`: its group), as a number; now and then the engine loses what a quick command said."""
    return str(wait_for("the user's number", lambda: host.do("id", flag, "swiftdeploy").strip()))


def it_is_confined(host: Machine) -> None:
    """No right of root's, nothing to write but its own, and no home but what it needs."""
    process = host.unit("MainPID")
    facts = dict(re.findall(r"^(\w+):\s+(.*)$", host.do("cat", f"/proc/{process}/status"), re.MULTILINE))
    user = user_of(host)
    assert facts["Uid"].split() == [user] * 4
    assert {int(facts[f"Cap{kind}"], 16) for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {0}
    assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")
    inside = ("nsenter", "--target", process, "--mount", "--")
    for folder in ("/etc", "/usr", "/var/lib", "/"):
        it_is_refused(host, "Read-only file system", *inside, "touch", f"{folder}/mine")
    for folder in (STATE, "/tmp", "/var/tmp"):
        host.do(*inside, "cp", "/usr/bin/true", f"{folder}/true")
        it_is_refused(host, "Permission denied", *inside, f"{folder}/true")
        host.do(*inside, "rm", f"{folder}/true")
    host.do("mkdir", "-p", "/home/other/secret")
    assert host.do(*inside, "ls", "/home").split() == ["op"]
    assert host.do(*inside, "ls", "/home/op").split() == ["app"]


def it_is_refused(host: Machine, words: str, *command: str) -> None:
    """It fails, and says so; of a command that ends at once the engine now and then loses what it said."""
    for _ in range(5):
        done = host.run(*command)
        assert done.code != 0, f"{' '.join(command)}: it was not refused"
        if done.text:
            break
    assert words in done.text


def it_measures_what_nginx_sees(host: Machine) -> None:
    """nginx's private log is read through /proc, as the same user and without any capability."""

    def rate() -> float:
        assert answer(host)
        traffic = status(host)["traffic"]
        assert not traffic["why_unknown"] or "right" not in traffic["why_unknown"], traffic
        return traffic["req_per_sec"] or 0.0

    wait_for("requests in nginx's count", gently(lambda: rate() > 0))


def it_is_started_again_when_it_is_killed(host: Machine) -> None:
    before, process = containers(host), host.unit("MainPID")
    host.do("kill", "-KILL", process)
    wait_for_another_process(host, process)
    wait_converged(host)
    assert host.unit("NRestarts") == "1"
    assert containers(host) == before
    assert "1 by systemd" in host.do(CONTROL, "service", "status")


def it_looks_again_when_it_is_reloaded(host: Machine) -> None:
    number = status(host)["last_cycle"]["number"]
    host.do("systemctl", "reload", "reconcilerd")
    wait_for("another cycle", gently(lambda: status(host)["last_cycle"]["number"] > number))
    wait_for("the end of the reload", gently(lambda: host.unit("ActiveState") == "active"))


def it_is_started_again_when_it_is_frozen_or_hangs(host: Machine) -> None:
    """With short limits; a loop hangs here because its engine does, for longer than any step may take."""
    command = next(line for line in host.do("cat", UNIT).splitlines() if line.startswith("ExecStart="))
    host.write(f"{UNIT}.d/quick.conf", QUICK.format(command=command))
    host.do("systemctl", "daemon-reload")
    host.do("systemctl", "restart", "reconcilerd")
    wait_converged(host)
    before, process = containers(host), host.unit("MainPID")
    host.do("kill", "-STOP", process)
    wait_for("systemd to notice", gently(lambda: "Watchdog timeout" in host.journal()), NOTICE_S)
    wait_for_another_process(host, process)

    process, engine = host.unit("MainPID"), host.do("systemctl", "show", "--value", "-p", "MainPID", "docker").strip()
    host.do("kill", "-STOP", engine)
    try:
        host.do("kill", "-HUP", process)
        wait_for("the daemon to notice", gently(lambda: '"loop.hung"' in host.journal()), NOTICE_S)
        wait_for("where it hung", gently(lambda: "in observe" in host.journal()), NOTICE_S)
        wait_for("its end", gently(lambda: host.unit("MainPID") != process), NOTICE_S)
    finally:
        host.do("kill", "-CONT", engine)
    wait_for_another_process(host, process)
    wait_converged(host)
    assert containers(host) == before
    host.do("rm", "-r", f"{UNIT}.d")
    host.do("systemctl", "daemon-reload")


def it_stops_and_starts_while_the_containers_serve(host: Machine) -> None:
    """And is given the key for its history, once there is one."""
    before = containers(host)
    host.write(f"/etc/credstore/{KEY}", "not a key")
    host.do("systemctl", "stop", "reconcilerd")
    assert (host.unit("ActiveState"), host.unit("Result")) == ("inactive", "success")
    assert answer(host)
    assert host.run(CONTROL, "service", "status").code == 1
    host.do("systemctl", "start", "reconcilerd")
    user, group = user_of(host), user_of(host, "-g")
    inside = ("nsenter", "--target", host.unit("MainPID"), "--mount", "--setuid", user, "--setgid", group, "--")
    assert host.do(*inside, "cat", f"/run/credentials/reconcilerd.service/{KEY}") == "not a key"
    wait_converged(host)
    assert containers(host) == before


def it_installs_twice_without_effect_and_keeps_edits(host: Machine) -> None:
    process, text = host.unit("MainPID"), host.do("cat", UNIT)
    install = (CONTROL, "service", "install", "--manifest", MANIFEST)
    assert "It runs already" in host.do(*install)
    assert host.unit("MainPID") == process
    host.write(UNIT, text.replace("RestartSec=2", "RestartSec=7"))
    refused = host.run(*install)
    assert refused.code == 1
    assert "-RestartSec=7\n+RestartSec=2" in refused.text
    assert "changed by hand" in host.do(CONTROL, "service", "status")
    assert "RestartSec=7" in host.do("cat", UNIT)
    host.do(*install, "--force")
    assert host.do("cat", UNIT) == text


def it_may_write_the_mode_into_the_manifest(host: Machine) -> None:
    """Once the operator lets it into the folder, which is bound into its empty /home."""
    host.do("chgrp", "swiftdeploy", FOLDER)
    host.do("chmod", "g+w", FOLDER)
    assert "cannot write" not in host.do(CONTROL, "service", "install", "--manifest", MANIFEST)
    wait_converged(host)
    host.do(CONTROL, "--state-dir", STATE, "promote", "canary")
    assert "mode: canary" in host.do("cat", MANIFEST)


def it_is_removed_while_the_containers_serve(host: Machine) -> None:
    host.do(CONTROL, "service", "uninstall")
    assert host.unit("LoadState") == "not-found"
    assert host.run("ls", UNIT).code != 0
    assert host.run("pgrep", "-u", "swiftdeploy", "-f", "reconcilerd").code == 1
    assert answer(host)
    assert "nothing to remove" in host.do(CONTROL, "service", "uninstall")


# ---------------------------------------------------------------- the unit that ships


def exposure(report: str) -> float:
    found = re.search(r"Overall exposure level for reconcilerd\.service: ([0-9.]+)", report)
    assert found, report
    return float(found[1])


def test_the_unit_that_ships_must_be_exposed_to_little(engine: docker.DockerClient) -> None:
    """By systemd's own measure, of the systemd that our test machines have; a bare unit has 9.6."""
    said = engine.containers.run(
        image_of_machines(engine),
        ["systemd-analyze", "security", "--offline=true", "--no-pager", "/unit/reconcilerd.service"],
        volumes={str(CODE / "systemd"): {"bind": "/unit", "mode": "ro"}},
        network_mode="none",
        remove=True,
    )
    assert exposure(said.decode()) <= 1.5
