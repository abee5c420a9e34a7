"""M: manifests that reach for the host, for another's identity, or for the reader's patience."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from reconciler.formats import manifest
from tests.security import hardening
from tests.security.cases import Attack, in_time, steering

HEAD = "services:\n  image: shop/web:1\n  port: 3000\n"
TAIL = "nginx:\n  image: nginx:latest\n  port: 8080\nnetwork:\n  name: net\n  driver_type: bridge\n"
SERVICE_LINE, TOP_LINE = 4, 10


@dataclass(frozen=True)
class Refused(Attack):
    """Bytes of a manifest whose first problem stands at `line` and `column` (0: anywhere) and says `words`."""

    data: bytes
    line: int
    column: int
    words: str

    def attempt(self, folder: Path) -> None:
        with in_time():
            reading = manifest.read(self.data, folder=str(folder), env_files={})
        assert reading.desired is None, "it was taken"
        told = [problem for problem in reading.problems if self.words in problem.message]
        assert told, f"nobody said {self.words!r}: {[str(p) for p in reading.problems]}"
        first = told[0]
        assert not self.line or first.line == self.line, f"told of line {first.line}"
        assert not self.column or first.column == self.column, f"told of column {first.column}"
        assert not any(steering(problem.message) for problem in reading.problems)
        assert all(len(problem.message) < 600 for problem in reading.problems)


@dataclass(frozen=True)
class Tamed(Attack):
    """Bytes of a manifest that is taken, and gives no container more than a hardened one has."""

    data: bytes

    def attempt(self, folder: Path) -> None:
        with in_time():
            reading = manifest.read(self.data, folder="", env_files={})
        assert reading.desired is not None, [str(problem) for problem in reading.problems]
        hardening.check(reading.desired)


def of_service(line: str) -> bytes:
    return f"{HEAD}  {line}\n{TAIL}".encode()


def of_top(line: str) -> bytes:
    return f"{HEAD}{TAIL}{line}\n".encode()


def _refused(row: str, lines: tuple[str, ...], words: str = "") -> tuple[Refused, ...]:
    """Service keys, each refused by its name at its value."""
    made = []
    for line in lines:
        key, _, value = line.partition(": ")
        column = 3 + len(key) + 2 if value[:1] not in "[{" else 0
        made.append(Refused(row, line, of_service(line), SERVICE_LINE, column, words or f"services.{key}"))
    return tuple(made)


HOST = (
    *("privileged: true", "pid: host", "ipc: host", "ipc: shareable", "network_mode: host", "uts: host"),
    *("network_mode: container:opa", "network_mode: none", "userns_mode: host", "cgroup_parent: /", "cgroup: host"),
    *("devices: [/dev/mem]", "devices: ['/dev/sda:/dev/sda:rwm']", "device_cgroup_rules: ['a *:* rwm']", "gpus: all"),
    *("runtime: evil", "security_opt: [seccomp=unconfined]", "security_opt: [apparmor=unconfined]"),
    *("security_opt: [label=disable]", "security_opt: ['no-new-privileges:false']", "sysctls: {net.core.somaxconn: 1}"),
    *("ulimits: {memlock: -1}", "oom_score_adj: -1000", "oom_kill_disable: true", "shm_size: 1000000000000"),
    *("group_add: ['0']", "volumes_from: ['container:opa']", "extra_hosts: ['opa:127.0.0.1']", "dns: 6.6.6.6"),
    *("use_api_socket: true", "build: .", "extends: {file: /etc/passwd}", "mac_address: 02:42:ac:11:00:02"),
    *("storage_opt: {size: 1T}", "credential_spec: {file: /etc/shadow}", "external_links: [opa]", "links: [nginx:opa]"),
    *("post_start: [{command: id, privileged: true}]", "ports: ['22:22']", "provider: {type: evil}"),
)
CAPABILITIES = tuple(
    f"cap_add: [{name}]"
    for name in (
        "ALL",
        "SYS_ADMIN",
        "NET_ADMIN",
        "SYS_PTRACE",
        "NET_RAW",
        "MKNOD",
        "SYS_MODULE",
        "BPF",
        "CAP_CHOWN",
        "all",
    )
)
MOUNTS = (
    *("/:/h", "/var/run/docker.sock:/s", "/run/docker.sock:/s:ro", "/run:/r", "/var/run:/r", "/proc:/p", "/sys:/s"),
    *("/etc:/e", "/root/.ssh:/k:ro", "/dev:/d", "/var/lib/docker:/d", "../x:/y", "./../../x:/y", "a/../../x:/y"),
    *("~:/home", "~root:/home", "//:/x", "/./:/x", "/../:/x", "${HOME}:/x", "./..:/x", "./state:/s", "./state/run:/r"),
    *("./.git:/g", ".:/all", "./manifest.yaml:/m", "./policies:/p", "./x:/../etc", "./x:/", "./x:/y:rshared"),
    *("./x:/y:z", "./x:/y:rw,exec", "./State:/s", "state/../state:/s", "/etc/swiftdeploy:/e", "\\\\host\\x:/y"),
    *("./a%2f..%2f..:/x", "./x\\u0000:/y", "./x:/var/log/app", "/run/containerd/containerd.sock:/c"),
)
LONG_MOUNTS = (
    "{type: bind, source: /, target: /h}",
    "{type: bind, source: /var/run/docker.sock, target: /s}",
    "{type: bind, source: ../x, target: /y}",
    "{type: npipe, source: x, target: /y}",
    "{type: cluster, source: x, target: /y}",
    "{type: bind, source: ./x, target: /y, bind: {propagation: rshared}}",
    "{type: volume, source: ../x, target: /y}",
    "{type: tmpfs, target: /../x}",
)
LABELS = (
    *("io.swiftdeploy.project", "io.swiftdeploy.instance", "IO.SwiftDeploy.Slot", "com.docker.compose.project"),
    *("com.docker.compose.oneoff", "io.swiftdeploy.", "Com.Docker.Compose.service"),
)
NAMES = (
    *("opa", "nginx", "..", "a/b", "a;b", "-rm", "a b", "a\\u0000b", "A" * 64, "", "a..b/"),
    *("w\\u0435b", "\\u202eabc", "a\\u200bb", "\\uff41pp", "a\\u0301", "__proto__/", "a:b", "${x}", "%2e%2e", "a\\nb"),
)
IMAGES = (
    *("-x", "a b", "../../x", "evil.tld/x@sha256:short", "a" * 300, "UPPER/x", "a:b:c", "a@b", "http://evil/x", "/x"),
    *("--privileged", "x;id", "$(id)", "a//b", "a/", ":1", "@sha256:" + "a" * 64, "a:" + "b" * 200, "w\\u0435b:1"),
)
NUMBERS = (
    *("port: 0", "port: 65536", "port: -1", "port: '22'", "port: '22:22'", "port: 1e3", "port: 0x50", "port: true"),
    *("port: 80.0", "deploy: {replicas: -1}", "deploy: {replicas: 1000000000}", "deploy: {replicas: 1.5}"),
    *(
        "deploy: {replicas: true}",
        "deploy: {resources: {limits: {memory: 1}}}",
        "deploy: {resources: {limits: {pids: -1}}}",
    ),
    *(
        "deploy: {resources: {limits: {pids: 0}}}",
        "deploy: {resources: {limits: {cpus: '-1'}}}",
        "stop_grace_period: 1e12",
    ),
    *("rollout: {steps: [{weight: 0.5}]}", "rollout: {steps: [{weight: 101}]}", "rollout: {steps: [{weight: '5'}]}"),
    *("rollout: {max_wait: 0}", "rollout: {probe: {path: /, rate: 1000000}}", "healthcheck: {retries: -1}"),
    *("healthcheck: {interval: 0}", "healthcheck: {interval: 1e-9}", "rollout: {drain: -1s}"),
)
PATHS = (
    *("healthcheck: {path: //evil/x}", "healthcheck: {path: 'http://evil/'}", "healthcheck: {path: '/a b'}"),
    *("healthcheck: {path: /../x}", "healthcheck: {path: '/x?a=$b'}", "metrics: {path: '/m{}'}", "metrics: {path: x}"),
    *("route: {path: '/a;b'}", "route: {path: /a/../b}", "route: {host: '*.evil'}", "route: {host: 'a:80'}"),
    *("route: {host: '~^(?<x>.*)$'}", "route: {host: '_'}", "route: {host: 'w\\u0435b.example'}"),
    *("env_file: ../x.env", "env_file: /etc/shadow", "env_file: [a/../../b]", "env_file: .git/config"),
    *("tester_secret: file:../x", "tester_secret: file:/etc/shadow", "tester_secret: hunter2hunter2hunter2"),
    *("tester_secret: env:HOME", "working_dir: ../x", "tmpfs: ['/x:size=1t,suid']", "tmpfs: [/]", "tmpfs: ['../x']"),
)
TOP = (
    ("M22", "volumes: {v: {driver_opts: {type: none, o: bind, device: /}}}", "volumes.v.driver_opts"),
    ("M22", "volumes: {v: {driver: vieux/sshfs}}", "volumes.v.driver"),
    ("M22", "volumes: {v: {name: ../x}}", "volumes.v.name"),
    ("M25", "project: {name: ../x}", "project.name"),
    ("M25", "project: {name: 'a b'}", "project.name"),
    ("M25", "container_name: 5", ""),
    ("M29", "opa: {policies_dir: ../../../etc}", "opa.policies_dir"),
    ("M29", "opa: {policies_dir: /}", "opa.policies_dir"),
    ("M29", "policy: {system: {authz: 1}}", "policy.system"),
    ("M29", "policy: {opa_url: 'http://169.254.169.254/'}", "policy.opa_url"),
    ("M29", "policy: {canary: {max_error_rate: 1}}", "policy.canary.max_error_rate"),
    ("M29", "policy: {canary: {max_error_rat: 0.1}}", "policy.canary.max_error_rat"),
    ("M29", "policy: {canari: {max_error_rate: 0.1}}", "policy.canari"),
    ("M26", "networks: {a: {driver: host}}", "networks"),
    ("M26", "secrets: {a: {file: /etc/shadow}}", "secrets"),
    ("M26", "configs: {a: {file: /etc/shadow}}", "configs"),
    ("M26", "source: {git: 'ext::sh -c id'}", "source"),
)
YAML = (
    ("M1", "laughs", b"a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n", "anchor"),
    ("M2", "merge bomb", b"a: &a {k: v}\n" + b"".join(b"b%d: &b%d\n  <<: [*a,*a]\n" % (i, i) for i in range(8)), ""),
    ("M3", "brackets", b"[" * 100_000 + b"]" * 100_000, "levels"),
    ("M4", "braces", b"{a: " * 60_000, ""),
    ("M5", "indented", b"".join(b" " * i + b"a:\n" for i in range(700)), "levels"),
    ("M6", "self", b"&a [*a]", "anchor"),
    ("M7", "os.system", b"a: !!python/object/apply:os.system [id]\n", "tag"),
    ("M7", "own tags", b"%TAG ! tag:yaml.org,2002:python/\n---\na: !name:os.system id\n", ""),
    ("M8", "binary", b"a: !!binary '@@@'\n", "tag"),
    ("M8", "set", b"a: !!set [1]\n", "tag"),
    *(
        ("M9", text.decode(), b"a: " + text + b"\n", "")
        for text in (b"2024-02-30", b"0000-01-01", b"2024-01-01T99:99:99Z")
    ),
    ("M10", "digits", b"a: " + b"9" * 5000 + b"\n", ""),
    *(
        ("M12", text.decode(), b"a: " + text + b"\n", "")
        for text in (b"0x_", b"0755", b"22:22", b"1_000", b"190:20:30.15")
    ),
    *(("M13", text.decode(), b"a: " + text + b"\n", "") for text in (b".nan", b"-.inf", b"1e999999", b"no", b"on")),
    ("M14", "twice", b"a: 1\na: 2\n", "twice"),
    ("M14", "twice, quoted", b"a: 1\n'a': 2\n", "twice"),
    *(
        ("M15", key.decode(), key + b": 1\n", "")
        for key in (b"1", b"~", b"[a]", b"{a: b}", b"<<", b"2024-01-01", b"true")
    ),
    ("M16", "documents", b"a: 1\n---\nb: 2\n", "document"),
    *(("M16", repr(text), text, "") for text in (b"", b"---\n", b"# x\n", b"x\n", b"- x\n", b"~\n")),
    ("M17", "NUL", b"a: \0\n", "cannot be seen"),
    ("M17", "many NULs", b"\0" * 250_000, "cannot be seen"),
    ("M17", "NULs behind many lines", b"\n" * 250_000 + b"\0" * 5000, "cannot be seen"),
    ("M17", "BOM", b"\xef\xbb\xbfa: 1\n", "byte order mark"),
    ("M17", "UTF-16", "a: 1\n".encode("utf-16"), "UTF-8"),
    ("M17", "bad UTF-8", b"a: \xff\xfe\n", "UTF-8"),
    ("M17", "surrogate", b"a: \xed\xa0\x80\n", "UTF-8"),
    *(
        ("M17", f"U+{ord(c):04X}", f"a: x{c}\n".encode(), "cannot be seen")
        for c in "\x85\u2028\u202e\u200b\u2066\xad\x1b\x9b"
    ),
    *(("M17", f"escaped U+{ord(c):04X}", b'a: "%b"\n' % f"\\u{ord(c):04x}".encode(), "") for c in "\0\u202e\u200b\x1b"),
    ("M17", "tab", b"a:\n\tb: 1\n", ""),
    ("M18", "too long", b"#" + b"x" * 256 * 1024, "256"),
    ("M18", "long scalar", b"a: " + b"x" * 200_000, ""),
    ("M18", "nodes", b"a: [" + b"1," * 25_000 + b"]\n", ""),
    ("M18", "services", json.dumps({"services": {f"s{i}": {"image": "a"} for i in range(3000)}}).encode(), "services"),
    ("M18", "comments", b"#\n" * 130_000, ""),
)


def _mounts() -> tuple[Attack, ...]:
    short = tuple(Refused("M22", each, of_service(f'volumes: ["{each}"]'), 4, 0, "") for each in MOUNTS)
    return (*short, *(Refused("M22", each, of_service(f"volumes: [{each}]"), 4, 0, "") for each in LONG_MOUNTS))


def _identities() -> tuple[Attack, ...]:
    labels = tuple(
        Refused("M26", f"label {each}", of_service(f"labels: {{{each}: x}}"), 4, 0, "ours to set") for each in LABELS
    )
    listed = Refused("M26", "label in a list", of_service("labels: ['io.swiftdeploy.slot=green']"), 4, 0, "ours to set")
    names = tuple(Refused("M25", f"name {each[:20]}", of_service(f'name: "{each}"'), 4, 0, "") for each in NAMES)
    images = tuple(
        Refused(
            "M24", f"image {each[:20]}", of_service("x-a: 1").replace(b"shop/web:1", f'"{each}"'.encode()), 2, 10, ""
        )
        for each in IMAGES
    )
    return (*labels, listed, *names, *images)


def _numbers() -> tuple[Attack, ...]:
    made = []
    for line in NUMBERS:
        data = of_service(line)
        if line.startswith("port"):
            data = of_service("x-a: 1").replace(b"port: 3000", line.encode())
        made.append(Refused("M28", line, data, 3 if line.startswith("port") else 4, 0, ""))
    return tuple(made)


TAMED = (
    Tamed("M21", "privileged: false", of_service("privileged: false")),
    Tamed("M21", "security_opt as it is", of_service("security_opt: ['no-new-privileges:true']")),
    Tamed("M21", "root in the container", of_service("user: '0:0'")),
    Tamed("M21", "a writable image", of_service("read_only: false")),
    Tamed("M21", "cap_drop of nothing", of_service("cap_drop: []")),
    Tamed("M26", "LD_PRELOAD and DOCKER_HOST", of_service("environment: {LD_PRELOAD: /x.so, DOCKER_HOST: 'tcp://x'}")),
    Tamed("M26", "another tool's label", of_service("labels: {traefik.enable: 'true'}")),
    Tamed("M22", "policies, to read", of_service("volumes: ['./policies:/p:ro']")),
    Tamed("M25", "the daemon's name", of_service("name: reconcilerd")),
    Tamed("M23", "ulimits that ask for nothing", of_service("ulimits: {}")),
    Tamed("M22", "a volume called as a path is not", of_service("volumes: ['docker.sock:/s']")),
)
CASES: tuple[Attack, ...] = (
    *_refused("M21", HOST),
    *_refused("M21", CAPABILITIES, "services.cap_add"),
    *_mounts(),
    *_identities(),
    *_numbers(),
    *(Refused("M30", line, of_service(line), 4, 0, "") for line in PATHS),
    *(Refused(row, line, of_top(line), TOP_LINE, 0, words) for row, line, words in TOP if words),
    *(Refused(row, f"yaml {name}", data, 0, 0, words) for row, name, data, words in YAML),
    *TAMED,
)
