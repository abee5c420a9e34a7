"""Runs git: an environment of our own, a deadline that ends all it started, and limits on what it writes and says.

Nothing of the daemon's environment reaches git, no configuration but ours, no descriptor but its three pipes. Options
travel in variables (`GIT_CONFIG_COUNT`), so that neither a command line nor a file holds a credential.
"""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.adapters import clock
from reconciler.core.errors import ReconcilerError
from reconciler.formats.git_failure import quoted, without

PROGRAMS = "/usr/bin:/bin:/usr/local/bin:/opt/homebrew/bin"
OUTPUT_MAX_BYTES = 4 * 1024 * 1024
SAID_MAX_BYTES = 64 * 1024
KILL_AFTER_S = 1.0
MEMORY_MAX_BYTES = 3 * 1024 * 1024 * 1024
"""Address space of a git that fetches, beyond the packs that it maps: a delta bomb ends here."""
_PIECE = 64 * 1024
_INPUT_MAX = 60 * 1024
"""What fits into a pipe whether the other end reads or not."""

OPTIONS: Mapping[str, str] = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.attributesFile": "/dev/null",
    "core.excludesFile": "/dev/null",
    "core.askPass": "/bin/false",
    "core.pager": "cat",
    "core.editor": "/bin/false",
    "core.commitGraph": "false",
    "core.multiPackIndex": "false",
    "core.logAllRefUpdates": "false",
    "core.bigFileThreshold": "8m",
    "core.sshCommand": "/bin/false",
    "credential.helper": "",
    "protocol.allow": "never",
    "protocol.version": "2",
    "transfer.fsckObjects": "true",
    "fetch.fsckObjects": "true",
    "fetch.unpackLimit": "1",
    "fetch.writeCommitGraph": "false",
    "fetch.recurseSubmodules": "false",
    "submodule.recurse": "false",
    "transfer.bundleURI": "false",
    "http.followRedirects": "false",
    "http.sslVerify": "true",
    "http.proxy": "",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "pack.threads": "1",
    "log.showSignature": "false",
    "log.mailmap": "false",
    "gpg.program": "/bin/false",
    "gpg.x509.program": "/bin/false",
    "gpg.openpgp.program": "/bin/false",
    "gpg.ssh.program": "/bin/false",
    "gpg.ssh.allowedSignersFile": "/dev/null",
    "gpg.ssh.defaultKeyCommand": "",
    "safe.bareRepository": "explicit",
}


class GitError(ReconcilerError):
    """git failed; `said` is its standard error without secrets, `status` how it ended."""

    retryable = True

    def __init__(self, message: str, said: str = "", status: int = 0) -> None:
        super().__init__(message)
        self.said = said
        self.status = status


class GitMissing(GitError):
    """There is no git on this host."""


class GitTimeout(GitError):
    """git did not come to an end within its deadline; it and all it started were killed."""


class GitTooMuch(GitError):
    """git wrote more than it may; it and all it started were killed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call may use: seconds, bytes of each file that it writes (0: as many as it likes), bytes it prints."""

    seconds: float = 20.0
    file_bytes: int = 0
    output_bytes: int = OUTPUT_MAX_BYTES


