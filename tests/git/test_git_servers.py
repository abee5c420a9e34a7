"""The same over the network: git's own server, HTTP with and without TLS, and SSH; and servers that do it wrong."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from reconciler.adapters import git_access
from reconciler.adapters.git_source import GitSource
from reconciler.core.git_config import GitConfig
from reconciler.core.trust import Kind
from reconciler.formats import git_url
from tests.adapters.prometheus_world import own_address
from tests.git.git_servers import Ssh, Web, git_daemon, keygen
from tests.git.git_world import MANIFEST, Repo, World, accepted, image, refusal, wait_until

TOKEN = "glpat-canary-7f3aXYZ"


@pytest.fixture
def served(world: World) -> World:
    """A bare repository in `base/shop.git`, and a clone that pushes to it."""
    Repo(world.folder / "base" / "shop.git", bare=True)
    world.repo.git("remote", "add", "origin", str(world.folder / "base" / "shop.git"))
    return world


def push(world: World, number: int, *options: str) -> str:
    made = world.repo.commit(number)
    world.repo.git("push", "--quiet", *options, "origin", "HEAD:main")
    return made


def follows(world: World, source: GitSource) -> None:
    """Two pushes come through, and a look without news costs nothing."""
    first = push(world, 1)
    source.sync()
    assert (image(source), accepted(source).id) == ("demo:1", first), refusal(source)
    assert not source.sync().is_changed
    push(world, 2)
    third = push(world, 3)
    source.sync()
    assert (image(source), accepted(source).id) == ("demo:3", third), refusal(source)
    assert refusal(source) == (None, "")


def test_git_s_own_server_is_followed(served: World) -> None:
    with git_daemon(served.folder / "base", served.folder) as url:
        source = served.source(url=f"{url}/shop.git")
        follows(served, source)
        assert source.status().url == f"{url}/shop.git"


def test_a_server_that_cannot_filter_is_followed_too(served: World) -> None:
    Repo(served.folder / "base" / "plain.git", bare=True, can_filter=False)
    served.repo.git("remote", "set-url", "origin", str(served.folder / "base" / "plain.git"))
    with git_daemon(served.folder / "base", served.folder) as url:
        follows(served, served.source(url=f"{url}/plain.git"))


def test_http_is_followed_on_this_host(served: World) -> None:
    with Web(served.folder / "base", served.folder / "web").serving() as web:
        follows(served, served.source(url=f"{web.url}/shop.git"))
        assert all(not given for _, given in web.asked), "nobody has asked for credentials"


@pytest.fixture
def token(world: World) -> Path:
    path = world.folder / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o600)
    return path


@pytest.mark.control("K15")
def test_https_with_a_token_is_followed_and_the_token_shows_nowhere(
    served: World, token: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with Web(served.folder / "base", served.folder / "web", tls=True, user=f"robot:{TOKEN}").serving() as web:
        config = {"url": f"{web.url}/shop.git", "ca_file": str(web.ca_file), "username": "robot"}
        source = served.source(**config, token_file=str(token))
        follows(served, source)
        token.write_text("wrong-" + TOKEN)
        source.sync()
        kind, message = refusal(source)
        assert kind is Kind.UNREACHABLE
        assert "token_file" in message
    said = capsys.readouterr()
    shown = "".join((said.out, said.err, caplog.text, message, repr(source.status()), repr(source.load())))
    kept = b"".join(path.read_bytes() for path in served.state.rglob("*") if path.is_file())
    coded = web.asked[0][1].removeprefix("Basic ")
    assert coded
    for secret in (TOKEN, coded):
        assert secret not in shown
        assert secret.encode() not in kept


@pytest.mark.control("K15")
def test_no_command_line_holds_the_token(served: World, token: Path) -> None:
    """Every process that the server meets while it serves is looked at."""
    seen: list[bytes] = []

    def look(asked: BaseHTTPRequestHandler) -> None:
        for entry in os.scandir("/proc"):
            if entry.name.isdecimal():
                try:
                    seen.append(Path(entry.path, "cmdline").read_bytes())
                except OSError:
                    continue
        web._backend(asked)

    web = Web(served.folder / "base", served.folder / "web", user=f"git:{TOKEN}", evil=look)
    with web.serving():
        push(served, 1)
        source = served.source(url=f"{web.url}/shop.git", token_file=str(token))
        source.sync()
        assert image(source) == "demo:1"
    assert any(b"remote-http" in line for line in seen)
    assert not any(TOKEN.encode() in line or b"Authorization" in line for line in seen)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_token_that_others_may_read_is_not_used(served: World, token: Path, mode: int) -> None:
    token.chmod(mode)
    source = served.source(url="https://127.0.0.1:1/shop.git", token_file=str(token))
    source.sync()
    assert "chmod 600" in refusal(source)[1]


@pytest.mark.fault("GT1")
def test_a_server_that_nobody_vouches_for_is_not_believed(served: World) -> None:
    push(served, 1)
    with Web(served.folder / "base", served.folder / "web", tls=True).serving() as web:
        source = served.source(url=f"{web.url}/shop.git")
        source.sync()
        kind, message = refusal(source)
        assert kind is Kind.UNREACHABLE
        assert "ca_file" in message
        assert web.asked == []


@pytest.fixture
def ssh(world: World) -> Iterator[Ssh]:
    with Ssh(world.folder / "ssh").serving() as made:
        yield made


def _over_ssh(world: World, ssh: Ssh, **config: str) -> GitSource:
    wanted = {"known_hosts": str(ssh.known_hosts), "ssh_key": str(ssh.folder / "user")}
    return world.source(url=f"{ssh.url}{world.folder}/base/shop.git", **(wanted | config))


def test_ssh_with_a_deploy_key_is_followed(served: World, ssh: Ssh) -> None:
    follows(served, _over_ssh(served, ssh))


@pytest.mark.fault("GT1")
def test_ssh_says_what_is_wrong_with_keys_and_hosts(served: World, ssh: Ssh) -> None:
    push(served, 1)
    other = served.folder / "other_hosts"
    other.write_text(f"[{ssh.address}]:{ssh.port} {(ssh.folder / 'stranger.pub').read_text()}")
    for config, words in (
        ({"known_hosts": str(other)}, "known_hosts"),
        ({"ssh_key": str(ssh.folder / "stranger")}, "deploy key"),
        ({"ssh_key": str(ssh.folder / "none")}, "ssh_key"),
        ({"known_hosts": str(ssh.folder / "none")}, "known_hosts"),
    ):
        source = _over_ssh(served, ssh, **config)
        source.sync()
        kind, message = refusal(source)
        assert kind is Kind.UNREACHABLE
        assert words in message, message


# ── servers that do it wrong ───────────────────────────────────────────────────────────────────────────────────────


def _hang(_asked: BaseHTTPRequestHandler) -> None:
    time.sleep(30)


def _drip(asked: BaseHTTPRequestHandler) -> None:
    asked.send_response(200)
    asked.send_header("Content-Type", "application/x-git-upload-pack-advertisement")
    asked.end_headers()
    with_time = time.monotonic() + 30
    while time.monotonic() < with_time:
        asked.wfile.write(b"0")
        asked.wfile.flush()
        time.sleep(0.05)


def _garbage(asked: BaseHTTPRequestHandler) -> None:
    asked.send_response(200)
    asked.send_header("Content-Type", "application/x-git-upload-pack-advertisement")
    asked.end_headers()
    asked.wfile.write(b"001e# service=git-upload-pack\n0000000eversion 2\nffff" + os.urandom(2000))


def _redirect(asked: BaseHTTPRequestHandler) -> None:
    asked.send_response(302)
    asked.send_header("Location", "http://127.0.0.1:1/elsewhere.git/info/refs?service=git-upload-pack")
    asked.end_headers()


def _endless(asked: BaseHTTPRequestHandler) -> None:
    asked.send_response(200)
    asked.send_header("Content-Type", "application/x-git-upload-pack-advertisement")
    asked.end_headers()
    line = b"003d" + b"a" * 40 + b" refs/heads/abcdef\n"
    asked.wfile.write(b"001e# service=git-upload-pack\n0000")
    for _ in range(400_000):
        asked.wfile.write(line)


def _status(number: int) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(asked: BaseHTTPRequestHandler) -> None:
        asked.send_response(number)
        asked.end_headers()

    return answer


EVIL = {
    "hang": (_hang, "come to an end"),
    "drip": (_drip, "come to an end"),
    "garbage": (_garbage, "reading"),
    "redirect": (_redirect, "never followed"),
    "endless": (_endless, "reading"),
    "403": (_status(403), "forbids"),
    "404": (_status(404), "no repository"),
    "500": (_status(500), "tried again"),
}


@pytest.mark.fault("GT1")
@pytest.mark.parametrize("how", EVIL)
def test_a_server_that_does_it_wrong_leaves_the_last_good_commit(served: World, how: str) -> None:
    answer, words = EVIL[how]
    with Web(served.folder / "base", served.folder / "web").serving() as web:
        push(served, 1)
        patient = served.source(url=f"{web.url}/shop.git")
        patient.sync()
        assert image(patient) == "demo:1", refusal(patient)
        web.evil = answer
        push(served, 2)
        hasty = served.source(url=f"{web.url}/shop.git", timeout_s=1.0)
        hasty.sync()
        kind, message = refusal(hasty)
        assert kind is Kind.UNREACHABLE
        assert words in message, message
        assert image(hasty) == "demo:1"
        web.evil = None
        patient.sync()
        assert (image(patient), refusal(patient)) == ("demo:2", (None, ""))


@pytest.mark.fault("GT1")
def test_nobody_there_and_no_name_are_told_and_the_wait_grows(served: World) -> None:
    source = served.source(url=f"http://{own_address()}:1/shop.git")
    for count in (1, 2, 3):
        source._look(forgive=False)
        assert source.status().failures == count
    assert "cannot be reached" in refusal(source)[1]
    loaded = source.load()
    assert (loaded.settled, loaded.desired) == (True, None)
    assert len(loaded.problems) == 1
    assert len([word for word in served.news if "unreachable" in word]) == 1, "told once"
    unknown = served.source(url="https://nowhere.invalid/shop.git")
    unknown.sync()
    assert refusal(unknown)[0] is Kind.UNREACHABLE


@pytest.mark.fault("GT1")
def test_a_hanging_server_holds_no_stop_up(served: World) -> None:
    listener = socket.create_server((own_address(), 0))
    listener.settimeout(30.0)
    address, port = listener.getsockname()
    source = served.source(url=f"http://{address}:{port}/shop.git", timeout_s=60.0)
    source.start()
    connection, _ = listener.accept()
    ended = threading.Event()
    threading.Thread(target=lambda: (source.stop(), ended.set()), daemon=True).start()
    wait_until(ended.is_set, "its end")
    connection.close()
    listener.close()


# ── what is never sent ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("GT8")
def test_ten_thousand_tags_and_branches_are_not_fetched(served: World) -> None:
    first = push(served, 1)
    refs = "".join(f"{first} refs/{kind}/n{number}\n" for number in range(10_000) for kind in ("tags", "heads"))
    packed = served.folder / "base" / "shop.git" / "packed-refs"
    packed.write_text("# pack-refs with: peeled fully-peeled sorted \n" + "".join(sorted(refs.splitlines(True),
                      key=lambda line: line.split()[1])))  # fmt: skip
    with git_daemon(served.folder / "base", served.folder) as url:
        source = served.source(url=f"{url}/shop.git")
        follows(served, source)
    mirror = served.git_folder / "mirror"
    assert not (mirror / "packed-refs").exists()
    assert sorted(path.name for path in (mirror / "refs").rglob("*") if path.is_file()) == ["accepted", "candidate"]


@pytest.mark.fault("GT8")
def test_a_large_file_elsewhere_in_the_repository_is_not_fetched(served: World) -> None:
    served.repo.write("video.bin", os.urandom(5 * 1024 * 1024))
    with git_daemon(served.folder / "base", served.folder) as url:
        source = served.source(url=f"{url}/shop.git")
        follows(served, source)
    fetched = sum(path.stat().st_size for path in served.git_folder.rglob("*") if path.is_file())
    assert fetched < 1024 * 1024


def test_the_state_file_names_no_secret(served: World, token: Path) -> None:
    with Web(served.folder / "base", served.folder / "web", user=f"git:{TOKEN}").serving() as web:
        push(served, 1)
        source = served.source(url=f"{web.url}/shop.git", token_file=str(token))
        source.sync()
    state = json.loads((served.git_folder / "state.json").read_text())["state"]
    assert state["url"] == f"{web.url}/shop.git"
    assert TOKEN not in json.dumps(state)
    assert MANIFEST.format(number=1) == source.path.read_text() if source.path else False


def test_a_key_is_made_for_nobody_else(tmp_path: Path) -> None:
    assert keygen(tmp_path / "key").stat().st_mode & 0o077 == 0


@pytest.mark.control("K11")
def test_only_the_authorities_that_are_named_are_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """git trusts a folder of the host's beside the file that it is given, unless it is told not to."""
    mine, theirs = tmp_path / "mine.pem", tmp_path / "theirs.pem"
    for path in (mine, theirs):
        path.write_text("x")
    monkeypatch.setattr(git_access, "BUNDLES", (str(tmp_path / "none"), str(theirs)))
    remote = git_url.remote("https://h/x")
    named = dict(git_access.setting(GitConfig(remote.url, ca_file=str(mine)), remote).options)
    assert named == {"http.sslCAInfo": str(mine), "http.sslCAPath": "/dev/null"}
    host = dict(git_access.setting(GitConfig(remote.url), remote).options)
    assert host == {"http.sslCAInfo": str(theirs), "http.sslCAPath": "/dev/null"}
    monkeypatch.setattr(git_access, "BUNDLES", ())
    assert dict(git_access.setting(GitConfig(remote.url), remote).options) == {}


def test_a_look_agrees_on_its_key_in_the_cheap_way_and_a_fetch_does_not(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("")
    remote = git_url.remote("git@h:x/y")
    config = GitConfig(remote.url, known_hosts=str(tmp_path / "hosts"))
    look, fetch = (dict(git_access.setting(config, remote, only_looks=is_look).options) for is_look in (True, False))
    assert "KexAlgorithms=^curve25519" in look["core.sshCommand"]
    assert "KexAlgorithms" not in fetch["core.sshCommand"]
    for command in (look["core.sshCommand"], fetch["core.sshCommand"]):
        assert "StrictHostKeyChecking=yes" in command
        assert "-F /dev/null" in command
