"""Completion, tried in real shells."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
from contextlib import suppress
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
    keys = f"PS1='$ '; source {script}; swiftdeploy() {{ echo \"<$*>\"; }}\nswiftdeploy prom\tcan\t\nexit\n"
    master, slave = pty.openpty()
    shell = subprocess.Popen(["bash", "--norc", "-i"], stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    os.write(master, keys.encode())
    shown = ""
    with suppress(OSError):
        while chunk := os.read(master, 4096):
            shown += chunk.decode()
    os.close(master)
    assert shell.wait(20) == 0
    assert "<promote canary>" in shown


def in_zsh(folder: Path, line: str) -> str:
    """What zsh offers for `line`: its completion system is run in a pseudo-terminal, as it insists on."""
    (folder / "_swiftdeploy").write_text(zsh_script("swiftdeploy"))
    driver = f"""
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z "PS1='>'; fpath=({folder} \\$fpath); autoload -Uz compinit; compinit -u -d {folder}/dump"
zpty -w z "bindkey '^I' complete-word"
zpty -w z "cd {folder}; zstyle ':completion:*' list-colors ''; setopt listpacked; LISTMAX=1000; COLUMNS=200; LINES=100"
sleep 0.7
zpty -w z "echo READY"
sleep 0.3
zpty -rt z junk; while zpty -rt z junk; do :; done
zpty -wn z "{line}"$'\\t'
sleep 1
zpty -wn z $'\\t'
sleep 0.5
out=""; while zpty -rt z chunk; do out+="$chunk"; done
print -r -- "$out"
zpty -d z
"""
    done = subprocess.run(["zsh", "-f", "-c", driver], capture_output=True, text=True, check=False, timeout=60)
    return done.stdout


@needs_zsh
def test_zsh_takes_the_script() -> None:
    for program in ("swiftdeploy", "reconcilerctl"):
        done = subprocess.run(["zsh", "-n"], input=zsh_script(program), text=True, capture_output=True, check=True)
        assert done.stderr == ""


@needs_zsh
def test_zsh_offers_verbs_with_their_summaries(tmp_path: Path) -> None:
    offered = in_zsh(tmp_path, "swiftdeploy ")
    for verb in VERBS:
        assert verb.name in offered
    assert "check the manifest and this host" in offered


@needs_zsh
@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("swiftdeploy prom", "promote"),
        ("swiftdeploy promote can", "canary"),
        ("swiftdeploy -o json promote sta", "stable"),
        ("swiftdeploy status --on", "--once"),
        ("swiftdeploy status -o js", "json"),
        ("swiftdeploy validate --file man", "manifest.yaml"),
    ],
)
def test_zsh_completes(tmp_path: Path, line: str, completed: str) -> None:
    (tmp_path / "manifest.yaml").write_text("")
    assert completed in in_zsh(tmp_path, line).replace("\x08", "").replace("\r", "")
