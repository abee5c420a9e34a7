"""The Compose file and Compose's own hash of it.

The hashes in the golden file were printed by Compose 2.26.1 and 2.40.3 themselves. Where a Compose binary is at hand
(SWIFTDEPLOY_COMPOSE, or a plugin or program of that name) it is asked again.
"""

from __future__ import annotations

import dataclasses
import functools
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck as Check
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core.container import ContainerSpec, PublishedPort
from reconciler.core.desired import HealthCheck, Mount, Nginx, Route
from reconciler.core.errors import RenderError
from reconciler.core.observed import Slot
from reconciler.formats.compose import ComposeService, ComposeView, compose_labels, config_hashes, render
from reconciler.formats.compose_hash import NEWEST_CHECKED, OLDEST_CHECKED, go_duration, go_float32, go_json
from reconciler.formats.nginx import ProxyView, Upstreams
from reconciler.formats.nginx import render as render_nginx

GOLDEN = Path(__file__).parent.parent / "golden"
FOLDER = "/srv/demo/rendered"


def spec(**changes: Any) -> ContainerSpec:
    plain = ContainerSpec(image="app:1", image_id="sha256:aa", network="demo-net", user="65534:65534", tmpfs=("/tmp",))
    return dataclasses.replace(plain, **changes)


def service(name: str = "app-blue", depends_on: tuple[tuple[str, str], ...] = (), **changes: Any) -> ComposeService:
    aliases = () if changes.get("network", name) is None else (name,)
    return ComposeService(name, spec(**changes), aliases, depends_on)


def view(*services: ComposeService, **changes: Any) -> ComposeView:
    plain = ComposeView("demo", services or (service(),), "demo-net", "bridge", (("logs", "demo-logs"),))
    return dataclasses.replace(plain, **changes)


STACK = view(
    service(
        environment=(("MODE", "stable"), ("APP_VERSION", "1.10"), ("PRICE", "5 $ and ${HOME}"), ("EMPTY", "")),
        mounts=(Mount("volume", "logs", "/var/log/app"), Mount("bind", "/srv/data", "/data", read_only=True)),
        healthcheck=HealthCheck(test=("CMD", "wget", "-q", "http://127.0.0.1:3000/healthz"), start_period_s=1.5),
        memory_bytes=268435456,
        cpus=0.5,
        stop_grace_period_s=90.0,
        labels=(("owner", "shop <a&b>"),),
    ),
    service(
        "app-green",
        command=("serve", "--name", 'quote " backslash \\ line\nend'),
        entrypoint=(),
        mounts=(Mount("tmpfs", "", "/cache"),),
        cap_add=("NET_BIND_SERVICE",),
        init=True,
        read_only=False,
        healthcheck=HealthCheck(),
        working_dir="/srv",
        hostname="green",
        user=None,
        tmpfs=(),
    ),
    service(
        "nginx",
        (("app-green", "service_healthy"), ("app-blue", "service_healthy")),
        image="nginx:latest",
        entrypoint=("nginx",),
        command=("-c", "/etc/nginx/live/nginx.conf", "-e", "stderr"),
        ports=(PublishedPort(8080, 8080), PublishedPort(8081, 8081, "127.0.0.1")),
        mounts=(Mount("bind", "./nginx/compose", "/etc/nginx/live", read_only=True),),
        stop_signal="SIGQUIT",
    ),
    service("opa", image="opa:1", network=None, restart_policy="no", tmpfs=()),
)


# ── the bytes ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_text_is_the_golden_one():
    text = render(STACK)
    if os.environ.get("UPDATE_GOLDEN"):
        (GOLDEN / "docker-compose.yml").write_text(text)
    assert text == (GOLDEN / "docker-compose.yml").read_text()


def test_equal_views_give_equal_bytes():
    shuffled = tuple(
        dataclasses.replace(
            each,
            depends_on=each.depends_on[::-1],
            spec=dataclasses.replace(each.spec, environment=each.spec.environment[::-1]),
        )
        for each in reversed(STACK.services)
    )
    assert render(dataclasses.replace(STACK, services=shuffled)) == render(STACK)


