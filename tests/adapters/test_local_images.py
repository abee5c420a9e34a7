"""Images built from distribution packages: what is read and decided (pure), then real builds into a real engine."""

from __future__ import annotations

import dataclasses
import io
import os
import struct
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from reconciler.adapters import distribution
from reconciler.adapters.distribution import AptSource, Entry
from reconciler.adapters.image_recipes import (
    NGINX,
    OPA,
    Substitute,
    cache_directory,
    is_local_build,
    is_old,
    is_static_elf,
    python_recipe,
    recipe_digest,
    substitute_for,
)
from reconciler.adapters.local_images import LocalImages
from reconciler.core.errors import EngineError

MIRROR = "http://mirror.example/debian"
KEYRING = "/usr/share/keyrings/archive.gpg"

# ── what may be replaced ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("nginx", Substitute.NGINX),
        ("nginx:latest", Substitute.NGINX),
        ("nginx:1.30-alpine", Substitute.NGINX),
        ("library/nginx:1", Substitute.NGINX),
        ("mirror.example/library/nginx:1.28", Substitute.NGINX),
        ("nginxinc/nginx-unprivileged:stable", Substitute.NGINX),
        ("openpolicyagent/opa", Substitute.OPA),
        ("mirror.example:5000/openpolicyagent/opa:1.9.0-static", Substitute.OPA),
        ("openpolicyagent/opa:0.70.0", Substitute.OPA),
        ("nginx@sha256:" + "0" * 64, None),
        ("registry.example:5000/nginx:latest", None),
        ("someone/nginx:latest", None),
        ("nginx-exporter:1", None),
        ("swift-deploy-1-node:latest", None),
        ("swiftdeploy-local/nginx:1.30.6", None),
    ],
)
def test_only_the_official_names_have_a_stand_in(image: str, expected: Substitute | None) -> None:
    assert substitute_for(image) is expected


def test_a_local_build_is_recognised_by_its_name() -> None:
    assert is_local_build("swiftdeploy-local/nginx:1.30.6")
    assert not is_local_build("nginx:1.30.6")


# ── the cache key ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_same_recipe_has_the_same_digest() -> None:
    assert recipe_digest(NGINX, "amd64") == recipe_digest(dataclasses.replace(NGINX), "amd64")


@pytest.mark.parametrize(
    "other",
    [
        dataclasses.replace(NGINX, packages=("nginx",)),
        dataclasses.replace(NGINX, changes=()),
        dataclasses.replace(NGINX, entries=(*NGINX.entries, Entry("etc/motd", b"hello"))),
        OPA,
    ],
)
def test_whatever_changes_the_image_changes_the_digest(other: object) -> None:
    assert recipe_digest(other, "amd64") != recipe_digest(NGINX, "amd64")  # type: ignore[arg-type]


def test_another_architecture_is_another_image() -> None:
    assert recipe_digest(NGINX, "amd64") != recipe_digest(NGINX, "arm64")


def test_a_changed_file_of_a_service_is_another_image() -> None:
    first, second = (
        recipe_digest(python_recipe("app", (), {"/app/app.py": code}, "1:1", ())) for code in (b"a = 1", b"a = 2")
    )
    assert first != second


def test_a_service_gets_its_folders_with_their_owner() -> None:
    recipe = python_recipe("app", (), {"/srv/code/app.py": b""}, "10001:10001", (), ("/var/log/app",))
    owners = {entry.path: entry.owner for entry in recipe.entries}
    assert owners["srv"] == owners["srv/code"] == 0
    assert owners["var/log/app"] == 10001
    assert recipe.bytecode_of == ("/usr/lib", "/srv/code")


# ── apt's configuration ────────────────────────────────────────────────────────────────────────────────────────────


def test_one_line_sources_are_read_with_their_options() -> None:
    text = f"""\
# deb {MIRROR} bookworm main
deb-src {MIRROR} bookworm main
deb [arch=amd64 signed-by={KEYRING}] {MIRROR} bookworm main contrib # ours
deb {MIRROR} bookworm-updates main
deb broken
"""
    assert distribution.parse_one_line_sources(text) == (
        AptSource(MIRROR, ("bookworm",), ("main", "contrib"), KEYRING),
        AptSource(MIRROR, ("bookworm-updates",), ("main",)),
    )


