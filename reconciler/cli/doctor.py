"""`doctor`: what of this host would keep the rest from working, and what to do about it.

The host's side is looked at here; what the engine says (its version, images, ports) is asked for like any request.
"""

from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reconciler.adapters.file_systems import doubt, kind_of
from reconciler.adapters.state_dir import check_own
from reconciler.cli.answers import play, say_json
from reconciler.cli.checks import Check, as_json, of_event, show
from reconciler.cli.options import Options
from reconciler.cli.session import Session
from reconciler.cli.terminal import note, say
from reconciler.core.errors import ReconcilerError, StateError
from reconciler.log import visible

GB = 1_000_000_000
MIN_OPEN_FILES, MIN_INOTIFY_INSTANCES, MIN_INOTIFY_WATCHES = 1024, 64, 8192
TIME_ERROR = 5
STATE = "State directory"
DOCKER_SOCKET = "/var/run/docker.sock"


def run(arguments: Namespace, options: Options, session: Session) -> int:
    found: list[Check] = []

    def add(check: Check) -> None:
        found.append(check)
        if not options.is_json:
            show(check)

    for look in LOOKS:
        add(look(options))
    complaint = _ask_engine(session, add, has_state=not any(c.name == STATE and c.ok is False for c in found))
    if options.is_json:
        say_json(as_json(found))
    elif not complaint:
        say(_summary(found))
    if complaint:
        note(visible(complaint, keep="\n"))
    return 1 if complaint or any(check.ok is False for check in found) else 0


def _ask_engine(session: Session, add: Callable[[Check], None], *, has_state: bool) -> str:
    """Add the engine's side; why it could not be had, or nothing.

    Nobody asks the engine without a state directory; what is wrong with that was found already unless `has_state`.
    """

    def hear(event: Any) -> None:
        if event["event"] == "check":
            add(of_event(event))

    try:
        end = play(session.request("doctor", {}), hear)
    except StateError as error:
        if has_state:
            add(Check(STATE, False, str(error)))
        add(Check("Docker Engine", None, "Not asked: that needs the state directory, see above."))
        return ""
    except ReconcilerError as error:
        add(Check("Docker Engine", False, str(error)))
        return ""
    return str(end["text"]) if end["exit"] not in (0, 1) else ""


def _summary(found: list[Check]) -> str:
    wrong = sum(check.ok is False for check in found)
    odd = sum(check.ok is None for check in found)
    if wrong or odd:
        return f"\n{len(found)} looks: {wrong} wrong, {odd} worth a look."
    return f"\n{len(found)} looks, all well."


# --- the looks ---------------------------------------------------------------------------------------------------


def _python(_options: Options) -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    ok = sys.version_info >= (3, 11)
    return Check("Python", ok, version if ok else f"{version} is too old. Install 3.11 or later.")


def _state_directory(options: Options) -> Check:
    directory = options.state_dir
    there = next(place for place in (directory, *directory.parents) if place.exists())
    if os.statvfs(there).f_flag & os.ST_RDONLY:
        advice = "Remount it for writing, or name another directory with --state-dir."
        return Check(STATE, False, f"{there} is on a read-only file system. {advice}")
    if not os.access(there, os.W_OK | os.X_OK):
        return Check(STATE, False, f"{there} is not writable for you. Use sudo, or --state-dir.")
    if there == directory and not options.socket.exists():
        try:
            check_own(directory)
        except StateError as error:
            return Check(STATE, False, str(error))
    if doubted := doubt(kind_of(directory)):
        return Check(STATE, None, f"{directory} {doubted}")
    return Check(STATE, True, f"{directory}{'' if there == directory else ' (will be made)'}")


def _room(options: Options) -> Check:
    there = next(place for place in (options.state_dir, *options.state_dir.parents) if place.exists())
    free = shutil.disk_usage(there).free / GB
    ok = True if free >= 1 else None if free >= 0.1 else False
    advice = "" if ok else " Make room: history and state are written there."
    return Check("Disk for the state", ok, f"{free:.1f} GB free.{advice}")


def _docker_socket(_options: Options) -> Check:
    name = "Docker socket"
    host = os.environ.get("DOCKER_HOST", f"unix://{DOCKER_SOCKET}")
    if not host.startswith("unix://"):
        return Check(name, True, f"{host} (DOCKER_HOST)")
    path = host.removeprefix("unix://")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(3.0)
        try:
            probe.connect(path)
        except FileNotFoundError:
            return Check(name, False, f"There is no {path}. Install and start the Docker Engine.")
        except ConnectionRefusedError:
            return Check(name, False, f"Nobody answers at {path}. Start the Docker Engine.")
        except PermissionError:
            advice = "Join its group (sudo usermod -aG docker $USER, then log in again), or use sudo."
            return Check(name, False, f"You may not use {path}. {advice}")
        except OSError as error:
            return Check(name, False, f"{path}: {error}")
    return Check(name, True, path)


def _compose(_options: Options) -> Check:
    name = "Compose plugin"
    advice = "Not needed to run; with it `docker compose` works on the rendered files."
    docker = shutil.which("docker")
    if docker is None:
        return Check(name, None, f"There is no docker command. {advice}")
    try:
        answer = subprocess.run(
            [os.path.abspath(docker), "compose", "version", "--short"],
            env={"HOME": os.environ.get("HOME", "/")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check(name, None, f"{error}. {advice}")
    version = answer.stdout.decode("utf-8", "replace").strip()
    return Check(name, True, version) if answer.returncode == 0 and version else Check(name, None, advice)


def _inotify(_options: Options) -> Check:
    name = "File watches"
    limits = Path("/proc/sys/fs/inotify")
    if not limits.is_dir():
        return Check(name, True, "no inotify here, nothing to limit")
    instances, watches = (_number(limits / f"max_user_{what}") for what in ("instances", "watches"))
    if instances >= MIN_INOTIFY_INSTANCES and watches >= MIN_INOTIFY_WATCHES:
        return Check(name, True, f"{instances} instances, {watches} watches")
    wanted = f"fs.inotify.max_user_instances={MIN_INOTIFY_INSTANCES} fs.inotify.max_user_watches={MIN_INOTIFY_WATCHES}"
    found = f"{instances} instances, {watches} watches: edits may be seen late."
    return Check(name, None, f"{found} Raise them: sudo sysctl -w {wanted}")


def _open_files(_options: Options) -> Check:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= MIN_OPEN_FILES:
        return Check("Open files", True, "no limit" if soft == resource.RLIM_INFINITY else f"{soft} at once")
    return Check("Open files", None, f"only {soft} at once. Raise it: ulimit -n {MIN_OPEN_FILES}")


def _clock(_options: Options) -> Check:
    name = "Clock"
    state = _kernel_clock_state()
    if state is None:
        return Check(name, None, "Cannot be told here whether it is kept by NTP.")
    if state == TIME_ERROR:
        return Check(name, None, "Not kept by NTP: times in the history may be off. Start chrony or timesyncd.")
    return Check(name, True, "kept by NTP")


LOOKS = (_python, _state_directory, _room, _docker_socket, _compose, _inotify, _open_files, _clock)


def _kernel_clock_state() -> int | None:
    """What adjtimex(2) answers when it is asked and told nothing; None where there is no such call."""
    if sys.platform != "linux":
        return None
    import ctypes

    timex = ctypes.create_string_buffer(512)  # struct timex with `modes` 0: read only
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(timex)
    except (OSError, AttributeError):
        return None
    return int(state) if state >= 0 else None


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0
