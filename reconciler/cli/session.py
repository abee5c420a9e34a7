"""Requests and their answers, the same with and without a daemon."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from reconciler.cli.hints import in_events
from reconciler.cli.options import Options
from reconciler.control import NotRunning, ask

if TYPE_CHECKING:
    from reconciler.core.desired import Json
    from reconciler.operations import Event


_VERBATIM = frozenset({"logs"})


class Session:
    """Asks the daemon of a state directory; where none runs, does the work in this process, holding the lock.

    Once a daemon has answered, the session does not step in for it: it may be about to come back.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self.has_daemon = False

    def request(self, verb: str, args: Mapping[str, Json], silence_s: float | None = None) -> Iterator[Event]:
        """Events, the last of which is `end`. Raises ReconcilerError, now or while they are read.

        `silence_s` is how long a daemon may take for each of them.
        """
        asked = dict(args)
        if self._options.names_manifest:
            asked["manifest"] = str(self._options.manifest)
        try:
            events = ask(self._options.socket, verb, asked, silence_s=silence_s)
        except NotRunning:
            if self.has_daemon:
                raise
            return self.request_here(verb, asked)
        self.has_daemon = True
        return self._told(verb, events)

    def request_here(self, verb: str, args: Mapping[str, Json]) -> Iterator[Event]:
        """The same, never asking a daemon."""
        from reconciler.control import this_user
        from reconciler.operations import Request
        from reconciler.wiring import local_operations

        where = self._options
        with local_operations(where.manifest, where.state_dir, where.config_file) as operations:
            yield from self._told(verb, operations.run(Request(verb, args, this_user())))

    def _told(self, verb: str, events: Iterator[Event]) -> Iterator[Event]:
        """`events`, their hints spelled for this program; what containers say stays as it is."""
        return events if verb in _VERBATIM else in_events(events, self._options.program)


def open_session(options: Options) -> Session:
    """A session; nothing is opened before the first request."""
    return Session(options)