def test_deb822_sources_are_read_and_disabled_ones_are_not() -> None:
    text = f"""\
# a comment
Types: deb deb-src
URIs: {MIRROR}
Suites: bookworm bookworm-updates
Components: main
Signed-By: {KEYRING}

Types: deb
Enabled: no
URIs: http://disabled.example
Suites: bookworm
Components: main

Types: deb-src
URIs: http://sources.example
Suites: bookworm
Components: main
"""
    assert distribution.parse_deb822_sources(text) == (
        AptSource(MIRROR, ("bookworm", "bookworm-updates"), ("main",), KEYRING),
    )


def test_an_inline_key_survives_into_our_own_stanza() -> None:
    key = "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQIN\n -----END PGP PUBLIC KEY BLOCK-----"
    (source,) = distribution.parse_deb822_sources(
        f"Types: deb\nURIs: {MIRROR}\nSuites: noble\nComponents: main\nSigned-By:{key}\n"
    )
    assert source.for_suite("resolute", ("main", "universe")) == (
        f"Types: deb\nURIs: {MIRROR}\nSuites: resolute\nComponents: main universe\nSigned-By: {key}\n"
    )


def test_the_mirror_is_the_distributions_own_and_no_vendors() -> None:
    vendor = AptSource("http://vendor.example", ("bookworm",), ("stable",))
    security = AptSource("http://mirror.example/security", ("bookworm-security",), ("main",))
    archive = AptSource(MIRROR, ("bookworm", "bookworm-updates"), ("main",))
    assert distribution.main_archive((vendor, security, archive), "bookworm") is archive
    assert distribution.main_archive((vendor, security), "bookworm") is None


def test_a_machine_without_a_mirror_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text('ID=debian\nVERSION_CODENAME=bookworm\nPRETTY_NAME="Debian 12"\n')
    with pytest.raises(EngineError, match=r"No package mirror for debian bookworm .*docker load"):
        distribution.this_distribution(tmp_path)


def test_another_distribution_is_named_in_the_refusal(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text('ID=fedora\nPRETTY_NAME="Fedora Linux 44"\n')
    with pytest.raises(EngineError, match="this is Fedora Linux 44"):
        distribution.this_distribution(tmp_path)


def test_a_derivative_uses_the_mirror_of_what_it_derives_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    (tmp_path / "etc/apt").mkdir(parents=True)
    release = 'ID=linuxmint\nID_LIKE="ubuntu debian"\nVERSION_CODENAME=zena\nUBUNTU_CODENAME=noble\n'
    (tmp_path / "etc/os-release").write_text(release)
    (tmp_path / "etc/apt/sources.list").write_text(f"deb {MIRROR} noble main universe\n")
    here = distribution.this_distribution(tmp_path)
    assert (here.id, here.codename, here.mirror.uri) == ("ubuntu", "noble", MIRROR)


# ── names and versions ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("debian", "upstream"),
    [("1.30.6-2", "1.30.6"), ("1:1.38.0-3+b1", "1.38.0"), ("0.23.0+ds1-1", "0.23.0"), ("12.2.0~rc1-1", "12.2.0")],
)
def test_a_tag_is_the_upstream_version(debian: str, upstream: str) -> None:
    assert distribution.upstream_version(debian) == upstream


def test_versions_come_from_the_names_of_downloaded_files() -> None:
    names = ["nginx_1.30.6-2_amd64.deb", "busybox-static_1%3a1.38.0-3+b1_amd64.deb", "lock"]
    assert distribution.package_versions(names) == {"nginx": "1.30.6-2", "busybox-static": "1:1.38.0-3+b1"}


@pytest.mark.parametrize(
    ("version", "is_too_old"), [("1.26.3", True), ("1.28.0", False), ("1.30", False), ("2", False)]
)
def test_an_old_nginx_is_noticed(version: str, is_too_old: bool) -> None:
    assert is_old(version, (1, 28)) is is_too_old


@pytest.mark.parametrize(
    ("path", "merged"),
    [("./lib/x/libc.so", "usr/lib/x/libc.so"), ("./usr/bin/a", "usr/bin/a"), ("./bin/", "usr/bin"), ("./etc", "etc")],
)
def test_paths_land_in_a_merged_usr(path: str, merged: str) -> None:
    assert distribution.merged_path(path) == merged


def test_the_first_telling_line_of_a_tool_is_its_complaint() -> None:
    said = "Get:1 ...\nE: Unable to locate package nginx\nE: something after\n"
    assert distribution.last_complaint(said) == "E: Unable to locate package nginx"
    assert distribution.last_complaint("one\ntwo\n\n") == "two"
    assert distribution.last_complaint("") == "it gave no reason"


