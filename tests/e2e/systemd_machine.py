"""A machine of its own with a real systemd as process 1 and an engine of its own, in a container.

It has this checkout and this interpreter, mounted where they are, and the images of a stack. What it needs of the host
is an engine that may give it the host's capabilities; the hierarchy of control groups it mounts itself, so that hosts
with version 1 and version 2 will do.
"""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import docker
import docker.errors
import pytest

import reconciler
from reconciler.adapters.distribution import DOCUMENTATION, Entry
from reconciler.adapters.image_recipes import FOUNDATION, GROUP, MERGED_USR, Recipe, cache_directory
from reconciler.adapters.local_images import LocalImages
from reconciler.core.desired import Opa
from tests.e2e.stack import BIN, IMAGE, wait_for

CODE = Path(reconciler.__file__).resolve().parents[1]
CONTROL = str(BIN / "reconcilerctl")
NGINX, OPA = "nginx:latest", Opa().image

# No rules of the machine's own: containers are reached by address, and published ports through docker-proxy.
ENGINE = {
    "iptables": False,
    "ip6tables": False,
    "ip-masq": False,
    "exec-opts": ["native.cgroupdriver=cgroupfs"],
    "bip": "10.199.255.1/24",
}
RECIPE = Recipe(
    name="systemd-machine",
    leading="systemd",
    suites=(("debian", ""), ("ubuntu", "")),
    packages=(
        *("systemd", "docker.io", "iptables", "python3", "busybox-static"),
        *("bash", "coreutils", "grep", "mount", "passwd", "procps", "util-linux"),
    ),
    without=(
        *(pattern for pattern in DOCUMENTATION if "systemd" not in pattern),
        *(
            f"usr/bin/{name}"
            for name in ("docker", "ctr", "dnet", "containerd-shim", "containerd-shim-runc-v1", "perl*")
        ),
        *("usr/sbin/ovrouter", "usr/lib/*/libperl*", "usr/lib/*/perl*", "usr/share/perl*", "usr/lib/udev/hwdb*"),
        "usr/lib/systemd/systemd-networkd",
    ),
    entries=(
        *FOUNDATION,
        *MERGED_USR,
        Entry("var/run", link="/run"),
        Entry("etc/machine-id", b"", mode=0o644),
        Entry("etc/group", GROUP + b"docker:x:998:\n", mode=0o644),
        Entry("etc/docker"),
        Entry("etc/docker/daemon.json", json.dumps(ENGINE).encode(), mode=0o644),
    ),
    changes=('CMD ["/usr/lib/systemd/systemd"]', "ENV container=docker"),
    check=("python3", "--version"),
)
BOOT = """
umount -R /sys/fs/cgroup || umount -l /sys/fs/cgroup
mount -o remount,rw /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup || exit 9
mount --make-rshared /
exec /usr/lib/systemd/systemd
"""
UP = ("running", "degraded")
LOAD = """
import http.client, socket, sys
for path in sys.argv[1:]:
    connection = http.client.HTTPConnection("engine")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect("/run/docker.sock")
    with open(path, "rb") as image:
        connection.request("POST", "/images/load?quiet=1", image.read(), {"Content-Type": "application/x-tar"})
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
"""
CAPABILITIES = (
    *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP"),
    *("LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER"),
    *("SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE"),
    *("SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP"),
    *("MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ"),
)
"""By number; `--privileged` would ask for all, and hosts that have given one up themselves then refuse."""


@dataclass(frozen=True, slots=True)
class Done:
    """How a command in the machine ended, and all it said."""

    code: int
    text: str


