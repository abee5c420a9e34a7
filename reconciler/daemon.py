"""`reconcilerd`: follows a manifest for years. Wires triggers to the loop, and the loop to whoever wants to know."""

from __future__ import annotations

import faulthandler
import os
import shutil
import signal
import stat
import sys
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType

import structlog

from reconciler import __version__, log, wiring
from reconciler.adapters import clock
from reconciler.adapters.config_reload import ConfigInForce
from reconciler.adapters.engine_events import EngineEvents
from reconciler.adapters.file_source import FileSource
from reconciler.adapters.file_systems import doubt, kind_of
from reconciler.adapters.file_watch import FileWatch
from reconciler.adapters.heartbeat import HANG_S, TELL_EVERY_S, Heart, Pulse, seen_by
from reconciler.adapters.own_metrics import OwnMetrics
from reconciler.adapters.sd_notify import Notifier, notifier_of_this_process
from reconciler.adapters.state_dir import StateDir
from reconciler.adapters.webhook import WebhookListener
from reconciler.cli.daemon_options import METRICS_PORT, daemon_flags, daemon_options
from reconciler.cli.options import UsageError
from reconciler.cli.terminal import note
from reconciler.control import ControlServer
from reconciler.core.errors import ManifestError, ReconcilerError, StateError
from reconciler.core.record import Cycle, Trigger
from reconciler.formats.cycle_record import changed_the_world
from reconciler.formats.daemon_config import CONFIG_FILE, DaemonConfig
from reconciler.log import visible
from reconciler.loop import Loop
from reconciler.operations.desk import Place
from reconciler.wiring import Followed

COMMAND_LINE = "command line"
"""Where a problem is that a flag has."""

NEWLINE = "\n"
EXIT_ERROR = 1
EXIT_LOCKED = 3
EXIT_USAGE = 64
EXIT_HUNG = 70


def main() -> int:
    """Run until SIGTERM or SIGINT; 0 after a clean end, 3 when another one runs already.

    1 when it cannot start, or not go on since its state directory was replaced; 64 when it was called wrongly; 70 when
    its loop hung and nobody else watches it.
    """
    try:
        return _main(daemon_options())
    except UsageError as error:
        note(f"reconcilerd: {visible(str(error), keep=NEWLINE)}\nSee `reconcilerd --help`.")
        return EXIT_USAGE


def _main(options: Namespace) -> int:
    with suppress(OSError, ValueError, RuntimeError):  # there is nowhere to write
        # systemd's watchdog ends a hung daemon with SIGABRT: its log then says where it hung. Only the loop's thread,
        # which gets the signal: the stacks of those that run meanwhile change under the reader, which then crashes.
        faulthandler.enable(all_threads=False)
    log.configure(json=True if options.log_json else None, level=options.log_level or "info")
    logger = structlog.get_logger()
    try:
        run_forever(options)
    except StateError as error:
        logger.error("daemon.refused", reason=str(error))
        return EXIT_LOCKED if "another" in str(error) else EXIT_ERROR
    except ReconcilerError as error:
        logger.error("daemon.refused", reason=str(error))
        return EXIT_ERROR
    return 0


def run_forever(options: Namespace) -> None:
    """Hold the state directory, follow the manifest, answer operators, until a signal.

    Raises ReconcilerError where it cannot start, and where its state directory was replaced; UsageError where the
    flags make no sense.
    """
    in_force = _config(options)
    config = in_force.now
    _speak_as(config)
    manifest, state_dir = _absolute(config.manifest or "manifest.yaml"), _absolute(config.state_dir or _state_dir())
    logger = structlog.get_logger()
    notifier, watchdog_s = notifier_of_this_process()
    system = clock.SystemClock()
    metrics = OwnMetrics(__version__)
    loops: list[Loop] = []

    def news(words: str) -> None:
        for loop in loops:
            loop.wake(Trigger("git", words.removeprefix("git: ")))

    with ExitStack() as stack:
        state = stack.enter_context(StateDir(state_dir))
        lock = stack.enter_context(state.lock("reconcilerd", system.timestamp()))
        if doubted := doubt(kind_of(state_dir)):
            logger.warning("state.doubted", state=str(state_dir), reason=doubted)
        source = stack.enter_context(wiring.followed(config, manifest, state_dir, news))
        finished = _told(logger, metrics, notifier)
        keep_bytes = config.history_keep_bytes
        loop = stack.enter_context(wiring.loop_of(state_dir, source, state, finished, keep_bytes=keep_bytes))
        loop.turns_itself = True
        loops.append(loop)
        desk = wiring.operations(Place(manifest, state_dir, system.timestamp()), source, lambda _acts: loop)
        control = ControlServer(state_dir / "run" / "control.sock", desk.run, config.group)
        control.start()
        stack.callback(control.stop)
        if config.group:
            _let_in(config.group, (state_dir, state_dir / "run"))
        _follow(stack, config, source, loop)
        stack.enter_context(_hearing_the_engine(loop))
        reload = _Reload(loop, notifier, in_force)
        _take_signals(loop, notifier, reload)
        port = METRICS_PORT if config.metrics_port is None else config.metrics_port
        if port and not metrics.serve(port):
            logger.warning("metrics.refused", port=port, reason="the port is taken")
        logger.info("daemon.started", manifest=source.shown, state=str(state_dir), version=__version__, pid=os.getpid())
        notifier.tell("READY=1", "STATUS=looking for the first time")
        pulse = stack.enter_context(_beating(notifier, watchdog_s, options.hang_limit))

        def beat() -> None:
            reload.turned()
            if not lock.still_mine():
                logger.error("lock.lost", state=str(state_dir), reason="the lock file was replaced; stopping")
                loop.stop()

        loop.turn_for_ever(beat, seen_by(pulse.got_on, loop.ports), pulse.rest)
        notifier.tell("STOPPING=1", "STATUS=stopping")
        logger.info("daemon.stopped")
        if not lock.still_mine():
            raise StateError(f"{state_dir} was replaced while it was in use. Start the daemon again")


