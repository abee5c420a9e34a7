"""Real servers of a repository, each on an address of the loopback that nobody else uses."""

from __future__ import annotations

import base64
import getpass
import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.adapters.prometheus_world import own_address
from tests.git.git_world import clean_environment, wait_until

ROOT = Path(__file__).resolve().parents[2]
SSHD = ROOT / ".cache" / "sshd"
NOTHING: Mapping[str, str] = MappingProxyType({})


def answers(address: str, port: int) -> bool:
    with socket.socket() as channel:
        channel.settimeout(1.0)
        return channel.connect_ex((address, port)) == 0


@contextmanager
def running(
    command: list[str], home: Path, address: str, port: int, more: Mapping[str, str] = NOTHING
) -> Iterator[subprocess.Popen[bytes]]:
    """A server as a process of its own group, up and answering; gone afterwards with all it started."""
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=clean_environment(home, more),
            start_new_session=True,
        )  # fmt: skip
    try:
        wait_until(lambda: process.poll() is not None or answers(address, port), command[0])
        assert process.poll() is None, (home / "server.log").read_text()
        yield process
    finally:
        os.killpg(process.pid, 15)
        process.wait(10)


# ── git daemon ─────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def git_daemon(base: Path, home: Path) -> Iterator[str]:
    """`git daemon` over the folder `base`; its address."""
    address = own_address()
    command = ["git", "daemon", "--export-all", f"--base-path={base}", f"--listen={address}", "--reuseaddr", str(base)]
    with running(command, home, address, 9418):
        yield f"git://{address}"


# ── ssh ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def sshd() -> Path:
    """The server's program, from the distribution's package; a loud skip where it cannot be had."""
    if not (SSHD / "sshd").exists():
        fetched = subprocess.run([str(ROOT / "scripts" / "sshd")], stdin=subprocess.DEVNULL, capture_output=True,
                                 text=True, check=False)  # fmt: skip
        if fetched.returncode:
            pytest.skip(f"NO SSH SERVER to test with: {fetched.stderr.strip()}")
    return SSHD / "sshd"


class Ssh:
    """An SSH server that lets this test's user in with one key. The user needs no entry in this machine's files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.address, self.port = own_address(), 2222
        for name in ("host", "user", "stranger"):
            keygen(folder / name)
        self.known_hosts = folder / "known_hosts"
        self.known_hosts.write_text(f"[{self.address}]:{self.port} {(folder / 'host.pub').read_text()}")
        self.user = getpass.getuser()
        self.url = f"ssh://{self.user}@{self.address}:{self.port}"
        (folder / "keys").write_text((folder / "user.pub").read_text())
        (folder / "passwd").write_text(
            f"{self.user}:x:{os.getuid()}:{os.getgid()}:test:{folder}:/bin/sh\n"
            "sshd:x:65533:65534:test:/run/sshd:/bin/false\n"
        )
        (folder / "shadow").write_text(f"{self.user}:*:19000:0:99999:7:::\nsshd:*:19000:0:99999:7:::\n")
        (folder / "config").write_text(
            f"ListenAddress {self.address}:{self.port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/keys\n"
            "PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            "PermitRootLogin yes\nUseDNS no\n"
        )

    @contextmanager
    def serving(self) -> Iterator[Ssh]:
        program = sshd()
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # its program has this path built in
        more = {
            "LD_LIBRARY_PATH": str(SSHD),
            "LD_PRELOAD": str(SSHD / "libnss_wrapper.so"),
            "NSS_WRAPPER_PASSWD": str(self.folder / "passwd"),
            "NSS_WRAPPER_GROUP": "/etc/group",
            "NSS_WRAPPER_SHADOW": str(self.folder / "shadow"),
        }
        command = [str(program), "-D", "-e", "-f", str(self.folder / "config")]
        with running(command, self.folder, self.address, self.port, more):
            yield self


def keygen(path: Path) -> Path:
    """A new key without a passphrase; its public half is beside it."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)],
        check=True, stdin=subprocess.DEVNULL, capture_output=True,
    )  # fmt: skip
    return path


# ── http and https ─────────────────────────────────────────────────────────────────────────────────────────────────

Answer = Callable[[BaseHTTPRequestHandler], None]


class Web:
    """`git http-backend` behind a small server; `evil` answers in its place, `user` must be given (`name:password`)."""

    def __init__(
        self, base: Path, folder: Path, *, tls: bool = False, user: str = "", evil: Answer | None = None
    ) -> None:
        self.base, self.user, self.evil = base, user, evil
        self.asked: list[tuple[str, str]] = []
        folder.mkdir(exist_ok=True)
        self.address = own_address()
        self._server = ThreadingHTTPServer((self.address, 8443), self._handler())
        self._server.daemon_threads = True
        self.ca_file = folder / "ca.pem"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certificate(folder, self.address)
            context.load_cert_chain(folder / "ca.pem", folder / "ca.key")
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://{self.address}:8443"

    @contextmanager
    def serving(self) -> Iterator[Web]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join(5)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def do_GET(self) -> None:
                web.answer(self)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                """Nothing."""

        return Handler

    def answer(self, asked: BaseHTTPRequestHandler) -> None:
        given = asked.headers.get("Authorization", "")
        self.asked.append((asked.path, given))
        wanted = "Basic " + base64.b64encode(self.user.encode()).decode()
        if self.user and given != wanted:
            asked.send_response(401)
            asked.send_header("WWW-Authenticate", 'Basic realm="git"')
            asked.send_header("Content-Length", "0")
            asked.end_headers()
        elif self.evil is not None:
            self.evil(asked)
        else:
            self._backend(asked)

    def _backend(self, asked: BaseHTTPRequestHandler) -> None:
        """What a web server with CGI does."""
        path, _, query = asked.path.partition("?")
        length = asked.headers.get("Content-Length", "0")
        body = asked.rfile.read(int(length))
        done = subprocess.run(
            ["git", "http-backend"],
            input=body,
            capture_output=True,
            check=False,
            env=clean_environment(self.base, {
                "GIT_PROJECT_ROOT": str(self.base), "GIT_HTTP_EXPORT_ALL": "1", "REQUEST_METHOD": asked.command,
                "PATH_INFO": path, "QUERY_STRING": query, "CONTENT_TYPE": asked.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": length, "HTTP_CONTENT_ENCODING": asked.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": asked.headers.get("Git-Protocol", ""), "REMOTE_ADDR": "127.0.0.1",
            }),
        )  # fmt: skip
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        asked.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            asked.send_header(name, value)
        asked.send_header("Content-Length", str(len(content)))
        asked.end_headers()
        asked.wfile.write(content)


def certificate(folder: Path, address: str) -> None:
    """A certificate that vouches for itself, for an address."""
    if shutil.which("openssl") is None:
        pytest.skip("NO OPENSSL to make a certificate with")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", str(folder / "ca.key"), "-out", str(folder / "ca.pem"), "-subj", "/CN=test",
         "-addext", f"subjectAltName=IP:{address}"],
        check=True, stdin=subprocess.DEVNULL, capture_output=True,
    )  # fmt: skip