@dataclass(frozen=True, slots=True)
class Setting:
    """What one kind of call needs beside `OPTIONS`. `protocols` are those that may be spoken: none, for reading.

    `secrets` are texts that must not show in anything git says.
    """

    options: tuple[tuple[str, str], ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    protocols: tuple[str, ...] = ()
    secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Done:
    """What a call printed, how it ended, and what it said on its standard error (without secrets)."""

    output: bytes
    status: int
    said: str


class Git:
    """The program, in one environment. `home` is an empty folder of ours."""

    def __init__(self, home: Path, program: str | None = None) -> None:
        self._home = home
        self._program = program or shutil.which("git", path=PROGRAMS)
        self._prlimit = shutil.which("prlimit", path=PROGRAMS)
        self._running: set[subprocess.Popen[bytes]] = set()
        self._is_closed = False

    def close(self) -> None:
        """What runs is ended, and nothing is started any more."""
        self._is_closed = True
        for process in tuple(self._running):
            _kill_group(process, signal.SIGKILL)

    def run(
        self,
        words: Sequence[str],
        limits: Limits,
        setting: Setting | None = None,
        given: bytes = b"",
        *,
        fails: bool = False,
    ) -> Done:
        """What `git <words>` printed; with `fails` also where it ended badly.

        Raises GitError (its children say which) where git could not be run, did not end in time, printed or wrote too
        much, or, without `fails`, ended badly.
        """
        setting = setting or Setting()
        if len(given) > _INPUT_MAX:
            raise GitError(f"git would be given {len(given)} bytes at once, which is a bug")
        with self._started(words, limits, setting) as process:
            self._running.add(process)
            try:
                output, said = _listened(process, given, limits, clock.monotonic() + limits.seconds)
            except BaseException:
                _end(process)
                raise
            finally:
                self._running.discard(process)  # before it is reaped: its number is nobody else's yet
            _kill_group(process, signal.SIGKILL)  # what it left running behind itself
        done = Done(output, process.returncode, without(said, setting.secrets))
        if done.status == -signal.SIGXFSZ or "signal 25" in done.said or "File too large" in done.said:
            raise GitTooMuch(f"git wrote a file of more than {limits.file_bytes} bytes", done.said, done.status)
        if done.status and not fails:
            raise GitError(f"git {words_shown(words)} failed: {quoted(done.said)}", done.said, done.status)
        return done

    def _started(self, words: Sequence[str], limits: Limits, setting: Setting) -> subprocess.Popen[bytes]:
        if self._is_closed:
            raise GitError("git is not used any more: we are stopping")
        if self._program is None:
            raise GitMissing("git is not installed. Install it: `apt install git`")
        command = [*self._limiter(limits), self._program, *words]
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self.environment(setting),
                cwd=self._home,
                start_new_session=True,
                close_fds=True,
                restore_signals=False,  # SIGXFSZ stays ignored: git then says that a file got too large
            )
        except OSError as error:
            raise GitError(f"git could not be started: {error.strerror}. Is {self._home} there?") from error

    def _limiter(self, limits: Limits) -> list[str]:
        if not limits.file_bytes or self._prlimit is None:
            return []
        memory = MEMORY_MAX_BYTES + 2 * limits.file_bytes
        return [self._prlimit, f"--fsize={limits.file_bytes}", f"--as={memory}", "--core=0", "--"]

    def environment(self, setting: Setting) -> dict[str, str]:
        """All of it."""
        options = {**OPTIONS, **{f"protocol.{name}.allow": "always" for name in setting.protocols}}
        pairs = [*options.items(), *setting.options]
        made = {
            "PATH": PROGRAMS,
            "HOME": str(self._home),
            "XDG_CONFIG_HOME": str(self._home),
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_SYSTEM": "/dev/null",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "/bin/false",
            "SSH_ASKPASS": "/bin/false",
            "SSH_ASKPASS_REQUIRE": "never",
            "GIT_SSH_VARIANT": "ssh",
            "GIT_PAGER": "cat",
            "GIT_EDITOR": "/bin/false",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_LITERAL_PATHSPECS": "1",
            "GIT_PROTOCOL_FROM_USER": "0",
            "GIT_ALLOW_PROTOCOL": ":".join(setting.protocols) or "none",
            "GIT_GRAFT_FILE": "/dev/null",
            "GIT_CONFIG_COUNT": str(len(pairs)),
        }
        for number, (name, value) in enumerate(pairs):
            made[f"GIT_CONFIG_KEY_{number}"] = name
            made[f"GIT_CONFIG_VALUE_{number}"] = value
        return made | dict(setting.environment)


def words_shown(words: Sequence[str]) -> str:
    """What git was asked to do, for a message: its first word that is no option."""
    return next((word for word in words if not word.startswith("-")), "")


def _listened(process: subprocess.Popen[bytes], given: bytes, limits: Limits, deadline: float) -> tuple[bytes, str]:
    """What it printed and said until it ended; it is not reaped yet. Raises GitTimeout and GitTooMuch."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with suppress(BrokenPipeError), process.stdin as to_git:
        to_git.write(given)
    said: dict[int, list[bytes]] = {process.stdout.fileno(): [], process.stderr.fileno(): []}
    printed = 0
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        selector.register(process.stderr, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - clock.monotonic()))
            if not ready:
                raise GitTimeout(f"git did not come to an end within {limits.seconds:g} s")
            for key, _ in ready:
                piece = os.read(key.fd, _PIECE)
                if not piece:
                    selector.unregister(key.fileobj)
                    continue
                if key.fileobj is process.stdout:
                    printed += len(piece)
                said[key.fd].append(piece)
                _forget_middle(said[key.fd], key.fileobj is process.stderr)
            if printed > limits.output_bytes:
                raise GitTooMuch(f"git printed more than {limits.output_bytes} bytes")
            if clock.monotonic() > deadline:
                raise GitTimeout(f"git did not come to an end within {limits.seconds:g} s")
    if not _ends_by(process, deadline):
        raise GitTimeout(f"git did not come to an end within {limits.seconds:g} s")
    output, complaint = (b"".join(pieces) for pieces in said.values())
    return output, complaint.decode("utf-8", "replace")


def _ends_by(process: subprocess.Popen[bytes], deadline: float) -> bool:
    """Whether it ends in time. It is not reaped: until then nobody else can have its number."""
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        if clock.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


def _forget_middle(pieces: list[bytes], is_complaint: bool) -> None:
    """Of a long complaint the beginning and the end are kept."""
    if is_complaint and len(pieces) > 2 and sum(map(len, pieces)) > SAID_MAX_BYTES:
        del pieces[1:-1]
        pieces[0], pieces[-1] = pieces[0][: SAID_MAX_BYTES // 2], pieces[-1][-SAID_MAX_BYTES // 2 :]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Afterwards neither it nor anything it started runs; for a moment it may tidy up."""
    _kill_group(process, signal.SIGTERM)
    _ends_by(process, clock.monotonic() + KILL_AFTER_S)
    _kill_group(process, signal.SIGKILL)
    process.wait()


def _kill_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
