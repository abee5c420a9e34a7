"""The host's allow file: which of the host's paths the services of which project may mount.

    shop: [/srv/shop-data, /run/docker.sock]

It is the host's word against the manifest's writer, so only root may have written it. Where that is not sure, or where
anything in it is not understood, nothing in it is believed.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

from reconciler.core.errors import ManifestError
from reconciler.formats import yaml_strict
from reconciler.formats.findings import Findings, shown_key, shown_text
from reconciler.formats.mounts import HostAllow, is_plain_path
from reconciler.formats.schema import part
from reconciler.formats.yaml_strict import Node


class HostAllowFile:
    """The allow file at `path`, which must belong to the user `owner` (root, but in tests)."""

    def __init__(self, path: Path, owner: int = 0) -> None:
        self._path = path
        self._owner = owner
        self._last: tuple[bytes, HostAllow] | None = None

    @property
    def path(self) -> Path:
        """Where it is looked for."""
        return self._path

    def read(self) -> tuple[HostAllow, os.stat_result | None]:
        """What the file permits now, and the file's status where it is there and its bytes were read. Never raises.

        A missing file permits nothing and is no trouble.
        """
        try:
            data, status = self._believed()
        except FileNotFoundError:
            return HostAllow(), None
        except _Untrusted as untrusted:
            return HostAllow(trouble=f"{self._path}:1:1: {untrusted}"), None
        except OSError as error:
            return HostAllow(trouble=f"{self._path}:1:1: {_why(error, self._path)}"), None
        if self._last is None or self._last[0] != data:
            self._last = data, parse(data, str(self._path))
        return self._last[1], status

    def _believed(self) -> tuple[bytes, os.stat_result]:
        """The bytes of a file that only its owner can have written; _Untrusted or OSError otherwise."""
        descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if complaint := _complaint(status, self._owner, self._path):
                raise _Untrusted(complaint)
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(yaml_strict.MAX_BYTES + 1), status
        finally:
            os.close(descriptor)


def parse(data: bytes, file: str) -> HostAllow:
    """The permissions in `data`; none, and the trouble with its place in `file`, where any of it is not understood."""
    if all(not line or line.startswith(b"#") for line in map(bytes.strip, data.splitlines())):
        return HostAllow()
    findings = Findings(file)
    try:
        root = yaml_strict.load(data, file)
    except ManifestError as error:
        problems = error.problems
    else:
        paths = _paths(root, findings)
        problems = findings.problems
        if not problems:
            return HostAllow(paths)
    more = f" (and {len(problems) - 1} more such)" if len(problems) > 1 else ""
    return HostAllow(trouble=f"{problems[0]}".rstrip(".") + more)


class _Untrusted(Exception):
    """Somebody else than the host's root may have written the file."""


def _complaint(status: os.stat_result, owner: int, path: Path) -> str:
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file. Write one: <project>: [list of paths]"
    if status.st_uid != owner:
        return f"belongs to the user {status.st_uid}, not to {owner or 'root'}. Look at it, then `chown root {path}`"
    if mode & 0o022:
        return f"can be written by others (mode {mode:04o}). Look at it, then `chmod 644 {path}`"
    if status.st_nlink != 1:
        return f"has {status.st_nlink} names: it is a hard link. Write a file of its own"
    return ""


def _why(error: OSError, path: Path) -> str:
    if error.errno == errno.ELOOP:
        return "is a symbolic link. It must be a file of its own"
    if isinstance(error, PermissionError):
        return f"may not be read by this user. `chmod 644 {path}`"
    return f"cannot be read: {error.strerror}"


def _paths(root: Node, findings: Findings) -> dict[str, frozenset[str]]:
    """The permitted paths by project; what is not understood is in the findings."""
    if not isinstance(root.value, dict):
        findings.problem(root, "this is no mapping. Write <project>: [list of paths]")
    project_name = re.compile(part("$defs", "projectName")["pattern"])
    found = {}
    for project, node in root.mapping.items():
        if project_name.search(project) is None:
            findings.problem(root.keys[project], f"{shown_key(project)} is no project's name. Name each by itself")
        if not isinstance(node.value, list):
            findings.problem(node, f"{shown_key(project)} is no list. Write [] or a list of paths such as [/srv/data]")
        for item in node.items:
            if not isinstance(item.value, str) or not is_plain_path(item.value):
                what = shown_text(item.text) if item.text else "no text"
                findings.problem(
                    item, f"{item.path} is {what}. Use an absolute path without '..', '//' and '/' at its end"
                )
        found[project] = frozenset(str(item.value) for item in node.items)
    return found