def elf(*program_headers: int) -> bytes:
    """The head of a little-endian 64-bit program with program headers of these types."""
    header = bytearray(64)
    header[:6] = b"\x7fELF\x02\x01"
    struct.pack_into("<Q", header, 32, 64)
    struct.pack_into("<HH", header, 54, 56, len(program_headers))
    return bytes(header) + b"".join(struct.pack("<I52x", kind) for kind in program_headers)


@pytest.mark.parametrize(
    ("head", "expected"),
    [(elf(6, 1, 1), True), (elf(6, 3, 1), False), (b"#!/bin/sh\n", False), (b"", False), (b"\x7fELF\x01" * 20, False)],
)
def test_a_static_program_asks_for_no_loader(head: bytes, expected: bool) -> None:
    assert is_static_elf(head) is expected


def test_the_cache_is_where_systemd_or_the_user_keeps_caches() -> None:
    home = Path("/home/someone")
    assert cache_directory({"CACHE_DIRECTORY": "/var/cache/sd:/x"}, home) == Path("/var/cache/sd/images")
    assert cache_directory({"XDG_CACHE_HOME": "/c"}, home) == Path("/c/swiftdeploy/images")
    assert cache_directory({}, home) == home / ".cache/swiftdeploy/images"


def test_a_root_filesystem_has_the_same_bytes_every_time(tmp_path: Path) -> None:
    entries = (
        Entry("etc"),
        Entry("tmp", mode=0o1777),
        Entry("etc/x", b"hello", mode=0o644),
        Entry("bin", link="usr/bin"),
    )
    roots = [tmp_path / "one.tar", tmp_path / "two.tar"]
    distribution.write_root(roots[0], (), (), entries)
    distribution.write_root(roots[1], (), (), reversed(entries))
    assert roots[0].read_bytes() == roots[1].read_bytes()
    with tarfile.open(roots[0]) as root:
        assert root.getnames() == ["bin", "etc", "etc/x", "tmp"]
        assert root.extractfile("etc/x").read() == b"hello"  # type: ignore[union-attr]


# ── real builds ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def engine() -> Iterator[docker.APIClient]:
    client = docker.APIClient(timeout=120)
    yield client
    client.close()


@pytest.fixture(scope="module")
def images(engine: docker.APIClient) -> LocalImages:
    return LocalImages(engine, cache_directory(os.environ, Path.home()))


def run(engine: docker.APIClient, image: str, command: list[str], **host: object) -> str:
    """The output of one hardened container: read-only, no capabilities, no network."""
    hardened = {"network_mode": "none", "read_only": True, "cap_drop": ["ALL"], "tmpfs": {"/tmp": ""}, **host}
    user = str(hardened.pop("user", "101:101"))
    entrypoint, *arguments = command
    created = engine.create_container(
        image, arguments, entrypoint=[entrypoint], user=user, host_config=engine.create_host_config(**hardened)
    )
    try:
        engine.start(created["Id"])
        engine.wait(created["Id"], timeout=60)
        return engine.logs(created["Id"]).decode()
    finally:
        engine.remove_container(created["Id"], force=True, v=True)


@pytest.mark.engine
def test_nginx_runs_as_its_user_on_a_read_only_root(engine: docker.APIClient, images: LocalImages) -> None:
    reference = images.nginx()
    assert reference.startswith("swiftdeploy-local/nginx:1.")
    assert engine.inspect_image(reference)["Size"] < 60e6
    said = run(engine, reference, ["nginx", "-t"])
    assert "test is successful" in said
    assert "text/html" in run(engine, reference, ["cat", "/etc/nginx/mime.types"])
    assert run(engine, reference, ["sh", "-c", "grep ^nginx: /etc/passwd"]).startswith("nginx:x:101:101:")


@pytest.mark.engine
def test_opa_decides_as_any_user_without_a_network(engine: docker.APIClient, images: LocalImages) -> None:
    reference = images.opa()
    assert engine.inspect_image(reference)["Size"] < 120e6
    assert run(engine, reference, ["/opa", "eval", "-f", "raw", "1 + 2"], user="54321:54321").strip() == "3"


