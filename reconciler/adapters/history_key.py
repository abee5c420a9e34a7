"""The key that signs checkpoints: made once, kept in the state directory or given, used through `ssh-keygen`.

The private key never enters this process. A host without `ssh-keygen` has no signatures, and everything else.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from reconciler.adapters.state_dir import open_own, sync_directory, translated
from reconciler.core.errors import StateError
from reconciler.formats.history_checkpoint import NAMESPACE, key_of, public_keys, public_line, unarmoured

NAME = "history-key"
PUBLIC = "history.pub"  # not history-key.pub: there ssh-keygen would look, and refuse to sign where it is another one
CREDENTIAL = "swiftdeploy.history-key"
TIMEOUT_S = 5.0


def given_key(environment: Mapping[str, str]) -> Path | None:
    """The key that systemd gave the service (`LoadCredential=swiftdeploy.history-key:...`), None where it did not."""
    folder = environment.get("CREDENTIALS_DIRECTORY")
    return Path(folder, CREDENTIAL) if folder and Path(folder, CREDENTIAL).exists() else None


class HistoryKey:
    """An Ed25519 key in a file: `path` as it is where given, else `<directory>/history-key`, made when needed."""

    def __init__(self, directory: Path, path: Path | None = None, program: str = "ssh-keygen") -> None:
        self._own = directory.absolute() / NAME
        self.path = path or self._own
        self._program = program
        self._published: bytes | None = None

    @property
    def public_path(self) -> Path:
        """Where the public half is, also of a key that was given: for whoever may read there."""
        return self._own.with_name(PUBLIC)

    def sign(self, message: bytes) -> str:
        """The signature on one line. StateError says why there is none, and what to do."""
        self._make_sure()
        armoured = self._run(["-Y", "sign", "-q", "-n", NAMESPACE, "-f", str(self.path)], message)
        try:
            signature = unarmoured(armoured)
            key = key_of(signature)
        except ValueError as error:
            raise StateError(
                f"{self._program} gave no Ed25519 signature: {error}. Is {self.path} such a key?"
            ) from error
        if key != self._published:
            self._publish(key)
        return signature

    def public(self) -> str | None:
        """The public key as OpenSSH writes it, without a comment; None where there is no key yet."""
        with translated(self.public_path):
            try:
                (key,) = public_keys(self.public_path.read_text(encoding="ascii"))
            except FileNotFoundError:
                return None
            except ValueError as error:
                raise StateError(f"{self.public_path} does not hold one public key: {error}") from error
        return public_line(key)

    def _make_sure(self) -> None:
        """Afterwards our own key is there, for nobody else to read; a key that was given is somebody else's care."""
        if self.path != self._own:
            return
        with translated(self.path):
            try:
                os.close(open_own(self.path, os.O_RDONLY))
            except FileNotFoundError:
                self._make()

    def _make(self) -> None:
        """A new key, whole or not at all: made under a name that the next start sweeps away, synced, then linked."""
        temporary = self._own.with_name(f".{NAME}.{os.getpid()}-0.tmp")
        leftover = temporary.with_name(temporary.name + ".pub")
        for path in (temporary, leftover):
            path.unlink(missing_ok=True)
        try:
            self._run(["-q", "-t", "ed25519", "-N", "", "-C", NAMESPACE, "-f", str(temporary)])
            _sync(temporary)
            with suppress(FileExistsError):
                os.link(temporary, self._own)
        finally:
            for path in (temporary, leftover):
                path.unlink(missing_ok=True)
        sync_directory(self._own.parent)

    def _publish(self, key: bytes) -> None:
        """Afterwards the public half is where people look for it, unless the disk is full: then the next time."""
        line = f"{public_line(key)} {NAMESPACE}\n"
        with suppress(OSError):
            if not self._is_published(key):
                self._write_public(line)
            self._published = key

    def _is_published(self, key: bytes) -> bool:
        try:
            return self.public() == public_line(key)
        except StateError:
            return False

    def _write_public(self, line: str) -> None:
        temporary = self._own.with_name(f".{NAME}.{os.getpid()}-1.tmp")
        temporary.unlink(missing_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, line.encode())
            os.fchmod(fd, 0o644)
        finally:
            os.close(fd)
        _sync(temporary)
        os.rename(temporary, self.public_path)
        sync_directory(self._own.parent)

    def _run(self, words: Sequence[str], given: bytes = b"") -> str:
        """What `ssh-keygen` says; it never asks, for it has neither a terminal nor a screen."""
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "SSH_ASKPASS_REQUIRE": "never"}
        try:
            done = subprocess.run(
                [self._program, *words],
                input=given,
                capture_output=True,
                timeout=TIMEOUT_S,
                env=environment,
                start_new_session=True,
                check=False,
            )
        except FileNotFoundError as error:
            raise StateError(f"{self._program} is not installed. Install OpenSSH's client programs.") from error
        except subprocess.TimeoutExpired as error:
            raise StateError(f"{self._program} did not answer within {TIMEOUT_S:g} s.") from error
        except OSError as error:
            raise StateError(f"{self._program} could not be started: {error.strerror}.") from error
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it does not say why"]
            raise StateError(f"{self._program} would not use {self.path}: {said[-1]}")
        return done.stdout.decode("ascii", "replace")


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
