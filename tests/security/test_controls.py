"""Controls that stand on no single module: each of them once, by its number in docs/security.md."""

from __future__ import annotations

import ast
import json
import os
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from reconciler import assets
from reconciler.adapters import engine_connection, opa
from reconciler.adapters.file_source import FileSource
from reconciler.control import ControlServer
from reconciler.core.errors import RenderError
from reconciler.formats import nginx, rendered
from tests.cycle.cycle_world import HandClock
from tests.security import hardening, rendering
from tests.security.corpus_files import MANIFEST

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "reconciler").rglob("*.py"))


def config(*changes: tuple[str, object]) -> str:
    reading = rendering.read(rendering.tree(*changes))
    assert reading.desired, reading.problems
    return rendering.files_of(reading.desired)["nginx/live/nginx.conf"]


# ── K1: OPA out of reach (tried from every side in tests/e2e/test_opa_isolation.py) ────────────────────────────────


@pytest.mark.control("K1")
def test_opa_has_no_network_and_learns_no_token() -> None:
    desired = rendering.read(rendering.tree()).desired
    assert desired
    hardening.check(desired)
    token = "ab" * 32
    document = json.loads(opa._auth_document(token))
    assert token not in json.dumps(document)
    assert list(document) == ["swiftdeploy_auth"]


@pytest.mark.control("K1")
def test_what_opa_shares_with_us_is_ours_alone(tmp_path: Path) -> None:
    opa.ensure_token(tmp_path)
    assert stat.S_IMODE((tmp_path / "opa-token").stat().st_mode) == 0o600


# ── K4, K5: nginx.conf ─────────────────────────────────────────────────────────────────────────────────────────────

PLANTED = (
    "    include /etc/passwd;\n",
    "    resolver 127.0.0.1;\n",
    "    upstream pwn { server 127.0.0.1:8181; }\n",
    "    server { listen 9999; }\n",
    "    server { listen 8080; server_name evil; location / { proxy_pass http://127.0.0.1:8181; } }\n",
    "    proxy_pass_header X-Accel-Redirect;\n",
    "    proxy_set_header X-Canary-Secret $http_x;\n",
    "    load_module /tmp/x.so;\n",
    "    error_log /etc/x;\n",
)


