"""Whose signatures are believed: the operator's list of SSH keys, and the operator's OpenPGP keyring.

Only root may have written either. git is given copies of what was looked at, so that nobody can change them in between,
and a gpg only where there is a keyring.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from reconciler.adapters.git_access import AccessError
from reconciler.adapters.git_command import PROGRAMS, Setting
from reconciler.adapters.git_mirror import Mirror
from reconciler.core.git_config import GitConfig
from reconciler.core.trust import Signature, Signed
from reconciler.formats import git_output, git_signers

KEYRING_MAX_BYTES = 32 * 1024 * 1024
_KEYRING = ("pubring.kbx", "pubring.gpg", "trustdb.gpg")
_GPG_CONF = "no-auto-key-retrieve\nno-auto-key-locate\nno-greeting\nlock-never\n"


class Signers:
    """Judges signatures by what the configuration names; its copies are in `folder`, which is ours.

    `owner` is who must have written the list and the keyring: root, but in tests.
    """

    def __init__(self, config: GitConfig, folder: Path, owner: int = 0) -> None:
        self._config = config
        self._folder = folder
        self._owner = owner
        self._listed: tuple[git_signers.Signer, ...] = ()

    def identity(self) -> tuple[tuple[int, ...], ...]:
        """Changes when the list or the keyring does: what was refused then is judged anew."""
        return tuple(_identity(path) for path in self._paths())

    def _paths(self) -> list[Path]:
        listed = [Path(self._config.allowed_signers)] if self._config.allowed_signers else []
        home = Path(self._config.gpg_home) if self._config.gpg_home else None
        return listed + [home / name for name in _KEYRING if home]

    def signatures(self, mirror: Mirror, commits: Sequence[str]) -> tuple[Signature, ...]:
        """What is known of each commit's signature, in their order. Raises GitError and CommitError."""
        setting = self._setting()
        raw = mirror.commits(commits)
        schemes = {one: found.schemes[0] if found.schemes else "" for one, found in raw.items()}
        said = [one for piece in mirror.signatures(setting, commits) for one in git_output.verdicts(piece, schemes)]
        by_commit = {one.commit: git_signers.explained(one, raw[one.commit].key, self._listed) for one in said}
        found = tuple(
            self._checked(by_commit.get(one, Signature(one, Signed.UNREADABLE)), raw[one].schemes) for one in commits
        )
        good = [one.commit for one in found if one.state is Signed.GOOD]
        if good and not mirror.verifies(setting, good):
            return tuple(Signature(one.commit, Signed.BAD, one.by, one.scheme) for one in found)
        return found

    def _checked(self, signature: Signature, schemes: tuple[str, ...]) -> Signature:
        """What git says, and what the commit itself says: one signature, of a kind that is asked for here."""
        if len(schemes) > 1:
            return Signature(signature.commit, Signed.TWICE)
        if not schemes:
            return Signature(signature.commit, Signed.NONE)
        is_asked_for = {"ssh": self._config.allowed_signers, "openpgp": self._config.gpg_home}.get(schemes[0])
        if not is_asked_for or signature.state is Signed.NONE:
            names = {"ssh": "an SSH", "openpgp": "an OpenPGP", "x509": "an X.509"}
            return Signature(signature.commit, Signed.UNREADABLE, scheme=names.get(schemes[0], "an unknown kind of"))
        return signature

    def _setting(self) -> Setting:
        """What git needs to verify. Raises AccessError where the list or the keyring may not be believed."""
        options: list[tuple[str, str]] = []
        environment: list[tuple[str, str]] = []
        if not self._paths():
            raise AccessError("signatures are asked for, and nobody is trusted. Set `allowed_signers` or `gpg_home`")
        _fresh(self._folder)
        if self._config.allowed_signers:
            data = self._believed(Path(self._config.allowed_signers))
            self._listed = git_signers.read(data)
            _write(self._folder / "allowed_signers", data)
            options += [
                ("gpg.ssh.allowedSignersFile", str(self._folder / "allowed_signers")),
                ("gpg.ssh.program", _program("ssh-keygen", "openssh-client")),
            ]
        if self._config.gpg_home:
            self._copy_keyring(Path(self._config.gpg_home))
            program = _program("gpg", "gnupg")
            options += [("gpg.program", program), ("gpg.openpgp.program", program)]
            environment.append(("GNUPGHOME", str(self._folder / "gpg")))
        return Setting(tuple(options), tuple(environment))

    def _copy_keyring(self, home: Path) -> None:
        """Afterwards `gpg` in our folder is a home with the keyring of `home`, and settings of ours."""
        self._must_be_roots(home, os.stat(home) if home.exists() else None)
        own = self._folder / "gpg"
        own.mkdir(mode=0o700)
        names = [name for name in _KEYRING if (home / name).exists()]
        if not any(name.startswith("pubring") for name in names):
            raise AccessError(f"{home} holds no keyring (pubring.kbx). Import the signers' keys there")
        for name in names:
            _write(own / name, self._believed(home / name))
        _write(own / "gpg.conf", _GPG_CONF.encode())

    def _believed(self, path: Path) -> bytes:
        """The bytes of a file that only `owner` can have written. Raises AccessError."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise AccessError(f"{path} cannot be read: {error.strerror}. It must be a file of its own") from error
        with open(descriptor, "rb") as file:
            self._must_be_roots(path, os.fstat(descriptor))
            data = file.read(KEYRING_MAX_BYTES + 1)
        if len(data) > KEYRING_MAX_BYTES:
            raise AccessError(f"{path} has more than {KEYRING_MAX_BYTES} bytes. Name only those who may sign")
        return data

    def _must_be_roots(self, path: Path, status: os.stat_result | None) -> None:
        if status is None or not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise AccessError(f"{path} is not there. Look at `allowed_signers` and `gpg_home`")
        if status.st_uid != self._owner:
            raise AccessError(f"{path} belongs to the user {status.st_uid}, not to root. Look at it, then chown it")
        if status.st_mode & 0o022:
            raise AccessError(f"{path} can be written by others. Look at it, then `chmod go-w {path}`")


def _program(name: str, package: str) -> str:
    """A program that only root can have put there. Raises AccessError."""
    found = shutil.which(name, path=PROGRAMS)
    if found is None:
        raise AccessError(f"{name} is not installed. Install it: `apt install {package}`")
    status = os.stat(found)
    if status.st_uid != 0 or status.st_mode & 0o022:
        raise AccessError(f"{found} is not root's alone to write: signatures cannot be judged by it")
    return found


def _fresh(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)


def _identity(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
