"""One function per row of the table. Each sets up what it needs, measures, and cleans up."""

from __future__ import annotations

import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import docker
import yaml

from bench import peers
from tests.e2e.stack import BIN, IMAGE, Stack, free_port, wait_for

LOAD = Path(__file__).resolve().parents[1] / "tests" / "e2e" / "load.py"
HEALTH = (
    "healthcheck:\n  path: /healthz\n  interval: 1s\n  retries: 30\n"
    '  test: ["CMD", "python3", "-c", "import urllib.request as u; u.urlopen(\'http://127.0.0.1:3000/healthz\')"]\n'
)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    ours: str
    peer: str
    ratio: str
    target: str
    met: bool


@contextmanager
def stack(service: str = "") -> Iterator[Stack]:
    """A project in a folder of its own, gone afterwards."""
    engine = docker.from_env()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        made = Stack(Path(folder), engine)
        made.write(made.manifest(service=service))
        try:
            yield made
        finally:
            made.clean()
            engine.close()


@contextmanager
def deployed(service: str = "") -> Iterator[Stack]:
    """The same, running under a daemon."""
    with stack(service) as made:
        made.start()
        made.wait_converged()
        yield made


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` took."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def median(values: list[float]) -> float:
    return statistics.median(values)


def ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"


def compose(made: Stack, *args: str) -> subprocess.CompletedProcess[bytes]:
    """Docker Compose on the rendered file."""
    command = [*peers.compose(), "-f", str(made.rendered("docker-compose.yml")), *args]
    return subprocess.run(command, capture_output=True, check=False, timeout=300)


# ---------------------------------------------------------------- rows


def idle_cycle() -> Iterator[Row]:
    """A cycle that finds nothing to do beside `docker compose up -d` that finds nothing to do, three containers."""
    from reconciler import wiring
    from reconciler.adapters.state_dir import StateDir
    from reconciler.core.record import Trigger
    from reconciler.formats.daemon_config import NO_CONFIG
    from reconciler.loop import Wake

    with stack(HEALTH) as made:
        assert made.run("deploy").returncode == 0
        state_dir = made.folder / "state"
        ours, theirs = [], []
        with (
            wiring.followed(NO_CONFIG, made.path, state_dir) as source,
            StateDir(state_dir) as state,
            wiring.loop_of(state_dir, source, state, lambda _cycle: None) as loop,
        ):
            loop.turn([Wake(Trigger("start"))])
            for _ in range(15):
                ours += [timed(lambda: loop.turn([Wake(Trigger("interval"))])) for _ in range(3)]
                theirs.append(timed(lambda: compose(made, "up", "-d")))
            assert loop.latest is not None
            assert loop.latest.is_converged, str(loop.latest.plan)
        up = compose(made, "up", "-d")
        untouched = up.returncode == 0 and b"Recreate" not in up.stderr
        us, them = median(ours), median(theirs)
        note = "" if untouched else " (it changed something)"
        yield Row(
            "a cycle with nothing to do, 3 containers",
            ms(us),
            f"compose up -d: {ms(them)}{note}",
            f"{us / them:.2f}",
            "≤ 0.20",
            us <= them / 5,
        )


def first_deployment() -> Iterator[Row]:
    """From nothing to healthy beside `docker compose up -d --wait` of the rendered file."""
    with stack(HEALTH) as made:
        ours, theirs = [], []
        assert made.run("deploy").returncode == 0
        for _ in range(5):
            assert made.run("teardown").returncode == 0
            theirs.append(timed(lambda: compose(made, "up", "-d", "--wait")))
            compose(made, "down", "-v", "-t", "1")
            ours.append(timed(lambda: made.run("deploy")))
        us, them = median(ours), median(theirs)
        yield Row(
            "first deployment to healthy",
            f"{us:.2f} s",
            f"compose up --wait: {them:.2f} s",
            f"{us / them:.2f}",
            "≤ 1.00",
            us <= them,
        )


def updates() -> Iterator[Row]:
    """20 updates under keep-alive load, half POST, clients that never retry."""
    ours = _updates_of_ours(20)
    theirs = _updates_of_compose(20)
    swarm = _updates_of_swarm(5)
    lost, asked = _lost(ours), sum(ours.values())
    peer = "; ".join(
        f"{name}: {_lost(counts):,} of {sum(counts.values()):,}"
        for name, counts in (("compose", theirs), ("swarm, 5", swarm))
    )
    yield Row(
        "20 updates under load: requests lost",
        f"{lost} of {asked:,}",
        peer,
        "-",
        "0, ≥ 100,000",
        lost == 0 and asked >= 100_000,
    )


def _lost(counts: dict[str, int]) -> int:
    return sum(count for answer, count in counts.items() if answer != "200")


@contextmanager
def _load(port: int, seconds: float, clients: int = 16) -> Iterator[Callable[[], dict[str, int]]]:
    process = subprocess.Popen(
        [sys.executable, str(LOAD), str(port), str(seconds), str(clients)], stdout=subprocess.PIPE, text=True
    )
    try:
        yield lambda: dict(json.loads(process.communicate(timeout=seconds + 60)[0]))
    finally:
        process.kill()


def _updates_of_ours(count: int) -> dict[str, int]:
    with deployed() as made, _load(made.port, count * 5.0) as counted:
        for number in range(count):
            began = time.monotonic()
            made.write(made.manifest(service=f'version: "2.{number}.0"'))
            wait_for(f"update {number}", lambda n=number: made.answers(f"2.{n}.0"))
            made.wait_converged()
            time.sleep(max(0.0, 4.5 - (time.monotonic() - began)))
        return counted()


def _updates_of_compose(count: int) -> dict[str, int]:
    """The service published by Compose itself, recreated by `up`: what a plain Compose user does."""
    with tempfile.TemporaryDirectory() as folder:
        port, path = free_port(), Path(folder) / "compose.yaml"
        project = Path(folder).name.replace("_", "").lower()
        command = [*peers.compose(), "-p", project, "-f", str(path)]

        def up(version: str) -> None:
            environment = {"MODE": "stable", "APP_PORT": "3000", "APP_VERSION": version}
            service = {"image": IMAGE, "environment": environment, "ports": [f"{port}:3000"]}
            path.write_text(yaml.safe_dump({"services": {"app": service}}))
            subprocess.run([*command, "up", "-d"], check=True, capture_output=True)

        up("1.0.0")
        try:
            with _load(port, count * 3.0) as counted:
                for number in range(count):
                    up(f"2.{number}.0")
                    time.sleep(1.0)
                return counted()
        finally:
            subprocess.run([*command, "down", "-t", "1"], check=False, capture_output=True)


def _updates_of_swarm(count: int) -> dict[str, int]:
    """`docker service update --update-order start-first`; two replicas and nginx on the overlay, by DNS."""
    client = docker.from_env()
    was_active = client.info()["Swarm"]["LocalNodeState"] == "active"
    if not was_active:
        client.swarm.init(advertise_addr="127.0.0.1", listen_addr="127.0.0.1:2377")
    name, port = "bench-swarm", free_port()
    run = lambda *args: subprocess.run(["docker", *args], check=True, capture_output=True)  # noqa: E731
    try:
        run("network", "create", "-d", "overlay", "--attachable", name)
        run(
            "service", "create", "--name", name, "--network", name, "--endpoint-mode", "dnsrr", "--replicas", "2",
            "--update-order", "start-first", "--update-monitor", "1s", "--no-resolve-image", "-e", "APP_PORT=3000",
            "-e", "MODE=stable", "-e", "APP_VERSION=1.0.0", IMAGE,
        )  # fmt: skip
        config = (
            "events {} pid /tmp/n.pid; daemon off; http { resolver 127.0.0.11 valid=1s; access_log off; "
            f"server {{ listen {port}; location / {{ set $u tasks.{name}; proxy_pass http://$u:3000; "
            'proxy_http_version 1.1; proxy_set_header Connection ""; } } }'
        )
        image = next(tag for i in client.images.list() for tag in i.tags if tag.startswith("swiftdeploy-local/nginx:"))
        run("run", "-d", "--name", name, "--network", name, "-p", f"{port}:{port}", "--entrypoint", "sh", image,
            "-c", f"printf '%s' '{config}' > /tmp/n.conf && exec nginx -c /tmp/n.conf")  # fmt: skip
        time.sleep(5)
        with _load(port, count * 12.0) as counted:
            for number in range(count):
                run("service", "update", "--no-resolve-image", "--env-add", f"APP_VERSION=2.{number}.0", name)
            return counted()
    except (subprocess.CalledProcessError, StopIteration) as error:
        return {f"not run: {error}": 0}
    finally:
        for args in (("rm", "-f", name), ("service", "rm", name)):
            subprocess.run(["docker", *args], check=False, capture_output=True)
        time.sleep(3)
        subprocess.run(["docker", "network", "rm", name], check=False, capture_output=True)
        if not was_active:
            client.swarm.leave(force=True)


def reaction() -> Iterator[Row]:
    """Manifest renamed into place → first action begins: the time of the intent record."""
    delays = []
    with deployed() as made:
        for number in range(12):
            time.sleep(1)  # at rest: what follows an update is not what is measured
            seen = len(made.history())
            made.write(made.manifest(service=f'version: "3.{number}.0"'))
            began = time.time()

            def acts(since: int = seen) -> list[str]:
                return [r["timestamp"] for r in made.history()[since:] if r["kind"] == "intent"]

            first = wait_for("an action", acts)[0]
            delays.append(datetime.fromisoformat(first).timestamp() - began)
            made.wait_converged()
    p50 = median(delays)
    yield Row("manifest renamed → first action, p50", ms(p50), "-", "-", "≤ 100 ms", p50 <= 0.1)


def healing() -> Iterator[Row]:
    """A killed container → its replacement is healthy, beside a bare `docker run` until it is.

    Asked at the container's own address, anew every 20 ms: a request that nginx holds meanwhile is answered when
    TCP sends its first packet again, a second later.
    """
    ours, theirs = [], []
    with deployed() as made:
        client = made.engine
        for _ in range(6):
            (container,) = made.containers("app")
            (address,) = [net["IPAddress"] for net in container.attrs["NetworkSettings"]["Networks"].values()]
            made.wait_converged()
            time.sleep(11)  # one that dies again within ten seconds is left alone for a moment: a crash loop
            container.kill()
            ours.append(timed(lambda where=address: wait_for("health", lambda: _is_healthy(where, 3000))))
            theirs.append(_bare_run(client))
    us, them = median(ours), median(theirs)
    peer = f"bare docker run: {ms(them)}"
    yield Row("container killed → healthy again", ms(us), peer, f"{us / them:.2f}", "≤ 1.20", us <= 1.2 * them)


def _is_healthy(address: str, port: int) -> bool:
    connection = http.client.HTTPConnection(address, port, timeout=0.1)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    finally:
        connection.close()


def _bare_run(client: docker.DockerClient) -> float:
    began = time.perf_counter()
    environment = {"APP_PORT": "3000", "MODE": "stable"}
    container = client.containers.run(IMAGE, detach=True, environment=environment)
    try:
        container.reload()
        address = container.attrs["NetworkSettings"]["IPAddress"]
        wait_for("health", lambda: _is_healthy(address, 3000))
        return time.perf_counter() - began
    finally:
        container.remove(force=True)


def planner() -> Iterator[Row]:
    """A plan over 10,000 containers in memory: all healthy, and a tenth of them dead."""
    import dataclasses

    from reconciler.core.observed import Health, Slot, Status
    from reconciler.core.planner import make_plan
    from reconciler.core.rollout import Group, Rollout
    from tests.builders import container, desired, nginx, observed, opa, service, state, targets, wish

    services = tuple(service(name=f"s{n}", replicas=10) for n in range(1000))
    wanted = desired(*services)
    made = targets(wanted)
    found = []
    for each in services:
        for replica in range(10):
            dead = replica == 3
            found.append(
                container(
                    made.wanted[each.name],
                    replica=replica,
                    id=f"{each.name}-{replica}",
                    name=f"{each.name}-{replica}",
                    service=each.name,
                    status=Status.EXITED if dead else Status.RUNNING,
                    health=Health.UNKNOWN if dead else Health.READY,
                )
            )
    seen = observed(*found, nginx(), opa())
    seen = dataclasses.replace(seen, proxy=dataclasses.replace(seen.proxy, weights={s.name: 0 for s in services}))
    rollout = Rollout({s.name: state(service=s.name, stable=Group(made.wanted[s.name], Slot.BLUE)) for s in services})
    wishes = wish(wanted, made)
    assert len(make_plan(wishes, seen, rollout).steps) == 2000
    took = median([timed(lambda: make_plan(wishes, seen, rollout)) for _ in range(9)])
    yield Row("planner, 10,000 containers", ms(took), "-", "-", "≤ 100 ms", took <= 0.1)


def idle_daemon() -> Iterator[Row]:
    """Memory and processor time of a daemon with nothing to do, over a minute, three containers."""
    with deployed() as made:
        assert made.daemon is not None
        time.sleep(20)
        before, began = _cpu_s(made.daemon.pid), time.monotonic()
        time.sleep(60)
        share = (_cpu_s(made.daemon.pid) - before) / (time.monotonic() - began) * 100
        resident = _resident_mb(made.daemon.pid)
    bare = "import docker, yaml, structlog, jinja2, jsonschema, watchdog.observers, prometheus_client"
    floor = subprocess.run(
        [sys.executable, "-c", f"{bare}\nprint(int(open('/proc/self/statm').read().split()[1]) * 4 / 1024)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    only = float(floor.stdout)
    yield Row(
        "daemon idle, resident",
        f"{resident:.1f} MB",
        f"the libraries alone: {only:.1f} MB",
        f"{resident / only:.2f}",
        "≤ 50 MB",
        resident <= 50,
    )
    yield Row("daemon idle, of one core", f"{share:.2f} %", "-", "-", "≤ 0.5 %", share <= 0.5)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def cold_commands() -> Iterator[Row]:
    """`status` against a daemon and `--help`, as whole processes."""
    program = str(BIN / "swiftdeploy")
    with deployed() as made:
        status = median([timed(lambda: made.run("status", "--once")) for _ in range(9)])
        helped = median(
            [timed(lambda: subprocess.run([program, "--help"], capture_output=True, check=True)) for _ in range(9)]
        )
        ps = median([timed(lambda: compose(made, "ps")) for _ in range(9)])
    yield Row("status from cold", ms(status), f"compose ps: {ms(ps)}", f"{status / ps:.2f}", "≤ 250 ms", status <= 0.25)
    yield Row("--help from cold", ms(helped), "-", "-", "≤ 120 ms", helped <= 0.12)


ROWS = {
    "planner": planner,
    "cycle": idle_cycle,
    "deploy": first_deployment,
    "reaction": reaction,
    "healing": healing,
    "cold": cold_commands,
    "idle": idle_daemon,
    "updates": updates,
}
