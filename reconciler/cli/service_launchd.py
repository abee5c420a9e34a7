"""The service under launchd, on macOS: a property list of the system's own daemons."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from reconciler import assets
from reconciler.cli.service import Story, read_text, remove_file, write_file
from reconciler.cli.service_files import Found, Place, found, make_plist
from reconciler.core.errors import Refused

LABEL = "io.swiftdeploy.reconcilerd"
PLIST = Path("/Library/LaunchDaemons") / f"{LABEL}.plist"
STATE = Path("/usr/local/var/swiftdeploy")
LOG = Path("/var/log/reconcilerd.log")
TARGET = f"system/{LABEL}"
LIMIT_S = 60


class Launchd:
    """The Supervisor of macOS."""

    def install(self, place: Place, story: Story, force: bool) -> str:
        """See Supervisor."""
        text = make_plist(assets.read("systemd", f"{LABEL}.plist"), place, STATE, LOG)
        story.tell(f"The state directory {STATE}: made where it is missing, mode 0750.")
        if not story.is_dry:
            STATE.mkdir(mode=0o750, parents=True, exist_ok=True)
        changed = write_file(PLIST, text, story, "The property list", force)
        is_loaded = not story.is_dry and _launchctl("print", TARGET)[0] == 0
        if is_loaded and not changed:
            story.tell("launchd runs it already, by this very list.")
        else:
            if is_loaded:
                _do(story, "launchd forgets the older list", "bootout", TARGET)
            _do(story, "launchd starts it, now and with the machine", "bootstrap", "system", str(PLIST))
        story.tell(f"Log: {LOG}. `status --state-dir {STATE}` asks it.")
        return text

    def uninstall(self, story: Story, force: bool) -> None:
        """See Supervisor."""
        if (text := read_text(PLIST)) is None:
            story.tell(f"There is no {PLIST}: nothing to remove.")
            return
        is_ours = force or found(text, "").is_ours_to_replace
        if is_ours and (story.is_dry or _launchctl("print", TARGET)[0] == 0):
            _do(story, "launchd stops it and forgets it", "bootout", TARGET)
        remove_file(PLIST, story, "The property list", force)
        story.tell(f"Left alone: the containers (they go on serving), {STATE} (state and history), {LOG}.")

    def status(self) -> tuple[bool, list[str], Mapping[str, object]]:
        """See Supervisor."""
        code, said = _launchctl("print", TARGET)
        if code and read_text(PLIST) is None:
            lines = ["reconcilerd is not installed as a service. `service install` does that."]
            return False, lines, {"installed": False}
        facts = dict(re.findall(r"^\t(state|pid|runs|last exit code) = (.*)$", said, re.MULTILINE))
        runs = facts.get("state") == "running"
        words = {Found.OURS: "as we wrote it", Found.EDITED: "changed by hand since we wrote it"}
        process = f", process {facts['pid']}" if "pid" in facts else ""
        last = facts.get("last exit code", "none")
        lines = [
            f"{LABEL}: {facts.get('state', 'not loaded')}{process}",
            f"  starts     {facts.get('runs', '0')}, last exit code {last} (70: it hung)",
            f"  list       {PLIST}, {words.get(found(read_text(PLIST), ''), 'not written by this command')}",
            f"  log        {LOG}",
        ]
        return runs, lines, {"installed": True, "launchd": facts}


def _do(story: Story, words: str, *verb: str) -> None:
    story.tell(f"{words}: launchctl {' '.join(verb)}")
    if story.is_dry:
        return
    code, said = _launchctl(*verb)
    if code:
        raise Refused(f"`launchctl {' '.join(verb)}` failed: {said or f'exit code {code}'}")


def _launchctl(*verb: str) -> tuple[int, str]:
    command = ("launchctl", *verb)
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LIMIT_S,
            check=False,
        )
    except FileNotFoundError as error:
        raise Refused("There is no program launchctl. Is this macOS?") from error
    except subprocess.TimeoutExpired as error:
        raise Refused(f"`{' '.join(command)}` did not end within {LIMIT_S} s.") from error
    return done.returncode, (done.stdout if done.returncode == 0 else done.stderr or done.stdout).strip()