@contextmanager
def _beating(notifier: Notifier, watchdog_s: float | None, hang_s: float | None) -> Iterator[Pulse]:
    """While the loop goes round, systemd is told so; once it hangs, this process is ended, by systemd or by itself.

    Without a watchdog of systemd's, only where a limit was asked for.
    """
    pulse = Pulse()
    if watchdog_s is None and hang_s is None:
        yield pulse
        return
    limit_s = hang_s or HANG_S
    tell_s = min(TELL_EVERY_S, (watchdog_s or limit_s) / 4, limit_s / 4)
    logger = structlog.get_logger()

    def hung(silent_s: float) -> None:
        logger.error("loop.hung", silent_s=round(silent_s, 1), limit_s=limit_s, reason="ended, to be started again")
        notifier.tell("WATCHDOG=trigger", f"STATUS=hung for {silent_s:.0f} s")
        faulthandler.dump_traceback(all_threads=True)
        if watchdog_s is None:
            os._exit(EXIT_HUNG)

    def tell() -> None:
        if watchdog_s is not None:
            notifier.tell("WATCHDOG=1")

    heart = Heart(pulse, tell, hung, every_s=tell_s, limit_s=limit_s)
    heart.start()
    try:
        yield pulse
    finally:
        heart.stop()


class _Reload:
    """SIGHUP is `systemctl reload`: the manager is told when it began, and when a cycle that heard of it is over.

    Then the daemon's own file is read again, too.
    """

    def __init__(self, loop: Loop, notifier: Notifier, config: ConfigInForce) -> None:
        self._loop = loop
        self._notifier = notifier
        self._config = config
        self._is_asked = False

    def ask(self) -> None:
        """Look again now."""
        self._notifier.tell("RELOADING=1", f"MONOTONIC_USEC={int(clock.monotonic() * 1e6)}")
        self._loop.wake(Trigger("signal", "SIGHUP"))
        self._is_asked = True

    def turned(self) -> None:
        """A cycle is over; what woke it is no longer in the loop's inbox."""
        if self._is_asked and not self._loop.has_wakes():
            self._is_asked = False
            self._read_config()
            self._notifier.tell("READY=1")

    def _read_config(self) -> None:
        """What can change without a restart has changed; what came of the file is told."""
        said = self._config.read_again()
        _speak_as(self._config.now)
        logger = structlog.get_logger()
        for warning in said.warnings:
            logger.warning("config.doubted", reason=str(warning))
        if said.problems:
            reason = "; ".join(map(str, said.problems))
            logger.warning("config.rejected", reason=reason, advice="what was in force stays in force")
        elif said.restart:
            advice = "only a restart brings these into force"
            logger.warning("config.reloaded", changed=said.changed, unchanged=said.restart, advice=advice)
        else:
            logger.info("config.reloaded", changed=said.changed)


def _told(
    logger: structlog.typing.FilteringBoundLogger, metrics: OwnMetrics, notifier: Notifier
) -> Callable[[Cycle], None]:
    """What is told of each cycle: a line where something happened or changed, the gauges and the status always."""
    said: list[object] = [None]

    def finished(cycle: Cycle) -> None:
        metrics.finished(cycle)
        trouble = (*map(str, cycle.problems), *cycle.errors)
        notifier.status(f"cycle {cycle.number}: {trouble[0] if trouble else 'no trouble'}")
        news = (trouble, tuple((d.service, d.move, d.reason) for d in cycle.decisions if d.reason))
        if not changed_the_world(cycle) and news == said[0]:
            logger.debug("cycle.finished", number=cycle.number, trigger=str(cycle.trigger))
            return
        said[0] = news
        tell = logger.warning if trouble else logger.info
        tell(
            "cycle.finished",
            number=cycle.number,
            trigger=str(cycle.trigger),
            duration_ms=round(cycle.duration_ms, 1),
            decisions=[f"{d.service}: {d.move} ({d.reason})" for d in cycle.decisions if d.reason],
            actions=[
                f"{step.verb} {step.target}: {result.outcome}{f' ({result.detail})' if result.detail else ''}"
                for step, result in zip(cycle.plan.steps, cycle.results, strict=True)
            ],
            problems=list(trouble),
        )

    return finished


