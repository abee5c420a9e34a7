"""How a repository is reached: which protocol, with whose key or token, and whom we take for the server.

A token goes into an `Authorization` header that is bound to the repository's own address, in a variable of the one git
that needs it: it stands in no command line, no file of ours and no message.
"""

from __future__ import annotations

import base64
import os
import shlex
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from reconciler.adapters.git_command import PROGRAMS, GitError, Setting
from reconciler.core.git_config import GitConfig
from reconciler.formats.git_url import Remote

TOKEN_MAX_BYTES = 16 * 1024
BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
"""Where a host keeps the authorities that it trusts, as one file."""
_NO_FOLDER = "/dev/null"
_CHEAP = ("-o", "KexAlgorithms=^curve25519-sha256,curve25519-sha256@libssh.org")
"""Before the hybrid one that withstands quantum computers and takes 50 ms: who reads this in 2040 learns an id."""
SYSTEM_KNOWN_HOSTS = "/etc/ssh/ssh_known_hosts"


class AccessError(GitError):
    """A file that is needed to reach the repository cannot be used; the message says which, why and what to do."""


def setting(config: GitConfig, remote: Remote, *, only_looks: bool = False) -> Setting:
    """What git needs to reach `remote`. Raises AccessError; read anew at every call, so that a new token is used.

    With `only_looks` nothing but the ids of commits will travel: ssh may then agree on its key in the cheaper way.
    """
    protocol = {"http": "http", "https": "https", "ssh": "ssh", "git": "git", "file": "file"}[remote.scheme]
    if remote.scheme == "ssh":
        return Setting((("core.sshCommand", _ssh(config, only_looks)),), protocols=(protocol,))
    if remote.scheme in ("http", "https"):
        return _http(config, remote, protocol)
    return Setting(protocols=(protocol,))


def _http(config: GitConfig, remote: Remote, protocol: str) -> Setting:
    options: list[tuple[str, str]] = []
    secrets: tuple[str, ...] = ()
    if config.ca_file:
        _readable(config.ca_file, "ca_file")
    trusted = config.ca_file or next((path for path in BUNDLES if os.access(path, os.R_OK)), None)
    if trusted:
        # Without the second, git would trust the host's folder of authorities as well, and read it in 40 ms each time.
        options += [("http.sslCAInfo", trusted), ("http.sslCAPath", _NO_FOLDER)]
    if config.token_file:
        token = read_token(Path(config.token_file))
        coded = base64.b64encode(f"{config.username or 'git'}:{token}".encode()).decode("ascii")
        options.append((f"http.{remote.url}.extraHeader", f"Authorization: Basic {coded}"))
        secrets = (token, coded)
    return Setting(tuple(options), protocols=(protocol,), secrets=secrets)


def read_token(path: Path) -> str:
    """The token in `path`, a file that only its owner may read. Raises AccessError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise AccessError(f"the token in {path} cannot be read: {error.strerror}. Look at `token_file`") from error
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise AccessError(f"{path} is not a regular file. Write the token into one, and `chmod 600` it")
        if status.st_mode & 0o077:
            raise AccessError(f"the token in {path} may be read by others. `chmod 600 {path}`")
        token = file.read(TOKEN_MAX_BYTES + 1).decode("utf-8", "replace").strip()
    if not token or len(token) > TOKEN_MAX_BYTES or not (token.isascii() and token.isprintable()) or " " in token:
        raise AccessError(f"{path} holds no token: one line of ASCII without blanks is wanted")
    return token


def _readable(path: str, what: str) -> Path:
    if not os.access(path, os.R_OK):
        raise AccessError(f"{path} is not there, or may not be read. Look at `{what}`")
    return Path(path)


def _ssh(config: GitConfig, only_looks: bool) -> str:
    """The command line of an ssh that asks nobody, reads no configuration, and trusts known hosts alone."""
    program = shutil.which("ssh", path=PROGRAMS)
    if program is None:
        raise AccessError("ssh is not installed. Install it: `apt install openssh-client`")
    known = config.known_hosts or SYSTEM_KNOWN_HOSTS
    _readable(known, "known_hosts")
    return shlex.join(
        [program, "-F", "/dev/null", "-a", "-x", "-T", *_ssh_options(config, known), *(_CHEAP if only_looks else ())]
    )


def _ssh_options(config: GitConfig, known: str) -> Iterator[str]:
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": _quoted(known),
        "GlobalKnownHostsFile": "/dev/null",
        "UpdateHostKeys": "no",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "IdentityFile": _quoted(str(_readable(config.ssh_key, "ssh_key"))) if config.ssh_key else "none",
        "ControlMaster": "no",
        "ControlPath": "none",
        "ClearAllForwardings": "yes",
        "PermitLocalCommand": "no",
        "ProxyCommand": "none",
        "ConnectTimeout": f"{max(1, int(config.timeout_s))}",
        "LogLevel": "ERROR",
    }
    for name, value in options.items():
        yield from ("-o", f"{name}={value}")


def _quoted(path: str) -> str:
    """A path as ssh's configuration has it: blanks within quotes, no tokens."""
    if '"' in path or not path.isprintable():
        raise AccessError(f"{path!r} cannot be given to ssh. Use a path without quotes and control characters")
    return f'"{path}"'.replace("%", "%%")