def test_the_file_reads_as_what_was_meant():
    document = yaml.safe_load(render(STACK))
    assert document["name"] == "demo"
    assert document["networks"] == {"default": {"name": "demo-net", "driver": "bridge"}}
    assert document["volumes"] == {"logs": {"name": "demo-logs"}}
    blue = document["services"]["app-blue"]
    assert blue["environment"]["PRICE"] == "5 $$ and $${HOME}"
    assert blue["healthcheck"]["start_period"] == "1.5s"
    assert blue["stop_grace_period"] == "1m30s"
    assert blue["volumes"] == [
        {"type": "volume", "source": "logs", "target": "/var/log/app"},
        {
            "type": "bind",
            "source": "/srv/data",
            "target": "/data",
            "read_only": True,
            "bind": {"create_host_path": False},
        },
    ]
    assert document["services"]["nginx"]["ports"] == [
        {"mode": "ingress", "target": 8080, "published": "8080", "protocol": "tcp"},
        {"mode": "ingress", "host_ip": "127.0.0.1", "target": 8081, "published": "8081", "protocol": "tcp"},
    ]
    assert document["services"]["opa"]["network_mode"] == "none"
    assert "networks" not in document["services"]["opa"]
    assert document["services"]["app-green"]["entrypoint"] == []


def test_every_container_is_hardened():
    for each in yaml.safe_load(render(STACK))["services"].values():
        assert each["cap_drop"] == ["ALL"]
        assert each["security_opt"] == ["no-new-privileges:true"]
        assert each["pids_limit"] == 256
        assert each["logging"]["options"] == {"max-file": "3", "max-size": "10m"}
        assert not set(each) & {"privileged", "devices", "pid", "ipc", "userns_mode", "extra_hosts", "deploy"}


def test_a_project_without_networks_or_volumes_declares_none():
    document = yaml.safe_load(render(view(service("opa", network=None), volumes=())))
    assert set(document) == {"name", "services"}


def test_replicas_are_a_scale():
    many = dataclasses.replace(service(), replicas=3)
    assert yaml.safe_load(render(view(many)))["services"]["app-blue"]["scale"] == 3
    assert config_hashes(view(many)) == config_hashes(view(service()))


def test_healthy_means_started_where_compose_has_nothing_to_run():
    waiting = (("app-blue", "service_healthy"),)
    for check, expected in (
        (HealthCheck(), "service_started"),
        (None, "service_started"),
        (HealthCheck(test=("CMD", "true")), "service_healthy"),
    ):
        document = yaml.safe_load(render(view(service(healthcheck=check), service("nginx", waiting))))
        assert document["services"]["nginx"]["depends_on"]["app-blue"] == {"condition": expected, "required": True}


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (view(project="Demo"), "project.name is 'Demo'"),
        (view(service("a b")), "a Compose service's name is 'a b'"),
        (view(service("x-a")), "a Compose service's name is 'x-a'"),
        (view(volumes=(("x-logs", "logs"),)), "a volume's key is 'x-logs'"),
        (view(service(), service()), "Two Compose services are called app-blue"),
        (view(service("nginx", (("nobody", "service_started"),))), "depends_on has nobody"),
        (view(service("nginx", (("nginx", "healthy"),))), "depends_on has nginx: healthy"),
        (view(service(environment=(("A=B", "c"),))), "a name in services.app-blue.environment"),
        (view(service(environment=(("<<", "c"),))), "a name in services.app-blue.environment"),
        (view(service(environment=(("", "c"),))), "a name in services.app-blue.environment"),
        (view(service(labels=(("com.docker.compose.project", "x"),))), "are Compose's own"),
        (view(service(mounts=(Mount("volume", "other", "/x"),))), "mounts the volume other"),
        (view(service(mounts=(Mount("bind", "../up", "/x"),))), "Write a bind source as"),
        (view(service(environment=(("A", "a\0b"),))), "NUL or half of a pair"),
        (view(service(environment=(("A", "\ud800"),))), "NUL or half of a pair"),
        (view(ComposeService("opa", spec(network=None), ("opa",), ())), "has no network"),
        (view(network_name="a b"), "network.name is 'a b'"),
        (view(volumes=(("logs", "../x"),)), "the name of the volume logs is '../x'"),
    ],
)
def test_what_compose_could_not_read_is_refused_by_name(broken, message):
    with pytest.raises(RenderError, match=re.escape(message)):
        render(broken)