class Machine:
    """The running machine."""

    def __init__(self, container: docker.models.containers.Container) -> None:
        self._container = container

    def run(self, *command: str) -> Done:
        """As root."""
        code, text = self._container.exec_run(list(command), environment={"LC_ALL": "C.UTF-8"})
        return Done(int(code), text.decode("utf-8", "replace"))

    def do(self, *command: str) -> str:
        """The same where it must succeed; what it said."""
        done = self.run(*command)
        assert done.code == 0, f"{' '.join(command)}: {done.code}\n{done.text}"
        return done.text

    def write(self, path: str, text: str) -> None:
        """`path` holds `text`, put there whole."""
        script = 'mkdir -p "$(dirname "$1")" && printf %s "$2" > "$1.new" && mv "$1.new" "$1"'
        self.do("bash", "-c", script, "bash", path, text)

    def unit(self, name: str) -> str:
        """A property of the service, as systemd knows it."""
        return self.do("systemctl", "show", "--value", f"--property={name}", "reconcilerd.service").strip()

    def journal(self) -> str:
        """What the service and systemd said of it."""
        return self.do("journalctl", "-u", "reconcilerd.service", "--no-pager", "-o", "cat")


def image_of_machines(engine: docker.DockerClient) -> str:
    """The image, built once (half a minute) and kept like the others."""
    folder = cache_directory({}, Path.home())
    folder.mkdir(parents=True, exist_ok=True)
    images = LocalImages(engine.api, folder)
    return images._image(RECIPE, images._root_from_packages)


@contextmanager
def machine(engine: docker.DockerClient, folder: Path) -> Iterator[Machine]:
    """A machine that has booted, its engine running with the images of a stack; gone afterwards."""
    if "SYS_ADMIN" not in _our_capabilities():
        pytest.skip("this machine may not mount anything: no systemd can start in a container here")
    folder.chmod(0o755)
    saved = [_saved(engine, reference, folder) for reference in _images_of_a_stack(engine)]
    interpreter = Path(sys.base_prefix).resolve()
    mounts = [CODE, Path(sys.prefix), folder] + ([interpreter] if interpreter != Path("/usr") else [])
    api = engine.api
    settings = api.create_host_config(
        binds=[f"{path}:{path}:ro" for path in dict.fromkeys(mounts)],
        cap_add=_our_capabilities(),
        security_opt=["seccomp=unconfined", "apparmor=unconfined"],
        tmpfs={"/run": "exec", "/tmp": "exec"},
        device_cgroup_rules=["a *:* rwm"],
    )
    settings |= {"CgroupnsMode": "private", "MaskedPaths": [], "ReadonlyPaths": []}
    made = api.create_container(
        image_of_machines(engine),
        ["/bin/bash", "-c", BOOT],
        name=f"systemd-machine-{secrets.token_hex(4)}",
        hostname="machine",
        volumes=["/var/lib/docker"],
        host_config=settings,
    )
    container = engine.containers.get(made["Id"])
    try:
        container.start()
        here = Machine(container)
        wait_for("systemd to be up", lambda: here.run("systemctl", "is-system-running").text.strip() in UP)
        here.do("systemctl", "start", "docker")
        here.do("python3", "-c", LOAD, *map(str, saved))
        yield here
    finally:
        container.remove(force=True, v=True)


def _our_capabilities() -> list[str]:
    """Those that this machine may give away."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    bounds = int(next(line for line in lines if line.startswith("CapBnd")).split()[1], 16)
    return [name for number, name in enumerate(CAPABILITIES) if bounds >> number & 1]


def _images_of_a_stack(engine: docker.DockerClient) -> list[str]:
    local = LocalImages(engine.api, cache_directory({}, Path.home()))
    chosen = [IMAGE]
    for reference, stand_in in ((NGINX, local.nginx), (OPA, local.opa)):
        try:
            engine.images.get(reference)
            chosen.append(reference)
        except docker.errors.ImageNotFound:
            chosen.append(stand_in())
    return chosen


def _saved(engine: docker.DockerClient, reference: str, folder: Path) -> Path:
    path = folder / f"{reference.replace('/', '_').replace(':', '_')}.tar"
    with path.open("wb") as file:
        for chunk in engine.images.get(reference).save(named=reference):
            file.write(chunk)
    path.chmod(0o644)
    return path
