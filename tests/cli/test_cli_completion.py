"""Completion, tried in real shells."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reconciler.cli.completion import bash_script, zsh_script
from reconciler.cli.verbs import VERBS

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
needs_zsh = pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh here")


def in_bash(folder: Path, *words: str) -> list[str]:
    """What bash offers for the last of `words`."""
    script = folder / "completion.bash"
    script.write_text(bash_script("swiftdeploy"))
    line = (
        'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); '
        '_swiftdeploy; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    command = ["bash", "--norc", "-c", line, "bash", str(script), "swiftdeploy", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@needs_bash
def test_bash_takes_the_script(tmp_path: Path) -> None:
    for program in ("swiftdeploy", "reconcilerctl"):
        done = subprocess.run(["bash", "-n"], input=bash_script(program), text=True, capture_output=True, check=True)
        assert done.stderr == ""


@needs_bash
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("sta",), ["status"]),
        (("de",), ["deploy"]),
        (("--st",), ["--state-dir"]),
        (("status", "--o"), ["--once", "--output"]),
        (("promote", ""), None),
        (("promote", "ca"), ["canary"]),
        (("-o", "json", "promote", "st"), ["stable"]),
        (("--state-dir", "deploy", "sta"), ["status"]),
        (("status", "-o", "j"), ["json"]),
        (("completion", "z"), ["zsh"]),
        (("deploy", "--file", "man"), ["manifest.yaml"]),
        (("deploy", "--state-dir", "st"), ["state"]),
        (("deploy", "--timeout", ""), []),
        (("nonsense", ""), []),
    ],
)
def test_bash_offers(tmp_path: Path, words: tuple[str, ...], offered: list[str] | None) -> None:
    (tmp_path / "manifest.yaml").write_text("")
    (tmp_path / "state").mkdir()
    (tmp_path / "stone").write_text("")
    found = in_bash(tmp_path, *words)
    if offered is None:
        assert {"canary", "stable", "--file"} <= set(found)
    else:
        assert found == offered


@needs_bash
def test_bash_offers_every_verb(tmp_path: Path) -> None:
    assert {verb.name for verb in VERBS} <= set(in_bash(tmp_path, ""))


@needs_bash
def test_bash_completes_as_people_use_it(tmp_path: Path) -> None:
    """An interactive shell, a typed line, the Tab key."""
    script = tmp_path / "completion.bash"
    script.write_text(bash_script("swiftdeploy"))
    with shell(["bash", "--norc", "-i"]) as bash:
        bash.type(f"PS1='$ '; source {script}; swiftdeploy() {{ echo \"<$*>\"; }}; echo rea''dy\n")
        bash.wait_for("ready")
        bash.type("swiftdeploy prom\tcan\t\n")
        bash.wait_for("<promote canary>")


class Shell:
    """A shell on a terminal of its own."""

    def __init__(self, master: int) -> None:
        self._master = master
        self.shown = ""

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def wait_for(self, text: str, limit_s: float = 30.0) -> None:
        """Until `text` was shown; backspaces and escape sequences do not count."""
        deadline = time.monotonic() + limit_s
        while text not in self.shown:
            assert time.monotonic() < deadline, f"no {text!r} in {self.shown!r}"
            if select.select([self._master], [], [], 0.1)[0]:
                chunk = os.read(self._master, 65536).decode("utf-8", "replace")
                self.shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|[\r\x07]", "", self.shown + chunk)


@contextmanager
def shell(command: list[str]) -> Iterator[Shell]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 100, 200, 0, 0))
    environment = {**os.environ, "TERM": "xterm", "HISTFILE": ""}
    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, env=environment
    )
    os.close(slave)
    try:
        yield Shell(master)
    finally:
        process.kill()
        process.wait()
        os.close(master)


@contextmanager
def zsh_with_completion(folder: Path) -> Iterator[Shell]:
    (folder / "_swiftdeploy").write_text(zsh_script("swiftdeploy"))
    with shell(["zsh", "-f", "-i"]) as zsh:
        zsh.type(
            f"cd {folder}; PS1='> '; fpath=({folder} $fpath); autoload -Uz compinit; compinit -u -d {folder}/dump; "
            "bindkey '^I' complete-word; LISTMAX=1000; swiftdeploy() { print -r -- \"<$*>\" }; echo rea''dy\n"
        )
        zsh.wait_for("ready")
        yield zsh


@needs_zsh
def test_zsh_takes_the_script() -> None:
    for program in ("swiftdeploy", "reconcilerctl"):
        done = subprocess.run(["zsh", "-n"], input=zsh_script(program), text=True, capture_output=True, check=True)
        assert done.stderr == ""


@needs_zsh
def test_zsh_offers_verbs_with_their_summaries(tmp_path: Path) -> None:
    with zsh_with_completion(tmp_path) as zsh:
        zsh.type("swiftdeploy \t")
        for verb in VERBS:
            zsh.wait_for(f"{verb.name} ")
        zsh.wait_for("check the manifest and this host")


@needs_zsh
def test_zsh_completes(tmp_path: Path) -> None:
    (tmp_path / "manifest.yaml").write_text("")
    with zsh_with_completion(tmp_path) as zsh:
        for typed, completed in (
            ("prom", "promote"),
            ("promote can", "promote canary"),
            ("-o json promote sta", "-o json promote stable"),
            ("status --on", "status --once"),
            ("status -o js", "status -o json"),
            ("validate --file man", "validate --file manifest.yaml"),
            ("--state-dir /tmp rec", "--state-dir /tmp reconcile"),
        ):
            zsh.type(f"swiftdeploy {typed}\t\n")
            zsh.wait_for(f"<{completed}>")