AMBIGUOUS = (
    *("yes", "No", "on", "~", "null", "1e3", "0o17", "0x1f", "1_000", "1:30", ".inf", "2024-01-01", "=", "<<", "- a"),
    *("a: b", "a #b", "#", "&a", "*a", "!x", "%", "@", "`", "'", '"', "$", "$$", "${A}", "$(id)", " a ", "a:", ":"),
)
TEXTS = st.sampled_from(AMBIGUOUS) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20
)


def test_names_that_compose_takes_for_extensions_are_written_as_a_list():
    pairs = (("x-b", "1"), ("A", "2 $"))
    read = yaml.safe_load(render(view(service(environment=pairs, labels=pairs))))["services"]["app-blue"]
    assert read["environment"] == read["labels"] == ["A=2 $$", "x-b=1"]


@settings(max_examples=200, deadline=None)
@given(values=st.lists(TEXTS, max_size=6))
def test_any_text_survives_the_file(values):
    environment = tuple((f"V{number}", value) for number, value in enumerate(values))
    shown = view(service(environment=environment, command=tuple(values), labels=environment))
    text = render(shown)
    assert text.isascii()
    read = yaml.safe_load(text)["services"]["app-blue"]
    doubled = [value.replace("$", "$$") for value in values]
    assert read["command"] == doubled
    assert list(read.get("environment", {}).values()) == doubled
    assert list(read.get("labels", {}).values()) == doubled


# ── the hash ───────────────────────────────────────────────────────────────────────────────────────────────────────


@functools.cache
def golden_hashes() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = json.loads((GOLDEN / "compose-hashes.json").read_text())
    return found


@pytest.mark.parametrize("version", [OLDEST_CHECKED, NEWEST_CHECKED])
def test_the_hashes_are_the_ones_compose_printed(version):
    printed = golden_hashes()[".".join(str(part) for part in version)]
    assert config_hashes(STACK, working_dir=FOLDER, version=version) == printed


def test_a_hash_known_from_elsewhere():
    text = go_json(
        {
            "command": None,
            "entrypoint": None,
            "environment": {"B": "two", "A": "1"},
            "image": "shp/app:1",
            "labels": {"x": "y"},
            "networks": {"default": None},
        }
    )
    assert text == (
        '{"command":null,"entrypoint":null,"environment":{"A":"1","B":"two"},"image":"shp/app:1",'
        '"labels":{"x":"y"},"networks":{"default":null}}'
    )


def test_a_relative_source_needs_the_folder_of_the_file():
    with pytest.raises(RenderError, match="is relative"):
        config_hashes(STACK)
    assert config_hashes(STACK, working_dir="/a")["nginx"] != config_hashes(STACK, working_dir="/b")["nginx"]


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "0s"), (1, "1s"), (10.0, "10s"), (59.5, "59.5s"), (60, "1m0s"), (90, "1m30s"), (3600, "1h0m0s"),
        (3661.25, "1h1m1.25s"), (0.5, "500ms"), (0.0015, "1.5ms"), (0.000007, "7µs"), (0.1, "100ms"),
        (90000, "25h0m0s"),
    ],
)  # fmt: skip
def test_durations_read_as_go_writes_them(seconds, written):
    assert go_duration(seconds) == written


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (1.0, "1"),
        (0.5, "0.5"),
        (0.1, "0.1"),
        (1.1, "1.1"),
        (16.0, "16"),
        (0.333, "0.333"),
        (1 / 3, "0.33333334"),
        (8.66015625, "8.660156"),
        (1e-7, "1e-7"),
    ],
)
def test_numbers_read_as_go_writes_them(number, written):
    assert go_float32(number) == written