@pytest.mark.control("K4")
@pytest.mark.parametrize("line", PLANTED)
def test_a_directive_that_nobody_meant_is_found_in_the_text(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second net: if a value, or a slip in the template, got a directive through all patterns."""
    read = assets.read
    template = read("render", nginx.TEMPLATE)
    opening = template.index("http {\n") + len("http {\n")
    slipped = template[:opening] + line + template[opening:]
    monkeypatch.setattr(assets, "read", lambda *name: slipped if name[-1] == nginx.TEMPLATE else read(*name))
    nginx._template.cache_clear()
    rendered._last.clear()
    rendered._configs.clear()
    try:
        with pytest.raises(RenderError):
            config()
    finally:
        nginx._template.cache_clear()


@pytest.mark.control("K5")
def test_no_answer_of_a_service_steers_nginx(tmp_path: Path) -> None:
    """Ignored and hidden once, above all servers, and nothing below says otherwise."""
    text = config()
    found = rendering.skeleton(text, tmp_path)
    assert sum("proxy_ignore_headers" in each for each in found) == 1
    assert "http > proxy_ignore_headers/5" in found
    for name in nginx.ACCEL_HEADERS:
        assert f"proxy_hide_header {name};" in text
    assert not [each for each in found if "internal" in each]


@pytest.mark.control("K4", "K6")
@pytest.mark.engine
def test_nginx_itself_takes_the_strangest_values_that_we_take(tmp_path: Path) -> None:
    """Every character that a pattern lets through, in every value that reaches the configuration."""
    odd = "A@._+:/,()<>[]?&=%~#!*|-z"
    values: tuple[tuple[str, object], ...] = (
        ("nginx.contact", odd),
        ("nginx.contact", "#" * 200),
        ("nginx.contact", "~^(?<x>.*)* = /"),
        ("nginx.contact", "//[<b>]|%00"),
        ("nginx.service_name", "A" * 63),
        ("services.route", {"path": "/a.b~_-c/default/if", "host": "xn--a.b-c.example"}),
        ("services.route", {"host": "default"}),
        ("services.route", {"path": "/chaos", "sticky": True}),
        ("services.metrics.path", "/a.b~_-c"),
        ("services.rollout.probe.path", "/a.b~_-c"),
        ("services.name", "hostnames"),
        ("services.name", "volatile"),
        ("services.chaos", True),
        ("nginx.proxy_timeout", "1ms"),
        ("project.name", "a-_z"),
    )
    taken = 0
    for number, change in enumerate(values):
        reading = rendering.read(rendering.tree(change))
        if reading.desired is None:
            assert reading.problems
            continue
        files = rendering.files_of(reading.desired)
        (tmp_path / f"{number}.conf").write_text(files["nginx/live/nginx.conf"])
        taken += 1
    assert taken > len(values) // 2
    tried = 'nginx -e stderr -t -c "/c/$f" >/tmp/said 2>&1 || { echo "$f"; cat /tmp/said; }'
    script = f"cd /c; for f in *.conf; do {tried}; done"
    mounts = (
        "-v",
        f"{tmp_path}:/c:ro",
        "--tmpfs",
        "/tmp",
        "--tmpfs",
        "/var/log/swiftdeploy",
        "--tmpfs",
        "/run/swiftdeploy",
    )
    done = subprocess.run(
        ["docker", "run", "--rm", "--network", "none", *mounts, "--entrypoint", "sh", _nginx_image(), "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def _nginx_image() -> str:
    """The nginx that is here: pulled, or built from packages."""
    engine = docker.from_env()
    try:
        tags = sorted(
            tag for each in engine.images.list() for tag in each.tags if re.fullmatch(r"(?:.*/)?nginx:.+", tag)
        )
    finally:
        engine.close()
    assert tags, "no nginx image: `make images` gets one"
    return tags[-1]


# ── K7: the container defaults, by the engine's own request; K20: their limits ─────────────────────────────────────


@pytest.mark.control("K7")
def test_a_container_that_is_more_than_hardened_is_seen() -> None:
    """The oracle of the corpus and of the fuzzer bites."""
    desired = rendering.read(rendering.tree()).desired
    assert desired
    spec = hardening.service_container(
        hardening.KeptRevision("r", desired.services[0], hardening.ObservedImage("i", "i", "i"), "net"),
        hardening.Mode.STABLE,
    )
    good = hardening.request_of(spec)
    hardening.refuse(good)
    for key, value in (("Privileged", True), ("PidMode", "host"), ("CapAdd", ["SYS_ADMIN"]), ("PidsLimit", -1)):
        with pytest.raises(AssertionError):
            hardening.refuse({**good, "HostConfig": {**good["HostConfig"], key: value}})
    for source in ("/", "/var/run/docker.sock", "../x", "/state/../etc"):
        mount = {"Type": "bind", "Source": source, "Target": "/x", "BindOptions": {"Propagation": "rprivate"}}
        with pytest.raises(AssertionError):
            hardening.refuse({**good, "HostConfig": {**good["HostConfig"], "Mounts": [mount]}})


@pytest.mark.control("K20")
@pytest.mark.fault("I10")
def test_what_one_manifest_may_take_of_the_host_has_an_end() -> None:
    desired = rendering.read(rendering.tree()).desired
    assert desired
    service = desired.services[0]
    assert service.resources.pids == 256
    for change in (
        ("services.deploy", {"replicas": 1000}),
        ("services.deploy", {"resources": {"limits": {"pids": 10**9}}}),
    ):
        assert rendering.read(rendering.tree(change)).problems


# ── K8, K14: the engine's clients, and no shell ────────────────────────────────────────────────────────────────────


@pytest.mark.control("K8")
def test_every_client_of_the_engine_is_guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """`connect_to` makes all of them; tests/security/test_engine_guard.py says what the guard refuses."""
    client = engine_connection.connect_to("unix:///nowhere.sock", "1.41", 1.0)
    assert "looked_at" in repr(client.send)
    makers = {
        path.name
        for path in SOURCES
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Call)
        if ast.unparse(node.func) in ("docker.APIClient", "APIClient", "docker.from_env", "docker.DockerClient")
    }
    assert makers == {"engine_connection.py"}


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


BANNED = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "pickle.loads", "pickle.load", "marshal.loads"),
    *("yaml.load", "yaml.safe_load", "yaml.unsafe_load", "yaml.full_load", "shelve.open", "subprocess.getoutput"),
    *("subprocess.getstatusoutput", "tempfile.mktemp"),
}
STARTERS = {"subprocess.run", "subprocess.Popen", "subprocess.check_output", "subprocess.call", "subprocess.check_call"}


@pytest.mark.control("K14")
def test_no_shell_and_nothing_that_runs_what_it_reads() -> None:
    assert len(SOURCES) > 80
    found = [problem for path in SOURCES for problem in _shells(_tree(path), path.name)]
    assert found == []


def _shells(tree: ast.Module, name: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in BANNED:
            yield f"{name}:{node.lineno} calls {called}"
        if called in STARTERS:
            shells = [word for word in node.keywords if word.arg == "shell"]
            is_text = bool(node.args) and isinstance(node.args[0], ast.Constant | ast.JoinedStr)
            if shells or is_text:
                yield f"{name}:{node.lineno} starts a shell"


@pytest.mark.control("K14")
def test_a_planted_shell_is_found() -> None:
    for line in (
        "os.system(x)",
        "subprocess.run('id', shell=True)",
        "subprocess.run(f'id {x}')",
        "yaml.load(x)",
        "eval(x)",
    ):
        assert list(_shells(ast.parse(line), "x.py")), line


@pytest.mark.control("K14")
def test_the_control_socket_is_the_daemons_and_its_groups(tmp_path: Path) -> None:
    server = ControlServer(tmp_path / "run" / "control.sock", lambda _request: iter(()))
    server.start()
    try:
        mode = os.stat(server.path).st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) & 0o007 == 0
        assert stat.S_IMODE(os.stat(server.path.parent).st_mode) & 0o007 == 0
    finally:
        server.stop()


# ── K10: paths ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.control("K10")
def test_a_folder_that_becomes_a_link_while_it_is_looked_at_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the check that an env file is inside and its opening, its folder is swapped for a link outside."""
    outside, project = tmp_path / "outside", tmp_path / "project"
    for folder in (outside, project / "env"):
        folder.mkdir(parents=True)
        (folder / "a.env").write_text(f"A={folder.name}\n")
    (project / "manifest.yaml").write_text(MANIFEST.format(more=", env_file: env/a.env"))
    source = FileSource(project / "manifest.yaml", HandClock())
    assert _environment(source) == {"A": "env"}
    resolve = Path.resolve

    def swapped(path: Path, strict: bool = False) -> Path:
        """Whoever looks sees the folder; whoever opens next finds the link."""
        if path.name != "a.env":
            return resolve(path, strict)
        if (project / "env").is_symlink():
            (project / "env").unlink()
            (project / "was").rename(project / "env")
        found = resolve(path, strict)
        (project / "env").rename(project / "was")
        (project / "env").symlink_to(outside)
        return found

    monkeypatch.setattr(Path, "resolve", swapped)
    (project / "manifest.yaml").write_text(MANIFEST.format(more=", env_file: env/a.env, version: '2'"))
    assert source.load().desired is None
    assert (project / "env").is_symlink(), "the swap did not happen"


def _environment(source: FileSource) -> dict[str, str]:
    desired = source.load().desired
    assert desired
    return dict(desired.services[0].environment)


@pytest.mark.control("K10")
def test_a_link_inside_the_folder_is_no_attack(tmp_path: Path) -> None:
    (tmp_path / "b.env").write_text("A=b\n")
    (tmp_path / "a.env").symlink_to("b.env")
    (tmp_path / "manifest.yaml").write_text(MANIFEST.format(more=", env_file: a.env"))
    assert _environment(FileSource(tmp_path / "manifest.yaml", HandClock())) == {"A": "b"}


# ── K19: chaos ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.control("K19")
def test_chaos_is_shut_unless_the_service_opens_it() -> None:
    shut, opened = config(), config(("services.chaos", True))
    assert "return 403" in _chaos_place(shut)
    assert "proxy_pass" not in _chaos_place(shut)
    assert "proxy_pass" in _chaos_place(opened)


def _chaos_place(text: str) -> str:
    return text.partition('location ~ "^/(?i)chaos')[2].partition("location ")[0]
