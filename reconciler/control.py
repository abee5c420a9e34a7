"""The control socket: an operator's requests to a running daemon, and the daemon's answers.

A connection carries one request. Both sides speak JSON, one object on a line:

    > {"protocol":1,"verb":"deploy","args":{}}
    < {"event":"hello","protocol":1,"version":"0.1.0"}
    < {"event":"step","name":"manifest_valid","text":"Manifest valid"}
    < {"event":"end","exit":0,"text":"","value":{}}

Who asks is what the kernel says of the peer, never what the request says. An answer that has to wait yields
`{"event":"tick"}` now and then: nobody is told, but it is when we look whether the client is still there.
"""

from __future__ import annotations

import json
import math
import os
import re
import select
import socket
import stat
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

from reconciler import __version__
from reconciler.adapters.clock import monotonic
from reconciler.core.errors import ManifestError, PolicyError, ReconcilerError, RenderError, StateError

if TYPE_CHECKING:
    from reconciler.core.desired import Json
    from reconciler.operations import Event, Events, Request

PROTOCOL = 1
MAX_REQUEST_BYTES = 64 * 1024
MAX_EVENT_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 16

IN_LINE_S = 0.02
ANSWER_S = 10.0  # a daemon that lives says hello at once; this is for a host that crawls
_ADDRESS_BYTES = 100  # sun_path holds 104 on macOS, 108 on Linux, with the closing NUL
_VERB = re.compile(r"[a-z][a-z_-]{0,31}")
_OPAQUE = frozenset({"status"})  # asked every second by a live view: not worth a log line


class ControlError(ReconcilerError):
    """The daemon could not be asked, or did not answer as agreed."""


class NotRunning(ControlError):
    """Nobody listens on the socket."""


def exit_code(error: ReconcilerError) -> int:
    """The command line's exit code for an error that ended a request."""
    from reconciler.operations import Exit, Misused

    match error:
        case Misused():
            return Exit.USAGE
        case ManifestError() | RenderError():
            return Exit.BAD_MANIFEST
        case PolicyError():
            return Exit.POLICY_FAILED
        case _:
            return Exit.ERROR


# --- the daemon's side -------------------------------------------------------------------------------------------


