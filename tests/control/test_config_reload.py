"""The daemon's command line, and its own file read again at SIGHUP."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog

from reconciler import daemon, log
from reconciler.adapters.config_reload import AFTER_A_RESTART, AT_ONCE, ConfigInForce
from reconciler.adapters.file_systems import kind_of
from reconciler.cli.daemon_options import daemon_flags, daemon_options
from reconciler.cli.options import UsageError
from reconciler.control import exit_code
from reconciler.core.errors import ManifestError, Refused
from reconciler.formats.daemon_config import DaemonConfig, Flags
from reconciler.operations import Misused

SOURCES = Path(__file__).parents[2]
START = """\
source: {git: {url: "https://git.example.com/shop.git", branch: main}}
state_dir: /var/lib/swiftdeploy
webhook: {secret_file: /etc/swiftdeploy/webhook_secret}
log: {level: info}
"""


def in_force(folder: Path, text: str = START, **flags: Any) -> ConfigInForce:
    (folder / "reconciler.yaml").write_text(text)
    config = ConfigInForce(folder / "reconciler.yaml", Flags(**flags), required=True)
    assert config.read().problems == ()
    return config


# ---------------------------------------------------------------- exit codes


@pytest.mark.parametrize(
    "words",
    [
        ["--nonsense"],
        ["--metrics-port", "99999"],
        ["--metrics-port", "x"],
        ["--metrics-port", "-1"],
        ["--hang-limit", "0"],
        ["--hang-limit", "soon"],
        ["--log-level", "loud"],
        ["--git", "/srv/shop", "--manifest", "/srv/manifest.yaml"],
        ["--branch", "main"],
        ["--manifest"],
        ["extra"],
    ],
)
def test_wrong_usage_of_the_daemon_is_64_too(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["reconcilerd", *words])
    try:
        assert daemon.main() == 64
    finally:
        structlog.reset_defaults()
    said = capsys.readouterr().err
    assert said.startswith("reconcilerd: ")
    assert said.endswith("See `reconcilerd --help`.\n")
    assert list(tmp_path.iterdir()) == [], "nothing was begun"


def test_help_is_no_wrong_usage_and_names_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        daemon_options(["--help"])
    said = capsys.readouterr().out
    assert (ended.value.code, "64  wrong usage" in said, "SIGHUP" in said) == (0, True, True)


def test_flags_are_handed_on() -> None:
    options = daemon_options(["--git", "/a", "--branch", "b", "--metrics-port", "0", "--hang-limit", "2.5"])
    assert daemon_flags(options) == Flags(git="/a", branch="b", metrics_port=0)
    assert options.hang_limit == 2.5


def test_a_flag_is_not_guessed() -> None:
    with pytest.raises(UsageError, match="--man"):
        daemon_options(["--man", "x"])


@pytest.mark.parametrize(
    ("error", "code"), [(Misused("no reason"), 64), (Refused("not now"), 1), (ManifestError([]), 6)]
)
def test_each_error_has_its_exit_code(error: Any, code: int) -> None:
    assert exit_code(error) == code


# ---------------------------------------------------------------- read again


def test_the_log_changes_at_once_and_the_rest_is_named(tmp_path: Path) -> None:
    config = in_force(tmp_path)
    text = START.replace("info", "debug").replace("main", "next, poll: 60").replace("swiftdeploy\n", "other\n")
    (tmp_path / "reconciler.yaml").write_text(text + "metrics_port: 1234\n")
    said = config.read_again()
    assert (said.problems, said.changed) == ((), ("log.level",))
    assert said.restart == ("source.git.branch", "source.git.poll", "state_dir", "metrics_port")
    assert config.now.log_level == "debug"
    assert config.now.git is not None
    assert (config.now.git.branch, config.now.state_dir) == ("main", "/var/lib/swiftdeploy")
    again = config.read_again()
    assert (again.changed, again.restart) == ((), said.restart), "what waits for a restart is said every time"


def test_what_a_restart_alone_can_change_is_told_by_the_name_it_has_in_the_file(tmp_path: Path) -> None:
    config = in_force(tmp_path, "group: a\nlog: {json: true}\n")
    text = START.replace("webhook_secret", "webhook_secret, listen: 127.0.0.1:9999") + "history: {keep: 2m}\n"
    (tmp_path / "reconciler.yaml").write_text(text)
    assert config.read_again().restart == ("source.git", "state_dir", "group", "webhook", "history.keep")
    config = in_force(tmp_path, START)
    (tmp_path / "reconciler.yaml").write_text(text)
    assert config.read_again().restart == ("webhook.listen", "history.keep")


@pytest.mark.fault("A7")
@pytest.mark.parametrize("broken", ["log: {level: loud}\n", "log: [\n", "nonsense: 1\nlog: {levle: info}\n", None])
def test_a_file_that_is_wrong_changes_nothing(tmp_path: Path, broken: str | None) -> None:
    config = in_force(tmp_path, START)
    before = config.now
    file = tmp_path / "reconciler.yaml"
    file.unlink() if broken is None else file.write_text(broken)
    said = config.read_again()
    assert said.problems
    assert (said.changed, said.restart, config.now) == ((), (), before)


def test_a_flag_goes_on_winning_over_the_file(tmp_path: Path) -> None:
    config = in_force(tmp_path, START, log_level="error")
    (tmp_path / "reconciler.yaml").write_text(START.replace("info", "debug"))
    assert config.read_again().changed == ()
    assert config.now.log_level == "error"


def test_without_a_file_there_is_nothing_to_read(tmp_path: Path) -> None:
    config = ConfigInForce(tmp_path / "none.yaml", Flags(), required=False)
    assert (config.read().problems, config.read_again().problems) == ((), ())
    (tmp_path / "none.yaml").write_text("log: {level: debug}\n")
    assert config.read_again().changed == ("log.level",)


def test_every_key_is_known_to_change_at_once_or_after_a_restart() -> None:
    from dataclasses import fields

    assert {each.name for each in fields(DaemonConfig)} == AT_ONCE.keys() | AFTER_A_RESTART.keys()


# ---------------------------------------------------------------- SIGHUP


class Loop:
    """As far as a reload knows it."""

    def __init__(self) -> None:
        self.wakes = 0

    def wake(self, *_words: object) -> None:
        self.wakes += 1

    def has_wakes(self) -> bool:
        return self.wakes > 0


class Notifier:
    def __init__(self) -> None:
        self.told: list[str] = []

    def tell(self, *lines: str) -> None:
        self.told += lines


@pytest.mark.fault("A7")
@pytest.mark.parametrize(
    ("text", "event", "words"),
    [
        (START.replace("info", "warning"), "", ""),  # from now on less is said
        (START.replace("info", "debug"), "config.reloaded", "log.level"),
        (START.replace("main", "next"), "config.reloaded", "source.git.branch"),
        (START, "config.reloaded", ""),
        ("log: [", "config.rejected", "what was in force stays in force"),
    ],
)
def test_sighup_reads_the_file_once_the_cycle_is_over_and_says_what_came_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, event: str, words: str
) -> None:
    loop, notifier, config = Loop(), Notifier(), in_force(tmp_path)
    log.configure(level="info")
    try:
        reload: Any = daemon._Reload(loop, notifier, config)  # type: ignore[arg-type]
        reload.turned()
        (tmp_path / "reconciler.yaml").write_text(text)
        reload.ask()
        reload.turned()
        assert capsys.readouterr().err == "", "the cycle under way has not heard of it"
        assert "READY=1" not in notifier.told
        loop.wakes = 0
        reload.turned()
        said = capsys.readouterr().err
        assert notifier.told[-1] == "READY=1"
        assert event in said
        assert words in said
        assert bool(said) is bool(event)
        reload.turned()
        assert capsys.readouterr().err == "", "once"
    finally:
        structlog.reset_defaults()


@pytest.mark.fault("A7", "C9")
@pytest.mark.skipif(kind_of(Path("/dev/shm")) != "tmpfs", reason="there is no tmpfs at /dev/shm")
def test_a_daemon_tells_at_its_start_that_its_state_is_in_memory_and_reads_its_file_again(tmp_path: Path) -> None:
    file, output = tmp_path / "reconciler.yaml", tmp_path / "log"
    file.write_text("log: {level: info, json: true}\n")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory, output.open("w") as log_file:
        words = ["--config", str(file), "--state-dir", f"{memory}/state", "--metrics-port", "0"]
        process = subprocess.Popen(
            [sys.executable, "-m", "reconciler.daemon", *words],
            cwd=tmp_path,
            env={**os.environ, "DOCKER_HOST": f"unix://{tmp_path}/no-engine.sock", "PYTHONPATH": str(SOURCES)},
            stdout=log_file,
            stderr=log_file,
        )
        try:
            until(lambda: "daemon.started" in output.read_text(), output)
            (told,) = [line for line in output.read_text().splitlines() if "state.doubted" in line]
            assert "a reboot takes state and history away" in told
            file.write_text("log: {level: info, json: true}\nhistory: {keep: 2m}\n")
            process.send_signal(signal.SIGHUP)
            until(lambda: "config.reloaded" in output.read_text(), output)
            assert "only a restart brings these into force" in output.read_text()
        finally:
            process.terminate()
            process.wait(30)
    assert process.returncode == 0


def until(is_true: Callable[[], bool], output: Path) -> None:
    deadline = time.monotonic() + 60
    while not is_true():
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.05)
