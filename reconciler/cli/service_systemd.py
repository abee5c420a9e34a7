"""The service under systemd: a user of its own, a unit, and what systemd knows of it."""

from __future__ import annotations

import grp
import pwd
import subprocess
from collections.abc import Mapping
from pathlib import Path

from reconciler import assets
from reconciler.adapters import clock
from reconciler.cli.service import Story, read_text, remove_file, write_file
from reconciler.cli.service_files import Found, Place, found, make_unit
from reconciler.cli.terminal import text_of
from reconciler.core.errors import Refused

NAME = "reconcilerd.service"
UNIT = Path("/etc/systemd/system") / NAME
USERS = Path("/etc/sysusers.d/swiftdeploy.conf")
RUNS = Path("/run/systemd/system")
"""There where systemd is what started this machine: sd_booted(3)."""
USER = "swiftdeploy"
ASK_LIMIT_S, START_LIMIT_S = 30, 400
PROPERTIES = (
    *("LoadState", "ActiveState", "SubState", "Result", "UnitFileState", "StatusText", "MainPID", "NRestarts"),
    *("FragmentPath", "DropInPaths", "NeedDaemonReload", "ActiveEnterTimestamp", "InactiveEnterTimestamp"),
    *("WatchdogUSec", "WatchdogTimestampMonotonic", "ExecMainCode", "ExecMainStatus", "MemoryCurrent"),
)
ENDS = {
    "success": "it ended by itself",
    "exit-code": "it ended with an error",
    "signal": "it was killed",
    "core-dump": "it crashed",
    "watchdog": "it hung and gave no sign of life",
    "timeout": "it took too long to start or to stop",
    "oom-kill": "the kernel killed it for memory",
    "start-limit-hit": "it was started too often",
}


class Systemd:
    """The Supervisor of machines with systemd."""

    def install(self, place: Place, story: Story, force: bool) -> str:
        """See Supervisor."""
        text = self._unit(place)
        _need_systemd(story)
        _refuse_another_unit(force)
        _make_user(story, force)
        _check_group(place.group, story)
        changed = write_file(UNIT, text, story, "The unit", force)
        if changed:
            _do(story, "systemd reads its units again", "daemon-reload")
        _do(story, "It starts with the machine", "enable", NAME)
        self._start(story, changed)
        _explain(place, story)
        return text

    def _unit(self, place: Place) -> str:
        try:
            return make_unit(assets.read("systemd", NAME), place)
        except ValueError as error:
            raise Refused(str(error)) from error

    def _start(self, story: Story, changed: bool) -> None:
        was_active = _show().get("ActiveState") == "active" if RUNS.is_dir() else False
        if was_active and not changed:
            story.tell("It runs already, by this very unit.")
            return
        verb, words = ("restart", "It is started anew") if was_active else ("start", "It is started")
        try:
            _do(story, f"{words}, and reports when it is ready", verb, NAME)
        except Refused as refused:
            _, log = _run("journalctl", "-u", NAME, "-n", "5", "--no-pager", "-o", "cat")
            raise Refused(f"{refused}\n{log}".rstrip()) from refused

    def uninstall(self, story: Story, force: bool) -> None:
        """See Supervisor."""
        _need_systemd(story)
        text = read_text(UNIT)
        if text is None:
            elsewhere = _show().get("FragmentPath", "") if RUNS.is_dir() else ""
            if elsewhere:
                raise Refused(f"{elsewhere} was not written by this command; the package it is of can remove it.")
            story.tell(f"There is no {UNIT}: nothing to remove.")
            return
        if found(text, "") in (Found.EDITED, Found.FOREIGN) and not force:
            remove_file(UNIT, story, "The unit", force)  # says why not
        _do(story, "It is stopped, and starts with the machine no more", "disable", "--now", NAME)
        remove_file(UNIT, story, "The unit", force)
        _do(story, "systemd reads its units again", "daemon-reload")
        if not story.is_dry:
            _run("systemctl", "reset-failed", NAME)
        story.tell(
            f"Left alone: the containers (they go on serving), /var/lib/{USER} (state and history), the user {USER}."
        )

    def status(self) -> tuple[bool, list[str], Mapping[str, object]]:
        """See Supervisor."""
        if not RUNS.is_dir():
            raise Refused(_WITHOUT)
        shown = _show()
        if shown.get("LoadState") == "not-found":
            lines = ["reconcilerd is not installed as a service. `service install` does that."]
            return False, lines, {"installed": False}
        runs = shown.get("ActiveState") == "active"
        return runs, _lines(shown, runs), {"installed": True, "unit": _unit_words(shown), "systemd": shown}


def _lines(shown: Mapping[str, str], runs: bool) -> list[str]:
    since = shown.get("ActiveEnterTimestamp" if runs else "InactiveEnterTimestamp") or "it was never started"
    process = f", process {shown['MainPID']}" if shown.get("MainPID", "0") != "0" else ""
    rows = (
        ("says", text_of(shown.get("StatusText"))),
        ("at boot", "starts" if shown.get("UnitFileState") == "enabled" else "does not start (`systemctl enable`)"),
        ("watchdog", _watchdog_words(shown) if runs else ""),
        ("restarts", _restart_words(shown)),
        ("unit", _unit_words(shown)),
        ("changes", shown.get("DropInPaths", "")),
        ("log", "journalctl -u reconcilerd -f"),
        ("start it", "" if runs else "systemctl start reconcilerd"),
    )
    first = f"{NAME}: {shown.get('ActiveState')} ({shown.get('SubState')}) since {since}{process}"
    return [first, *(f"  {name:<10} {words}" for name, words in rows if words)]