class ControlServer:
    """Answers requests on the unix socket `path`, each connection in a thread of its own.

    `answer` turns a request into events; whatever it raises becomes an `end` with exit 1, never the daemon's end.
    Members of `group` may connect (mode 0660); without it, the daemon's own user and group.
    """

    def __init__(
        self,
        path: Path,
        answer: Callable[[Request], Events],
        group: str | None = None,
        *,
        connections: int = 16,
        request_s: float = 5.0,
        send_s: float = 30.0,
    ) -> None:
        import structlog

        self.path = path
        self._answer = answer
        self._group = group
        self._connections = connections
        self._free = threading.BoundedSemaphore(connections)
        self._request_s = request_s
        self._send_s = send_s
        self._log = structlog.get_logger()
        self._wake, self._woken = socket.socketpair()
        self._stopping = threading.Event()
        self._threads: set[threading.Thread] = set()

    def start(self) -> None:
        """Listening when it returns. Raises StateError when the path cannot be had."""
        self._listener = _listen(self.path, self._group)
        self._inode = os.lstat(self.path).st_ino
        self._acceptor = threading.Thread(target=self._accept, name="control", daemon=True)
        self._acceptor.start()

    def stop(self, wait_s: float = 5.0) -> None:
        """No new request is taken, the socket is gone; answers under way get `wait_s` to end. May be called twice."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        with suppress(OSError):
            if os.lstat(self.path).st_ino == self._inode:
                self.path.unlink()
        self._wake.send(b"x")
        self._acceptor.join()
        self._listener.close()
        deadline = monotonic() + wait_s
        for thread in tuple(self._threads):
            thread.join(max(0.0, deadline - monotonic()))
        self._wake.close()
        self._woken.close()

    def _accept(self) -> None:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        while True:
            poll.poll()
            if self._stopping.is_set():
                return
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                self._log.warning("connection.refused", reason=str(error))
                self._stopping.wait(0.2)  # no descriptors left: those that serve will give theirs back
                continue
            self._admit(connection)

    def _admit(self, connection: socket.socket) -> None:
        if not self._free.acquire(blocking=False):
            self._log.warning("connection.refused", reason=f"{self._connections} requests are being answered")
            _turn_away(connection, f"The daemon is already answering {self._connections} requests. Try again shortly.")
            return
        thread = threading.Thread(target=self._serve, args=(connection,), name="control-request", daemon=True)
        self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError as error:
            self._threads.discard(thread)
            self._free.release()
            self._log.warning("connection.refused", reason=str(error))
            _turn_away(connection, "The daemon cannot start another thread. Try again shortly.")

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                self._converse(connection)
        except _Gone as gone:
            self._log.info("request.abandoned", reason=str(gone))
        except Exception:  # noqa: BLE001  one connection's bug, not the daemon's end
            self._log.exception("request.broken", bug=True)
        finally:
            self._threads.discard(threading.current_thread())
            self._free.release()

    def _converse(self, connection: socket.socket) -> None:
        actor = _actor(connection)
        try:
            request = _parse_request(_read_line(connection, self._request_s), actor)
        except _BadRequest as error:
            self._log.warning("request.refused", actor=actor, reason=str(error))
            self._send(connection, _end(64, str(error)))
            return
        if request.verb not in _OPAQUE:
            self._log.info("request.received", verb=request.verb, actor=actor)
        self._send(connection, {"event": "hello", "protocol": PROTOCOL, "version": __version__})
        self._relay(connection, request)

    def _relay(self, connection: socket.socket, request: Request) -> None:
        """Send the events of an answer up to its `end`, and close it whatever happens."""
        events: Iterator[Event] | None = None
        try:
            events = self._answer(request)
            for event in events:
                if event["event"] == "tick":
                    _check_present(connection)
                    continue
                self._send(connection, event)
                if event["event"] == "end":
                    return
            raise AssertionError("an answer ended without an end")
        except _Gone:
            raise
        except ReconcilerError as error:
            self._send(connection, _end(exit_code(error), str(error)))
        except Exception as error:  # noqa: BLE001  a bug in an answer is told, recorded and survived
            self._log.exception("request.broken", verb=request.verb, actor=request.actor, bug=True)
            self._send(connection, _end(1, f"A bug in the daemon: {type(error).__name__}; its log has the details."))
        finally:
            self._close(events, request)

    def _close(self, events: Iterator[Event] | None, request: Request) -> None:
        try:
            if events is not None and hasattr(events, "close"):
                events.close()
        except Exception:  # noqa: BLE001  as above
            self._log.exception("request.broken", verb=request.verb, actor=request.actor, bug=True)

    def _send(self, connection: socket.socket, event: Event) -> None:
        """One line to the client, who has `send_s` to take it. Raises _Gone."""
        line = _line(event)
        try:
            connection.settimeout(self._send_s)
            connection.sendall(line)
        except OSError as error:
            raise _Gone(str(error)) from error


class _Gone(Exception):
    """The client went away, or takes nothing any more."""


class _BadRequest(Exception):
    """What arrived is not a request; the message says what is wrong with it."""


def _listen(path: Path, group: str | None) -> socket.socket:
    """A listening socket at `path`, never open to others, not even for a moment. Raises StateError."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        _make_way(path)
        if sys.platform == "linux":
            os.fchmod(listener.fileno(), 0o600)
        with _address(path) as address:
            listener.bind(address)
        if group is not None:
            os.chown(path, -1, _group_id(group))
        os.chmod(path, 0o660)
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise StateError(f"Cannot listen on the control socket {path}: {error.strerror or error}.") from error
    except StateError:
        listener.close()
        raise
    return listener


