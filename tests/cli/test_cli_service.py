"""`service`: what it writes, what it refuses, what it says; the system's own programs are small stand-ins here.

tests/e2e/test_systemd.py does the same with a real systemd.
"""

from __future__ import annotations

import json
import os
import plistlib
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler import assets
from reconciler.cli import service, service_launchd, service_systemd
from reconciler.cli.service_files import Found, Place, found, make_plist, make_unit

Run = Callable[..., Any]
TEMPLATE = assets.read("systemd", "reconcilerd.service")
LIST = assets.read("systemd", "io.swiftdeploy.reconcilerd.plist")
SEAL = "\n# sealed: "


def place(program: str = "/opt/swiftdeploy", manifest: str = "/etc/swiftdeploy/manifest.yaml", **more: Any) -> Place:
    path = Path(manifest)
    return Place(Path(program, "bin/reconcilerd"), path, (path.parent,), (Path(program),), **more)


def lines(unit: str, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", unit, re.MULTILINE)


# ---------------------------------------------------------------- the files


def test_the_place_the_unit_was_written_for_changes_nothing_but_adds_the_seal() -> None:
    unit = make_unit(TEMPLATE, place())
    assert unit.startswith(TEMPLATE)
    assert unit.removeprefix(TEMPLATE).startswith(SEAL[1:])


def test_paths_go_where_they_belong() -> None:
    unit = make_unit(TEMPLATE, place("/srv/sd", "/srv/shop/manifest.yaml", group="engine"))
    assert lines(unit, "ExecStart") == ["/srv/sd/bin/reconcilerd --manifest /srv/shop/manifest.yaml --log-json"]
    assert lines(unit, "ReadWritePaths") == ["-/srv/shop"]
    assert lines(unit, "SupplementaryGroups") == ["engine"]
    assert lines(unit, "BindPaths") == lines(unit, "BindReadOnlyPaths") == []


def test_the_daemons_own_file_takes_the_manifests_place() -> None:
    given = place("/srv/sd", "/etc/swiftdeploy/reconciler.yaml", option="--config")
    started = "/srv/sd/bin/reconcilerd --config /etc/swiftdeploy/reconciler.yaml --log-json"
    assert lines(make_unit(TEMPLATE, given), "ExecStart") == [started]
    words = plistlib.loads(make_plist(LIST, given, Path("/s"), Path("/l")).encode())["ProgramArguments"]
    assert words[words.index("--config") + 1] == "/etc/swiftdeploy/reconciler.yaml"
    assert "--manifest" not in words


def test_what_the_sandbox_hides_is_bound_into_it() -> None:
    unit = make_unit(TEMPLATE, place("/home/op/venv", "/tmp/x/manifest.yaml"))
    assert lines(unit, "BindReadOnlyPaths") == ["-/home/op/venv"]
    assert lines(unit, "BindPaths") == ["-/tmp/x"]
    assert lines(unit, "ProtectHome") == ["tmpfs"]


def test_a_program_beside_its_manifest_is_bound_once_and_writable() -> None:
    unit = make_unit(TEMPLATE, place("/home/op/app", "/home/op/app/manifest.yaml"))
    assert lines(unit, "BindPaths") == ["-/home/op/app"]
    assert lines(unit, "BindReadOnlyPaths") == []


def test_folders_within_others_are_not_named_twice() -> None:
    given = Place(Path("/root/a/v/bin/x"), Path("/etc/m"), (Path("/etc"),), (Path("/root/a/v"), Path("/root/a")))
    assert lines(make_unit(TEMPLATE, given), "BindReadOnlyPaths") == ["-/root/a"]


@pytest.mark.parametrize(
    ("folder", "in_command", "in_list"),
    [
        ("/srv/a b", '"/srv/a b/m.yaml"', '"-/srv/a b"'),
        ("/srv/50%", "/srv/50%%/m.yaml", "-/srv/50%%"),
        ("/srv/$HOME", "/srv/$$HOME/m.yaml", "-/srv/$HOME"),
        ('/srv/"q"', '"/srv/\\"q\\"/m.yaml"', '"-/srv/\\"q\\""'),
        ("/srv/back\\slash", '"/srv/back\\\\slash/m.yaml"', '"-/srv/back\\\\slash"'),
        ("/srv/ünï", '"/srv/ünï/m.yaml"', '"-/srv/ünï"'),
        ("/srv/;x", '"/srv/;x/m.yaml"', '"-/srv/;x"'),
    ],
)
def test_odd_paths_are_quoted_as_systemd_reads_them(folder: str, in_command: str, in_list: str) -> None:
    unit = make_unit(TEMPLATE, place(manifest=f"{folder}/m.yaml"))
    assert lines(unit, "ExecStart") == [f"/opt/swiftdeploy/bin/reconcilerd --manifest {in_command} --log-json"]
    assert lines(unit, "ReadWritePaths") == [in_list]


def test_a_colon_is_no_separator_in_a_bound_path() -> None:
    unit = make_unit(TEMPLATE, place(manifest="/home/a:b/m.yaml"))
    assert lines(unit, "BindPaths") == ['"-/home/a\\\\:b"']


@pytest.mark.attack("line break in a path")
@pytest.mark.parametrize("evil", ["/srv/a\nExecStartPre=+/bin/sh", "/srv/a\r", "/srv/\u2028", "/srv/\x1b[2J"])
def test_no_path_can_add_a_line_to_the_unit(evil: str) -> None:
    with pytest.raises(ValueError, match="no unit can name"):
        make_unit(TEMPLATE, place(manifest=f"{evil}/m.yaml"))


def test_the_seal_tells_ours_edited_and_foreign_files_apart() -> None:
    wanted, older = make_unit(TEMPLATE, place()), make_unit(TEMPLATE.replace("=45", "=44"), place("/srv/old"))
    assert found(None, wanted) is Found.NOTHING
    assert found(wanted, wanted) is Found.WANTED
    assert found(older, wanted) is Found.OURS
    assert found(older.replace("=44", "=43"), wanted) is Found.EDITED
    assert found(f"{older}Nice=5\n", wanted) is Found.FOREIGN
    assert found(TEMPLATE, wanted) is Found.FOREIGN
    assert found("", wanted) is Found.FOREIGN


@pytest.mark.parametrize(
    "wanted",
    [
        "Type=notify",
        "NotifyAccess=main",
        "WatchdogSec=30",
        "Restart=always",
        "StartLimitIntervalSec=0",
        "StateDirectory=swiftdeploy",
        "CapabilityBoundingSet=",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "LimitCORE=0",
    ],
)
def test_the_unit_that_ships_says(wanted: str) -> None:
    assert f"\n{wanted}\n" in TEMPLATE


def test_the_property_list_that_ships_is_one_and_gets_the_paths() -> None:
    shipped = plistlib.loads(LIST.encode())
    assert (shipped["Label"], shipped["KeepAlive"], shipped["RunAtLoad"]) == ("io.swiftdeploy.reconcilerd", True, True)
    assert (shipped["Umask"], shipped["HardResourceLimits"]["Core"]) == (0o027, 0)
    text = make_plist(LIST, place("/Users/a & b", "/Users/<x>/m.yaml"), Path("/state"), Path("/log"))
    made = plistlib.loads(text.encode())
    assert found(text, text + "x") is Found.OURS
    assert made["ProgramArguments"] == [
        *("/Users/a & b/bin/reconcilerd", "--manifest", "/Users/<x>/m.yaml", "--state-dir", "/state"),
        *("--hang-limit", "180", "--log-json"),
    ]
    assert made["StandardErrorPath"] == "/log"
    assert set(made) == set(shipped)


def test_the_daemon_takes_what_the_units_tell_it() -> None:
    words = plistlib.loads(LIST.encode())["ProgramArguments"][1:]
    for given in (words, shlex.split(lines(TEMPLATE, "ExecStart")[0])[1:]):
        done = subprocess.run(
            [sys.executable, "-m", "reconciler.daemon", *given, "--version"], capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith("reconcilerd ")


# ---------------------------------------------------------------- the command, on a machine with systemd


FAKE = """#!{python}
import json, pathlib, sys
folder = pathlib.Path({folder!r})
words = [pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]
with (folder / "calls").open("a") as calls:
    calls.write(" ".join(words) + "\\n")
answers = json.loads((folder / "answers").read_text())
text, code = answers.get(" ".join(words[:2]), ["", 0])
print(text, file=sys.stderr if code else sys.stdout)
sys.exit(code)
"""
STOPPED = "LoadState=not-found\nActiveState=inactive\nFragmentPath="
RUNS = (
    "LoadState=loaded\nActiveState=active\nSubState=running\nResult=success\nMainPID=42\nNRestarts=3\n"
    "UnitFileState=enabled\nFragmentPath={unit}\nDropInPaths=\nNeedDaemonReload=no\nStatusText=cycle 7: no trouble\n"
    "ActiveEnterTimestamp=Mon 2026-05-04 10:00:00 UTC\nWatchdogUSec=30s\nWatchdogTimestampMonotonic=1000000"
)


class System:
    """The machine around the command: programs that remember how they were called, and folders of our own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.unit = folder / "etc" / "reconcilerd.service"
        self.users = folder / "sysusers.d" / "swiftdeploy.conf"
        self.plist = folder / "Library" / "x.plist"
        self.booted = folder / "booted"
        self.booted.mkdir()
        (folder / "calls").touch()
        for name in ("systemctl", "journalctl", "systemd-sysusers", "launchctl"):
            program = folder / "bin" / name
            program.parent.mkdir(exist_ok=True)
            program.write_text(FAKE.format(python=sys.executable, folder=str(folder)))
            program.chmod(0o755)
        self.answer({"systemctl show": (STOPPED, 0)})

    def answer(self, answers: dict[str, tuple[str, int]]) -> None:
        (self.folder / "answers").write_text(json.dumps(answers))

    def runs(self) -> None:
        self.answer({"systemctl show": (RUNS.format(unit=self.unit), 0)})

    @property
    def calls(self) -> list[str]:
        """All but questions."""
        every = (self.folder / "calls").read_text().splitlines()
        return [call for call in every if call.split()[1] not in ("show", "print")]


@pytest.fixture
def system(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    made = System(tmp_path_factory.mktemp("system"))
    monkeypatch.setenv("PATH", f"{made.folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(service_systemd, "UNIT", made.unit)
    monkeypatch.setattr(service_systemd, "USERS", made.users)
    monkeypatch.setattr(service_systemd, "RUNS", made.booted)
    monkeypatch.setattr(service_systemd, "USER", "nobody")
    monkeypatch.setattr(service, "DOCKER_SOCKET", made.folder / "no.sock")
    monkeypatch.setattr(service_systemd.grp, "getgrnam", lambda name: name)
    monkeypatch.setattr(service_launchd, "PLIST", made.plist)
    monkeypatch.setattr(service_launchd, "STATE", made.folder / "var")
    return made  # type: ignore[return-value]


@pytest.fixture
def install(run: Run, tmp_path: Path) -> Callable[..., Any]:
    (tmp_path / "manifest.yaml").write_text("services: {}\n")
    return lambda *words: run("service", "install", *words)


def test_install_writes_enables_and_starts_and_says_so(install: Run, system: System, tmp_path: Path) -> None:
    result = install()
    assert result.code == 0, result
    assert system.calls == [
        "systemctl daemon-reload",
        "systemctl enable reconcilerd.service",
        "systemctl start reconcilerd.service",
    ]
    assert f"--manifest {tmp_path}/manifest.yaml" in system.unit.read_text()
    assert all(call in result.out for call in system.calls)
    assert (system.unit.stat().st_mode & 0o777) == 0o644


def test_install_follows_the_repository_that_the_daemons_own_file_names(
    run: Run, system: System, tmp_path: Path
) -> None:
    config = tmp_path / "reconciler.yaml"
    config.write_text("source: {git: {url: https://git.example.com/shop.git}}\n")
    assert run("service", "install", "--config", str(config)).code == 0
    assert f"--config {config}" in lines(system.unit.read_text(), "ExecStart")[0]
    config.write_text("source: {git: {url: 'ext::sh -c x'}}\n")
    refused = run("service", "install", "--config", str(config))
    assert (refused.code, "source.git.url" in refused.err) == (6, True)


def test_installing_again_changes_nothing(install: Run, system: System) -> None:
    install()
    system.runs()
    (system.folder / "calls").write_text("")
    result = install()
    assert (result.code, system.calls) == (0, ["systemctl enable reconcilerd.service"])
    assert "as it should be" in result.out
    assert "runs already" in result.out


def test_a_newer_unit_replaces_ours_and_restarts(install: Run, system: System, tmp_path: Path) -> None:
    install()
    system.runs()
    (tmp_path / "other.yaml").write_text("services: {}\n")
    result = install("--manifest", "other.yaml")
    assert result.code == 0, result
    assert system.calls[-1] == "systemctl restart reconcilerd.service"
    assert "other.yaml" in system.unit.read_text()


@pytest.mark.parametrize(
    "change", [lambda text: text.replace("RestartSec=2", "RestartSec=9"), lambda _text: "[Unit]\n"]
)
def test_somebody_elses_work_is_shown_and_kept(
    install: Run, run: Run, system: System, change: Callable[[str], str]
) -> None:
    install()
    edited = change(system.unit.read_text())
    system.unit.write_text(edited)
    result = install()
    assert result.code == 1
    assert "+RestartSec=2" in result.out
    assert "--force" in result.err
    assert run("service", "uninstall").code == 1
    assert system.unit.read_text() == edited
    assert install("--force").code == 0
    assert "RestartSec=2" in system.unit.read_text()


def test_a_unit_of_a_package_is_not_hidden_by_ours(install: Run, run: Run, system: System) -> None:
    system.answer({"systemctl show": ("LoadState=loaded\nFragmentPath=/usr/lib/systemd/system/reconcilerd.service", 0)})
    for result in (install(), run("service", "uninstall")):
        assert result.code == 1
        assert "/usr/lib/systemd/system/reconcilerd.service" in result.err
    assert not system.unit.exists()
    assert system.calls == []


def test_a_dry_run_shows_all_and_changes_nothing(install: Run, system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    system.booted.rmdir()
    result = install("--dry-run")
    assert result.code == 0, result
    assert "systemctl start reconcilerd.service" in result.out
    assert SEAL in result.out
    assert system.calls == []
    assert not system.unit.exists()


@pytest.mark.parametrize("verb", ["install", "uninstall"])
def test_only_root_may(run: Run, system: System, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    result = run("service", verb)
    assert (result.code, system.calls) == (1, [])
    assert f"sudo swiftdeploy service {verb}" in result.err


def test_without_systemd_it_says_so(install: Run, run: Run, system: System) -> None:
    system.booted.rmdir()
    for result in (install(), run("service", "uninstall"), run("service", "status")):
        assert result.code == 1
        assert "was not started by systemd" in result.err
    assert not system.unit.exists()


def test_a_missing_manifest_is_told_before_anything_is_done(run: Run, system: System) -> None:
    result = run("service", "install", "--manifest", "nowhere.yaml")
    assert (result.code, system.calls) == (1, [])
    assert "There is no manifest" in result.err


def test_a_start_that_fails_says_why(install: Run, system: System) -> None:
    system.answer(
        {
            "systemctl show": (STOPPED, 0),
            "systemctl start": ("Job failed.", 1),
            "journalctl -u": ('{"event": "daemon.refused"}', 0),
        }
    )
    result = install()
    assert result.code == 1
    assert "`systemctl start reconcilerd.service` failed: Job failed." in result.err
    assert "daemon.refused" in result.err


def test_a_missing_user_is_made_by_systemd(install: Run, system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def unknown_at_first(name: str) -> Any:
        asked.append(name)
        if len(asked) == 1:
            raise KeyError(name)
        return os.stat_result  # never looked into: the folder is writable by its owner only

    monkeypatch.setattr(service_systemd.pwd, "getpwnam", unknown_at_first)
    monkeypatch.setattr(service_systemd, "_explain", lambda *_given: None)
    assert install().code == 0
    assert system.users.read_text() == assets.read("systemd", "swiftdeploy-sysusers.conf")
    assert system.calls[0] == f"systemd-sysusers {system.users}"


def test_uninstall_stops_and_removes_what_install_wrote(install: Run, run: Run, system: System) -> None:
    install()
    system.runs()
    result = run("service", "uninstall")
    assert result.code == 0, result
    assert not system.unit.exists()
    assert "systemctl disable --now reconcilerd.service" in system.calls
    assert "go on serving" in result.out
    system.answer({"systemctl show": (STOPPED, 0)})
    assert "nothing to remove" in run("service", "uninstall").out


def test_status_explains(install: Run, run: Run, system: System) -> None:
    assert "not installed" in run("service", "status").out
    assert run("service", "status").code == 1
    install()
    system.runs()
    result = run("service", "status")
    assert result.code == 0
    assert "active (running) since Mon 2026-05-04 10:00:00 UTC, process 42" in result.out
    assert "says       cycle 7: no trouble" in result.out
    assert re.search(r"watchdog   a sign of life \d+ s ago, wanted every 30s", result.out)
    assert "3 by systemd since it was started" in result.out
    assert "as we wrote it" in result.out
    assert "journalctl -u reconcilerd" in result.out
    system.unit.write_text(system.unit.read_text().replace("=45", "=46"))
    assert "changed by hand" in run("service", "status").out
    value = json.loads(run("service", "status", "-o", "json").out)
    assert (value["running"], value["systemd"]["MainPID"]) == (True, "42")


def test_a_service_that_hung_says_so(run: Run, system: System) -> None:
    system.answer(
        {
            "systemctl show": (
                "LoadState=loaded\nActiveState=activating\nSubState=auto-restart\nResult=watchdog\nNRestarts=2\n"
                "FragmentPath=/x\nStatusText=\x1b[2J",
                0,
            )
        }
    )
    result = run("service", "status")
    assert result.code == 1
    assert "it hung and gave no sign of life" in result.out
    assert "\x1b" not in result.out


# ---------------------------------------------------------------- the command, on macOS


@pytest.fixture
def mac(system: System, monkeypatch: pytest.MonkeyPatch) -> System:
    monkeypatch.setattr(sys, "platform", "darwin")
    system.answer({"launchctl print": ("Could not find service", 113)})
    return system


def test_macos_gets_a_property_list(install: Run, run: Run, mac: System, tmp_path: Path) -> None:
    result = install()
    assert result.code == 0, result
    assert str(tmp_path / "manifest.yaml") in plistlib.loads(mac.plist.read_bytes())["ProgramArguments"]
    assert mac.calls == [f"launchctl bootstrap system {mac.plist}"]
    mac.answer({"launchctl print": ("x = {\n\tstate = running\n\tpid = 7\n\truns = 2\n\tlast exit code = 70\n}", 0)})
    assert "runs it already" in install().out
    shown = run("service", "status")
    assert (shown.code, "running, process 7" in shown.out, "exit code 70" in shown.out) == (0, True, True)
    mac.plist.write_text(mac.plist.read_text().replace("<integer>45<", "<integer>46<"))
    assert install().code == 1
    assert run("service", "uninstall").code == 1
    assert run("service", "uninstall", "--force").code == 0
    assert mac.calls[-1] == "launchctl bootout system/io.swiftdeploy.reconcilerd"
    assert not mac.plist.exists()


def test_macos_without_the_service_says_so(run: Run, mac: System) -> None:
    assert "not installed" in run("service", "status").out
    assert "nothing to remove" in run("service", "uninstall").out