def _watchdog_words(shown: Mapping[str, str]) -> str:
    wanted, last = shown.get("WatchdogUSec", "0"), shown.get("WatchdogTimestampMonotonic", "0")
    if wanted in ("0", "infinity", ""):
        return "none (the unit has no WatchdogSec)"
    if not last.isdecimal() or last == "0":
        return f"no sign of life yet, wanted every {wanted}"
    return f"a sign of life {max(0.0, clock.monotonic() - int(last) / 1e6):.0f} s ago, wanted every {wanted}"


def _restart_words(shown: Mapping[str, str]) -> str:
    count = shown.get("NRestarts", "0")
    if count == "0":
        return "none by systemd since it was started"
    how = ENDS.get(shown.get("Result", ""), shown.get("Result", ""))
    why = f", the last end: {how}" if shown.get("Result") not in ("success", None) else ""
    return f"{count} by systemd since it was started{why}; why: journalctl -u reconcilerd -g 'Main process exited'"


def _unit_words(shown: Mapping[str, str]) -> str:
    path = shown.get("FragmentPath") or str(UNIT)
    late = "; not read yet: `systemctl daemon-reload`" if shown.get("NeedDaemonReload") == "yes" else ""
    if path != str(UNIT):
        return f"{path}, somebody else's{late}"
    words = {Found.OURS: "as we wrote it", Found.EDITED: "changed by hand since we wrote it"}
    return f"{path}, {words.get(found(read_text(UNIT), ''), 'not written by this command')}{late}"


_WITHOUT = (
    "This machine was not started by systemd (there is no /run/systemd/system). Start reconcilerd by what it has "
    "(docs/service.md tells what is needed); `service install --dry-run` shows the unit."
)


def _need_systemd(story: Story) -> None:
    if not RUNS.is_dir() and not story.is_dry:
        raise Refused(_WITHOUT)


def _refuse_another_unit(force: bool) -> None:
    """A package's unit would be hidden by ours."""
    path = _show().get("FragmentPath", "") if RUNS.is_dir() else ""
    if path and Path(path) != UNIT and not force:
        raise Refused(
            f"There is another {NAME}: {path}. Ours in {UNIT.parent} would hide it. Remove it, or change it by "
            "`systemctl edit reconcilerd`; --force installs ours nevertheless."
        )


def _make_user(story: Story, force: bool) -> None:
    try:
        pwd.getpwnam(USER)
    except KeyError:
        text = assets.read("systemd", "swiftdeploy-sysusers.conf")
        if read_text(USERS) != text:
            story.tell(f"The user {USER}, who the daemon runs as: written to {USERS}.")
            if not story.is_dry:
                USERS.parent.mkdir(parents=True, exist_ok=True)
                USERS.write_text(text, encoding="utf-8")
        story.tell(f"The user {USER} is made: systemd-sysusers {USERS}")
        if not story.is_dry:
            _carry_out("systemd-sysusers", str(USERS))
    else:
        story.tell(f"The user {USER}, who the daemon runs as: there already.")


def _check_group(group: str, story: Story) -> None:
    try:
        grp.getgrnam(group)
    except KeyError:
        advice = (
            f"There is no group {group} for Docker's socket. Install the Docker Engine first, or `groupadd {group}`."
        )
        if not story.is_dry:
            raise Refused(advice) from None
        story.tell(f"It would end here. {advice}")


def _explain(place: Place, story: Story) -> None:
    """What the operator would otherwise find out later."""
    if story.is_dry:
        return
    story.tell(f"Ready: `service status`, `journalctl -u reconcilerd -f`. State: /var/lib/{USER}.")
    folder = place.manifest.parent.stat()
    user = pwd.getpwnam(USER)
    is_writable = (
        (folder.st_uid == user.pw_uid and folder.st_mode & 0o200)
        or (folder.st_gid == user.pw_gid and folder.st_mode & 0o020)
        or folder.st_mode & 0o002
    )
    if not is_writable and place.option == "--manifest":
        story.tell(
            f"{USER} cannot write {place.manifest.parent}: all works but `promote`, which writes the mode into the "
            f"manifest. To allow it: chgrp {USER} {place.manifest.parent} && chmod g+w {place.manifest.parent}"
        )


def _show() -> dict[str, str]:
    code, text = _run("systemctl", "show", NAME, *(f"--property={name}" for name in PROPERTIES))
    if code:
        raise Refused(f"systemctl show {NAME} failed: {text}")
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def _do(story: Story, words: str, *verb: str) -> None:
    story.tell(f"{words}: systemctl {' '.join(verb)}")
    if not story.is_dry:
        _carry_out("systemctl", *verb)


def _carry_out(*command: str) -> None:
    code, text = _run(*command, limit_s=START_LIMIT_S)
    if code:
        raise Refused(f"`{' '.join(command)}` failed: {text or f'exit code {code}'}")


def _run(*command: str, limit_s: float = ASK_LIMIT_S) -> tuple[int, str]:
    """The exit code and what it said. Raises Refused where it is not there or does not end."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_s,
            check=False,
        )
    except FileNotFoundError as error:
        raise Refused(f"There is no program {command[0]}. Is systemd installed?") from error
    except subprocess.TimeoutExpired as error:
        raise Refused(f"`{' '.join(command)}` did not end within {limit_s:g} s. See `systemctl status`.") from error
    return done.returncode, (done.stdout if done.returncode == 0 else done.stderr or done.stdout).strip()