def _make_way(path: Path) -> None:
    """Remove the socket of a daemon that is no more; refuse anything else that is in the way."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise StateError(f"{path} is in the way of the control socket and is no socket. Move it away.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, _address(path) as address:
        probe.settimeout(2.0)
        try:
            probe.connect(address)
        except ConnectionRefusedError:
            path.unlink()
        except OSError as error:
            raise StateError(f"Cannot tell whether a daemon still answers at {path}: {error}.") from error
        else:
            raise StateError(f"Another daemon answers at {path}. Stop it first, or use another state directory.")


def _group_id(name: str) -> int:
    import grp

    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise StateError(f"There is no group {name!r} for the control socket. Create it (groupadd {name}).") from None


def _actor(connection: socket.socket) -> str:
    """Who is on the other end, as the kernel knows it: `alice (uid 1000)`."""
    if sys.platform == "linux":
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII"))
        uid: int = struct.unpack("iII", credentials)[1]
    else:  # LOCAL_PEERCRED: a struct xucred, whose second word is the user
        uid = struct.unpack_from("II", connection.getsockopt(0, 1, 76))[1]
    return _named(uid)


def this_user() -> str:
    """Who runs this process, as `actor` says it."""
    return _named(os.getuid())


def _named(uid: int) -> str:
    import pwd

    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def _read_line(connection: socket.socket, patience_s: float) -> bytes:
    """The request's line; the whole of it must arrive within `patience_s`."""
    deadline = monotonic() + patience_s
    received = bytearray()
    while b"\n" not in received:
        if len(received) > MAX_REQUEST_BYTES:
            raise _BadRequest(f"The request is longer than {MAX_REQUEST_BYTES} bytes.")
        connection.settimeout(max(0.001, deadline - monotonic()))
        try:
            chunk = connection.recv(16 * 1024)
        except TimeoutError:
            raise _BadRequest(f"No whole request arrived within {patience_s:g} s.") from None
        except OSError as error:
            raise _Gone(str(error)) from error
        if not chunk:
            raise _Gone("closed before the request was complete")
        received += chunk
    line, _, rest = bytes(received).partition(b"\n")
    if len(line) > MAX_REQUEST_BYTES:
        raise _BadRequest(f"The request is longer than {MAX_REQUEST_BYTES} bytes.")
    if rest:
        raise _BadRequest("A connection carries one request.")
    return line


def _parse_request(line: bytes, actor: str) -> Request:
    from reconciler.operations import Request

    message = _strict_json(line)
    if not isinstance(message, dict):
        raise _BadRequest("A request is a JSON object.")
    if unknown := message.keys() - {"protocol", "verb", "args", "reason"}:
        raise _BadRequest(f"A request has no {', '.join(sorted(map(repr, unknown)))}.")
    if message.get("protocol", PROTOCOL) != PROTOCOL:
        raise _BadRequest(
            f"This daemon ({__version__}) speaks control protocol {PROTOCOL}, the request another one. "
            "Use the command line of the daemon's version, or restart the daemon after an upgrade."
        )
    verb, args = message.get("verb"), message.get("args", {})
    if not isinstance(verb, str) or not _VERB.fullmatch(verb):
        raise _BadRequest("A request's `verb` is a word of lower-case letters.")
    if not isinstance(args, dict):
        raise _BadRequest("A request's `args` is an object.")
    if "reason" in message:
        args["reason"] = message["reason"]
    return Request(verb, args, actor)


def _strict_json(line: bytes) -> Json:
    """JSON as RFC 8259 has it and no more: UTF-8, no NaN, no key twice, finite numbers, `MAX_DEPTH` levels."""
    try:
        text = line.decode("utf-8")
        value: Json = json.loads(
            text, parse_constant=_not_json, parse_float=_finite, object_pairs_hook=_without_duplicates
        )
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # lone surrogates have no UTF-8
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise _BadRequest(f"The request is not the JSON we take: {reason[:200]}.") from None
    if _depth(value) > MAX_DEPTH:
        raise _BadRequest(f"The request is nested more than {MAX_DEPTH} levels deep.")
    return value


def _not_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is out of range")
    return number


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key is there twice")
    return members


def _depth(value: Json) -> int:
    """Levels of lists and objects; stops counting just beyond MAX_DEPTH."""
    level: list[Json] = [value]
    for depth in range(MAX_DEPTH + 1):
        level = [
            member
            for item in level
            if isinstance(item, (dict, list))
            for member in (item.values() if isinstance(item, dict) else item)
        ]
        if not any(isinstance(item, (dict, list)) for item in level):
            return depth + 1
    return MAX_DEPTH + 1


def _check_present(connection: socket.socket) -> None:
    """Raises _Gone when the client has closed its end."""
    poll = select.poll()
    poll.register(connection, 0)  # POLLHUP and POLLERR are always told
    if poll.poll(0):
        raise _Gone("closed by the client")


