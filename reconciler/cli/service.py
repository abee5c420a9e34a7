"""`service`: reconcilerd under systemd (or launchd on macOS): installed, explained, removed.

What keeps a daemon running differs by machine and is found out when the command runs.
"""

from __future__ import annotations

import os
import shutil
import sys
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from reconciler.cli.answers import say_json
from reconciler.cli.hints import runnable
from reconciler.cli.options import Options
from reconciler.cli.service_files import Found, Place, difference, found
from reconciler.cli.session import Session
from reconciler.cli.terminal import say
from reconciler.core.errors import ManifestError, Refused

DOCKER_SOCKET = Path("/var/run/docker.sock")


@dataclass
class Story:
    """What is done, told step by step; a dry run only tells."""

    is_dry: bool
    is_quiet: bool
    program: str
    steps: list[str] = field(default_factory=list)

    def tell(self, text: str) -> None:
        """One step more."""
        text = runnable(text, self.program)
        self.steps.append(text)
        if not self.is_quiet:
            say(f"{len(self.steps)}. {text}")


class Supervisor(Protocol):
    """What starts and watches services on this machine. All raise Refused with what to do."""

    def install(self, place: Place, story: Story, force: bool) -> str:
        """The service runs, and will after a restart of the machine; the file's text."""
        ...

    def uninstall(self, story: Story, force: bool) -> None:
        """The service neither runs nor starts any more, and its file is gone."""
        ...

    def status(self) -> tuple[bool, list[str], Mapping[str, object]]:
        """Whether it runs, and what there is to say of it: lines for people, and facts."""
        ...


def run(arguments: Namespace, options: Options, session: Session) -> int:
    supervisor = supervisor_here()
    if arguments.what == "status":
        return _status(supervisor, options)
    story = Story(arguments.dry_run, options.is_json, options.program)
    if not story.is_dry and os.geteuid() != 0:
        raise Refused(
            f"service {arguments.what} changes this machine's services, and you are not root. "
            f"Like this: `sudo {options.program} service {arguments.what}`; --dry-run shows what it does."
        )
    text = ""
    if arguments.what == "install":
        text = supervisor.install(_place(options), story, arguments.force)
    else:
        supervisor.uninstall(story, arguments.force)
    if options.is_json:
        say_json({"done": not story.is_dry, "steps": story.steps, "file": text})
    elif story.is_dry:
        say(f"\nNothing was changed.{' The file:' if text else ''}")
        if text:
            say(f"\n{text.rstrip()}")
    return 0


def _status(supervisor: Supervisor, options: Options) -> int:
    runs, lines, facts = supervisor.status()
    if options.is_json:
        say_json({"running": runs, **facts})
    else:
        say("\n".join(runnable(line, options.program) for line in lines))
    return 0 if runs else 1


def supervisor_here() -> Supervisor:
    """systemd's or launchd's, whichever this machine has."""
    if sys.platform == "darwin":
        from reconciler.cli.service_launchd import Launchd

        return Launchd()
    from reconciler.cli.service_systemd import Systemd

    return Systemd()


def write_file(path: Path, text: str, story: Story, what: str, force: bool) -> bool:
    """`path` holds `text`; whether it had to be written. Raises Refused where that would lose somebody's work."""
    before = read_text(path)
    state = found(before, text)
    if state is Found.WANTED:
        story.tell(f"{what} {path}: as it should be.")
        return False
    if before is not None and not state.is_ours_to_replace:
        if not story.is_quiet:
            say(difference(before, text, path))
        if not force:
            raise Refused(_not_ours(path, state))
    story.tell(f"{what} {path}: {'written anew' if before is not None else 'written'}.")
    if not story.is_dry:
        temporary = path.with_name(f".{path.name}.new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(text, encoding="utf-8")
            temporary.chmod(0o644)
            os.replace(temporary, path)
        except OSError as error:
            raise Refused(f"{path} cannot be written: {error.strerror}.") from error
    return True


def remove_file(path: Path, story: Story, what: str, force: bool) -> None:
    """`path` is gone. Raises Refused where somebody's work would be lost."""
    before = read_text(path)
    if before is None:
        return
    state = found(before, "")
    if not state.is_ours_to_replace and not force:
        raise Refused(_not_ours(path, state))
    story.tell(f"{what} {path}: removed.")
    if not story.is_dry:
        path.unlink(missing_ok=True)


def read_text(path: Path) -> str | None:
    """What the file says; None where there is none. Raises Refused."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}. Is it a file, and are you root?") from error


def _not_ours(path: Path, state: Found) -> str:
    who = "was changed by hand since we wrote it" if state is Found.EDITED else "was not written by this command"
    return (
        f"{path} {who}, so it is left as it is. Keep your own lines where they survive "
        "(`systemctl edit reconcilerd`; on macOS in a copy), then say it again with --force."
    )


def _place(options: Options) -> Place:
    """What is to run, from how this very program runs. Raises Refused."""
    import reconciler

    config = None if options.names_manifest else _with_a_repository(options)
    manifest = config or options.manifest
    if not manifest.is_file():
        like_this = f"{options.program} service install --manifest /etc/swiftdeploy/manifest.yaml"
        raise Refused(f"There is no manifest {manifest}. Name it: `{like_this}`.")
    beside = Path(sys.executable).parent / "reconcilerd"
    program = beside if os.access(beside, os.X_OK) else Path(shutil.which("reconcilerd") or beside)
    if not os.access(program, os.X_OK):
        raise Refused(f"There is no program {program}. Install SwiftDeploy whole (`pip install .`), then try again.")
    code = Path(reconciler.__file__).resolve().parents[1]
    return Place(
        program=Path(os.path.abspath(program)),
        manifest=manifest,
        manifest_folders=tuple(sorted({manifest.parent, manifest.resolve().parent})),
        folders=tuple(sorted({Path(sys.prefix), Path(sys.base_prefix), Path(sys.base_prefix).resolve(), code})),
        group=_group_of_docker(),
        option="--config" if config else "--manifest",
    )


def _with_a_repository(options: Options) -> Path | None:
    """The daemon's own file, where it names a git repository. Raises ManifestError where it cannot be used."""
    from reconciler.adapters.config_file import read_config

    if options.config_file is None:
        return None
    reading = read_config(options.config_file, required=True)
    if reading.config is None:
        raise ManifestError(reading.problems)
    return options.config_file if reading.config.git is not None else None


def _group_of_docker() -> str:
    """Who may use Docker's socket; `docker` where there is none yet."""
    import grp

    try:
        group = grp.getgrgid(DOCKER_SOCKET.stat().st_gid).gr_name
    except (OSError, KeyError):
        return "docker"
    return "docker" if group in ("root", "wheel") else group