def test_the_labels_are_those_by_which_compose_knows_its_own():
    labels = dict(
        compose_labels(
            STACK,
            "nginx",
            number=2,
            image_id="sha256:bb",
            working_dir=FOLDER,
            config_file=f"{FOLDER}/docker-compose.yml",
            config_hash=config_hashes(STACK, working_dir=FOLDER)["nginx"],
        )
    )
    assert labels == {
        "com.docker.compose.config-hash": golden_hashes()["2.40.3"]["nginx"],
        "com.docker.compose.container-number": "2",
        "com.docker.compose.depends_on": "app-blue:service_healthy:false,app-green:service_started:false",
        "com.docker.compose.image": "sha256:bb",
        "com.docker.compose.oneoff": "False",
        "com.docker.compose.project": "demo",
        "com.docker.compose.project.config_files": f"{FOLDER}/docker-compose.yml",
        "com.docker.compose.project.working_dir": FOLDER,
        "com.docker.compose.service": "nginx",
        "com.docker.compose.version": "2.40.3",
    }


# ── Compose itself ─────────────────────────────────────────────────────────────────────────────────────────────────


@functools.cache
def compose_command() -> tuple[str, ...]:
    """SWIFTDEPLOY_COMPOSE, else the plugin, else the program; () where there is none of version 2."""
    named = os.environ.get("SWIFTDEPLOY_COMPOSE")
    for command in ((named,), ("docker", "compose"), ("docker-compose",)):
        if command[0] and shutil.which(command[0]):
            said = subprocess.run([*command, "version", "--short"], capture_output=True, text=True, check=False)
            if said.returncode == 0 and said.stdout.strip().lstrip("v").startswith("2."):
                return tuple(str(part) for part in command)
    return ()


def compose_version() -> tuple[int, int, int]:
    said = subprocess.run([*compose_command(), "version", "--short"], capture_output=True, text=True, check=True).stdout
    major, minor, patch = re.findall(r"\d+", said)[:3]
    return int(major), int(minor), int(patch)