def _turn_away(connection: socket.socket, text: str) -> None:
    with connection, suppress(OSError):
        connection.setblocking(False)
        connection.send(_line(_end(1, text)))


def _end(code: int, text: str) -> Event:
    return {"event": "end", "exit": code, "text": text, "value": None}


def _line(message: Mapping[str, Json]) -> bytes:
    """ASCII only, so that nothing in a text can end the line."""
    return json.dumps(message, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"


# --- the command line's side -------------------------------------------------------------------------------------


def ask(path: Path, verb: str, args: Mapping[str, Json], *, silence_s: float | None = None) -> Iterator[Event]:
    """The daemon's events for one request, `end` last; connected when it returns.

    `silence_s` bounds the wait for each event; that a daemon lives it says itself, within `ANSWER_S`. Raises
    NotRunning or another ControlError, here or while the events are read.
    """
    connection = _connect(path)
    with suppress(OSError):  # it may have answered already that it will not listen
        connection.sendall(_line({"protocol": PROTOCOL, "verb": verb, "args": dict(args)}))
    return _events(connection, path, silence_s)


def _connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(ANSWER_S)
    try:
        with _address(path) as address:
            _wait_in_line(connection, address)
    except OSError as error:
        connection.close()
        raise _why_unreachable(path, error) from error
    return connection


def _wait_in_line(connection: socket.socket, address: str) -> None:
    """Connect; where too many others wait to be taken, the kernel says so at once, and it is tried for a while."""
    until = monotonic() + ANSWER_S
    while True:
        try:
            connection.connect(address)
            return
        except BlockingIOError:
            if monotonic() > until:
                raise
            time.sleep(IN_LINE_S)


def _why_unreachable(path: Path, error: OSError) -> ControlError:
    match error:
        case FileNotFoundError() | NotADirectoryError():
            return NotRunning(f"No daemon is running: there is no control socket at {path}.")
        case ConnectionRefusedError():
            return NotRunning(f"No daemon is running: the one that made {path} is gone.")
        case PermissionError():
            return ControlError(f"You may not use the control socket {path}. {_who_may(path)}")
        case TimeoutError() | BlockingIOError():
            return ControlError(f"The daemon at {path} does not take connections. Is it stopped or overloaded?")
        case _:
            return ControlError(f"Cannot connect to the daemon at {path}: {error.strerror or error}.")


def _who_may(path: Path) -> str:
    """Which group lets people in: the socket's, or that of the folder that keeps us from seeing it."""
    import grp

    for place in (path, *path.parents):
        try:
            group_id = os.stat(place).st_gid
        except OSError:
            continue
        try:
            group = grp.getgrgid(group_id).gr_name
        except KeyError:
            group = str(group_id)
        return f"{place} belongs to group '{group}': become a member and log in again, or use sudo."
    return "Use sudo."


def _events(connection: socket.socket, path: Path, silence_s: float | None) -> Iterator[Event]:
    with connection, connection.makefile("rb") as stream:
        while True:
            try:
                line = stream.readline(MAX_EVENT_BYTES + 1)
            except TimeoutError:
                raise ControlError(f"The daemon at {path} does not answer. Is it stopped or overloaded?") from None
            except ConnectionError:
                line = b""
            if not line:
                raise ControlError(f"The daemon at {path} went away before its answer was complete.")
            event = _parse_event(line, path)
            if event["event"] == "hello":
                connection.settimeout(silence_s)
                continue
            yield event
            if event["event"] == "end":
                return


def _parse_event(line: bytes, path: Path) -> Event:
    try:
        event: Any = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        event = None
    match event:
        case {"event": "end", "exit": int(), "text": str()}:
            return cast("Event", event)
        case {"event": "hello", "protocol": int(protocol), "version": str(version)} if protocol != PROTOCOL:
            raise ControlError(
                f"The daemon at {path} is of another version ({version}, this is {__version__}). "
                "Restart it after an upgrade, or use the command line of its version."
            )
        case {"event": str(kind)} if kind != "end":
            return cast("Event", event)
        case _:
            raise ControlError(f"What answers at {path} is no daemon of this version ({__version__}).")


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """A name for `path` that fits into a socket address, also where the path is too long for one."""
    if len(os.fsencode(path)) <= _ADDRESS_BYTES or sys.platform != "linux":
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