def _follow(stack: ExitStack, config: DaemonConfig, source: Followed, loop: Loop) -> None:
    """Whatever tells of a change of the manifest wakes the loop. Raises StateError where one cannot be listened to."""
    if isinstance(source.source, FileSource):
        stack.enter_context(_watching(source.source.path, source.source, loop))
    else:
        source.source.start()
    if config.webhook is None:
        return
    if config.git is None or source.repository is None:
        raise StateError("webhook is set, but the manifest is a plain file, which is watched anyway. Remove webhook.")
    listener = WebhookListener(config.webhook, config.git.ref, source.repository.hint)
    listener.start()
    stack.callback(listener.stop)
    structlog.get_logger().info("webhook.listens", port=listener.port, path=config.webhook.path)


def _config(options: Namespace) -> ConfigInForce:
    """The daemon's file and its flags as one; what may be doubted is told. Raises ManifestError and UsageError."""
    file = _absolute(options.config or CONFIG_FILE)
    config = ConfigInForce(file, daemon_flags(options), required=options.config is not None)
    said = config.read()
    for warning in said.warnings:
        structlog.get_logger().warning("config.doubted", reason=str(warning))
    if any(problem.file == COMMAND_LINE for problem in said.problems):
        raise UsageError("\n".join(problem.message for problem in said.problems))
    if said.problems:
        raise ManifestError(said.problems)
    return config


def _speak_as(config: DaemonConfig) -> None:
    """From now on the log is as the configuration wants it."""
    log.configure(json=config.log_json or None, level=config.log_level or "info")


def _absolute(path: str) -> Path:
    return Path(os.path.abspath(path))


def _state_dir() -> str:
    """systemd's, else one in this folder."""
    return os.environ.get("STATE_DIRECTORY", "").partition(":")[0] or "state"


@contextmanager
def _watching(manifest: Path, source: FileSource, loop: Loop) -> Iterator[None]:
    def changed(is_whole: bool) -> None:
        if is_whole:
            source.renamed_into_place()
        loop.wake(Trigger("manifest", manifest.name))

    try:
        watch = FileWatch(manifest, changed)
    except OSError as error:
        raise StateError(f"{manifest.parent} cannot be watched: {error.strerror}. Is the folder there?") from error
    try:
        yield
    finally:
        watch.stop()


@contextmanager
def _hearing_the_engine(loop: Loop) -> Iterator[None]:
    """Engine events wake the loop, once the manifest has told which project to listen for."""
    events: list[EngineEvents] = []
    stopped = threading.Event()

    def listen() -> None:
        while not stopped.wait(0.1):
            desired = loop.memory.last_good
            if desired is not None:
                events.append(
                    EngineEvents(
                        desired.project,
                        lambda words: loop.wake(Trigger("engine", words)),
                        networks=lambda: _network_of(loop),
                    )
                )
                events[0].start()
                return

    threading.Thread(target=listen, name="engine-events-start", daemon=True).start()
    try:
        yield
    finally:
        stopped.set()
        for listener in events:
            listener.stop()


def _network_of(loop: Loop) -> frozenset[str]:
    desired = loop.memory.last_good
    return frozenset({desired.network.name}) if desired else frozenset()


def _let_in(group: str, folders: Sequence[Path]) -> None:
    """Members of `group` may reach the control socket and read the history. Raises StateError."""
    try:
        for folder in folders:
            shutil.chown(folder, group=group)
            folder.chmod(folder.stat().st_mode | stat.S_IRGRP | stat.S_IXGRP | stat.S_ISGID)
    except (LookupError, OSError) as error:
        raise StateError(
            f"group {group} cannot be let in: {error}. Is there such a group, and are you in it?"
        ) from error


def _take_signals(loop: Loop, notifier: Notifier, reload: _Reload) -> None:
    def stop(_number: int, _frame: FrameType | None) -> None:
        notifier.tell("STOPPING=1", "STATUS=stopping after the cycle under way")
        loop.stop()

    def look_again(_number: int, _frame: FrameType | None) -> None:
        reload.ask()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGHUP, look_again)


if __name__ == "__main__":
    sys.exit(main())