def ask_compose(folder: Path, shown: ComposeView, *arguments: str) -> str:
    (folder / "docker-compose.yml").write_text(render(shown))
    command = [*compose_command(), "-f", str(folder / "docker-compose.yml"), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"], "HOME": "x"}
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


def printed_hashes(folder: Path, shown: ComposeView) -> dict[str, str]:
    return dict(line.split() for line in ask_compose(folder, shown, "config", "--hash", "*").splitlines())


needs_compose = pytest.mark.skipif(not compose_command(), reason="no Compose 2 here (PATH or SWIFTDEPLOY_COMPOSE)")


@needs_compose
def test_compose_takes_the_file_and_says_the_same_hashes(tmp_path):
    expected = config_hashes(STACK, working_dir=str(tmp_path), version=compose_version())
    assert printed_hashes(tmp_path, STACK) == expected


@needs_compose
def test_compose_reads_back_what_was_meant(tmp_path):
    read = json.loads(ask_compose(tmp_path, STACK, "config", "--format", "json"))
    ours = yaml.safe_load(render(STACK))
    assert set(read["services"]) == set(ours["services"])
    for name, fields in ours["services"].items():
        for field in set(fields) - {"volumes", "networks", "mem_limit"}:
            assert read["services"][name][field] == fields[field], (name, field)
    assert read["services"]["app-blue"]["mem_limit"] == "268435456"
    assert read["networks"]["default"]["name"] == "demo-net"
    assert read["volumes"]["logs"]["name"] == "demo-logs"


NAMES = st.from_regex(r"(x-)?[A-Za-z_][A-Za-z0-9_.-]{0,9}", fullmatch=True)
PAIRS = st.dictionaries(NAMES, TEXTS, max_size=3).map(lambda found: tuple(found.items()))
WORDS = st.none() | st.lists(TEXTS, max_size=3).map(tuple)
SECONDS = st.integers(0, 100_000).map(float) | st.integers(1, 10_000_000).map(lambda micro: micro / 1_000_000)
MOUNTS = (
    Mount("volume", "logs", "/l"),
    Mount("bind", "./x", "/x", read_only=True),
    Mount("bind", "/y/../z", "/y"),
    Mount("tmpfs", "", "/t"),
)
SPECS = st.builds(
    spec,
    network=st.sampled_from(["demo-net", None]),
    command=WORDS,
    entrypoint=WORDS,
    environment=PAIRS,
    labels=PAIRS,
    user=st.none() | st.just("1000:1000"),
    working_dir=st.none() | st.just("/w"),
    hostname=st.none() | st.just("h"),
    mounts=st.lists(st.sampled_from(MOUNTS), unique=True, max_size=4).map(tuple),
    tmpfs=st.sampled_from([(), ("/tmp",), ("/tmp:size=64m", "/run")]),
    read_only=st.booleans(),
    cap_add=st.sampled_from([(), ("CHOWN", "SETUID")]),
    init=st.booleans(),
    healthcheck=st.none()
    | st.builds(
        HealthCheck,
        test=st.sampled_from([None, ("CMD", "a"), ("CMD-SHELL", "a && b > $X"), ("NONE",)]),
        interval_s=SECONDS.filter(bool),
        timeout_s=SECONDS.filter(bool),
        start_period_s=SECONDS,
    ),
    restart_policy=st.sampled_from(["no", "always", "unless-stopped", "on-failure:3"]),
    stop_signal=st.none() | st.just("SIGINT"),
    stop_grace_period_s=SECONDS,
    memory_bytes=st.none() | st.integers(6_291_456, 2**40),
    cpus=st.none() | st.floats(0.001, 64),
    pids=st.integers(1, 100_000),
)  # fmt: skip


@needs_compose
@settings(max_examples=20, deadline=None, suppress_health_check=list(Check))
@given(specs=st.lists(SPECS, min_size=1, max_size=25))
def test_any_service_has_the_hash_that_compose_says(tmp_path, specs):
    services = tuple(ComposeService(f"s{number}", each, (), ()) for number, each in enumerate(specs))
    expected = config_hashes(view(*services), working_dir=str(tmp_path), version=compose_version())
    assert printed_hashes(tmp_path, view(*services)) == expected


# ── Compose and an engine ──────────────────────────────────────────────────────────────────────────────────────────


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def local_nginx() -> str:
    """An nginx image that is already here, or ""."""
    if not shutil.which("docker"):
        return ""
    listed = ["docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}"]
    images = subprocess.run(listed, capture_output=True, text=True, check=False).stdout.split()
    return next((image for image in images if re.search(r"(^|/)nginx:", image) and "<none>" not in image), "")


@dataclasses.dataclass
class Stack:
    """A project of its own name: nginx before one service, which is another nginx that answers 404 in JSON."""

    folder: Path
    name: str
    port: int
    image: str

    @functools.cached_property
    def view(self) -> ComposeView:
        network = f"{self.name}-net"
        image_id = docker("image", "inspect", "--format", "{{.Id}}", self.image)
        plain = spec(
            image=self.image,
            image_id=image_id,
            network=network,
            entrypoint=("nginx",),
            command=("-c", "/etc/nginx/live/nginx.conf", "-e", "stderr"),
            tmpfs=("/tmp", "/run/swiftdeploy"),
            stop_signal="SIGQUIT",
            environment=(("PRICE", "5 $HOME"),),
        )
        app = dataclasses.replace(
            plain,
            mounts=(Mount("bind", "./app", "/etc/nginx/live", read_only=True), Mount("volume", "logs", "/logs")),
            healthcheck=HealthCheck(test=("CMD", "nginx", "-v"), interval_s=1.0),
        )
        proxy = dataclasses.replace(
            plain,
            mounts=(Mount("bind", "./nginx", "/etc/nginx/live", read_only=True),),
            ports=(PublishedPort(self.port, self.port, "127.0.0.1"),),
        )
        services = (
            ComposeService("app-blue", app, ("app-blue",), ()),
            ComposeService("nginx", proxy, ("nginx",), (("app-blue", "service_healthy"),)),
        )
        return ComposeView(self.name, services, network, "bridge", (("logs", f"{self.name}-logs"),))

    def write(self) -> None:
        empty = ProxyView(Nginx("nginx", 3000, service_name="the app"), (), "/x", "/run/swiftdeploy/x.sock", "demo")
        members = {Slot.BLUE: ("app-blue:3000",)}
        served = (Upstreams("app", Slot.BLUE, members, Route(), False, False),)
        proxy = dataclasses.replace(empty, nginx=Nginx("nginx", self.port), upstreams=served)
        for name, shown in (("app", empty), ("nginx", proxy)):
            (self.folder / name).mkdir(exist_ok=True)
            (self.folder / name / "nginx.conf").write_text(render_nginx(shown))
            (self.folder / name).chmod(0o755)
        self.file.write_text(render(self.view))
        self.folder.chmod(0o755)

    @property
    def file(self) -> Path:
        return self.folder / "docker-compose.yml"

    def compose(self, *arguments: str) -> str:
        command = [*compose_command(), "-f", str(self.file), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def ask(self) -> tuple[int, http.client.HTTPMessage, bytes]:
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        line.request("GET", "/")
        answer = line.getresponse()
        return answer.status, answer.headers, answer.read()

    def create_as_we_do(self, number: int = 1) -> str:
        """The service's container as our own engine driver makes it: by the engine's API, with Compose's labels."""
        labels = compose_labels(
            self.view,
            "app-blue",
            number=number,
            image_id=self.view.services[0].spec.image_id,
            working_dir=str(self.folder),
            config_file=str(self.file),
            config_hash=config_hashes(self.view, working_dir=str(self.folder), version=compose_version())["app-blue"],
            version=compose_version(),
        )
        owner = ("--label", f"com.docker.compose.project={self.name}")
        docker("network", "create", *owner, "--label", "com.docker.compose.network=default", self.view.network_name)
        docker("volume", "create", *owner, "--label", "com.docker.compose.volume=logs", f"{self.name}-logs")
        container = docker(
            *("create", "--name", f"{self.name}-app-blue-x-g1", "--network", self.view.network_name),
            *("--network-alias", "app-blue", "--entrypoint", "nginx", "--user", "65534:65534", "--tmpfs", "/tmp"),
            *("--tmpfs", "/run/swiftdeploy", "--volume", f"{self.folder}/app:/etc/nginx/live:ro"),
            *("--volume", f"{self.name}-logs:/logs", "--health-cmd", "nginx -v", "--health-interval", "1s"),
            *(part for label in labels for part in ("--label", "=".join(label))),
            *(self.image, "-c", "/etc/nginx/live/nginx.conf", "-e", "stderr"),
        )
        docker("start", container)
        return container


@pytest.fixture
def stack() -> Iterator[Stack]:
    folder = Path(tempfile.mkdtemp(prefix="sd-compose-"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    built = Stack(folder, folder.name.lower().replace("_", "-"), port, local_nginx())
    built.write()
    yield built
    built.compose("down", "--volumes", "--timeout", "1")
    shutil.rmtree(folder)


needs_engine = pytest.mark.skipif(
    not (compose_command() and local_nginx()), reason="no Compose 2, no engine, or no nginx image here"
)


@pytest.mark.engine
@needs_engine
def test_compose_alone_starts_the_stack(stack):
    stack.compose("up", "--detach", "--wait")
    status, headers, body = stack.ask()
    assert (status, headers["X-Deployed-By"], headers["X-Served-By"]) == (404, "swiftdeploy", "app-blue")
    assert json.loads(body)["service"] == "the app"
    name = f"{stack.name}-nginx-1"
    assert docker("inspect", "--format", "{{json .HostConfig.CapDrop}}", name) == '["ALL"]'
    assert docker("inspect", "--format", "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.PidsLimit}}", name) == "true 256"
    assert "PRICE=5 $HOME" in docker("inspect", "--format", "{{json .Config.Env}}", name)
    assert "Recreate" not in stack.compose("up", "--detach", "--wait")


@pytest.mark.engine
@needs_engine
def test_up_takes_our_container_for_its_own_and_leaves_it_alone(stack):
    ours = stack.create_as_we_do()
    stack.compose("up", "--detach", "--wait")
    assert stack.compose("ps", "--all", "--quiet", "app-blue").split() == [ours]
    assert docker("inspect", "--format", "{{.Id}} {{.State.Status}} {{.RestartCount}}", ours) == f"{ours} running 0"
    assert json.loads(stack.ask()[2])["service"] == "the app"
    assert str(stack.file) in stack.compose("ls")