@pytest.mark.engine
def test_a_build_made_before_returns_without_a_word(engine: docker.APIClient, images: LocalImages) -> None:
    reference = images.nginx()
    said: list[str] = []
    again = LocalImages(engine, cache_directory(os.environ, Path.home()), said.append)
    assert (again.nginx(), again.existing(Substitute.NGINX), said) == (reference, reference, [])


@pytest.mark.engine
def test_a_python_service_runs_compiled_code_and_owns_its_folder(engine: docker.APIClient, tmp_path: Path) -> None:
    code = tmp_path / "hello.py"
    code.write_text("def hello():\n    print('hello')\n")
    name = f"test-{os.getpid()}"
    local = LocalImages(engine, tmp_path / "cache")
    try:
        reference = local.python_service(
            name, (), {"/app/hello.py": code}, "10001:10001", ("python3",), {"A": "b c"}, (80,), ("/var/log/app",)
        )
        script = (
            "import sys, os; sys.path.insert(0, '/app'); import hello; hello.hello(); "
            "print(hello.__cached__, os.path.exists(hello.__cached__), os.stat('/var/log/app').st_uid)"
        )
        said = run(engine, reference, ["python3", "-c", script])
        assert said.startswith("hello\n/app/__pycache__/hello.cpython-3")
        assert said.endswith("True 10001\n")
        config = engine.inspect_image(reference)["Config"]
        assert (config["User"], config["Env"], config["Cmd"]) == ("10001:10001", ["A=b c"], ["python3"])
    finally:
        for image in engine.images(f"swiftdeploy-local/{name}"):
            engine.remove_image(image["Id"], force=True)


def build_nginx_as(name: str, local: LocalImages) -> str:
    """A whole build under a name of the test's own."""
    return local._image(dataclasses.replace(NGINX, name=name), local._root_from_packages)


@pytest.mark.engine
def test_builds_at_the_same_time_make_one_image(engine: docker.APIClient, tmp_path: Path) -> None:
    name, said, made = f"test-two-{os.getpid()}", [], []

    def build() -> None:
        local = LocalImages(docker.APIClient(timeout=120), tmp_path / "cache", said.append)
        made.append(build_nginx_as(name, local))

    builders = [threading.Thread(target=build) for _ in range(2)]
    try:
        for builder in builders:
            builder.start()
        for builder in builders:
            builder.join()
        assert len(made) == 2
        assert len(set(made)) == 1
        assert len([line for line in said if "ready" in line]) == 1
        assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    finally:
        for image in engine.images(f"swiftdeploy-local/{name}"):
            engine.remove_image(image["Id"], force=True)


@pytest.mark.engine
def test_an_image_removed_from_the_engine_comes_back_from_the_cache(
    engine: docker.APIClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"test-back-{os.getpid()}"
    local = LocalImages(engine, tmp_path / "cache")
    first = build_nginx_as(name, local)
    engine.remove_image(first, force=True)
    monkeypatch.setattr(distribution, "download", lambda *_: pytest.fail("the network was used"))
    try:
        assert build_nginx_as(name, local) == first
    finally:
        engine.remove_image(first, force=True)


@pytest.mark.engine
def test_a_failed_build_leaves_nothing_behind(
    engine: docker.APIClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {image["Id"] for image in engine.images(all=True)}
    code = tmp_path / "broken.py"
    code.write_text("a = 1\n")
    local = LocalImages(engine, tmp_path / "cache")
    with pytest.raises(EngineError, match=r"apt-get failed: E: Unable to locate package no-such-package"):
        local.python_service("test-fails", ("no-such-package",), {"/a.py": code}, "1:1", ("python3",), {}, ())
    assert {image["Id"] for image in engine.images("swiftdeploy-local/test-fails")} == set()
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {".test-fails.lock"}
    assert before <= {image["Id"] for image in engine.images(all=True)}


@pytest.mark.engine
def test_an_image_that_does_not_run_is_not_named(engine: docker.APIClient, tmp_path: Path) -> None:
    root = tmp_path / "empty.tar"
    with tarfile.open(root, "w") as archive:
        archive.addfile(tarfile.TarInfo("nothing"), io.BytesIO())
    local = LocalImages(engine, tmp_path)
    recipe = dataclasses.replace(NGINX, name="test-broken")
    kept = root.rename(tmp_path / "test-broken_1.0_0.tar")
    with pytest.raises((EngineError, docker.errors.APIError)):
        local._load(recipe, "0" * 64, kept)
    assert engine.images("swiftdeploy-local/test-broken") == []
