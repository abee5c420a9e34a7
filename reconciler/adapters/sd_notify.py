"""What systemd wants to be told of a service, and what it asks: sd_notify(3), without its library."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

import structlog

from reconciler.log import visible

SEND_LIMIT_S = 5.0
STATUS_MAX = 200


class Notifier:
    """Tells the service manager, where there is one; else does nothing. Never raises."""

    def __init__(self, address: str | None) -> None:
        self._address = "\0" + address[1:] if address and address.startswith("@") else address

    @property
    def is_heard(self) -> bool:
        """Whether anybody wants to know."""
        return bool(self._address)

    def tell(self, *assignments: str) -> None:
        """One datagram of lines such as `READY=1`; it is with the manager when this returns, or a line in the log."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.settimeout(SEND_LIMIT_S)  # its queue may be full, and a stuck manager must not stop us for ever
            try:
                channel.sendto("\n".join(assignments).encode("utf-8", "replace"), self._address)
            except OSError as error:
                structlog.get_logger().warning("notify.failed", reason=str(error), told=assignments[0])

    def status(self, text: str) -> None:
        """What `systemctl status` shows of us, on one line."""
        self.tell(f"STATUS={visible(text)[:STATUS_MAX]}")


def taken_from(environment: MutableMapping[str, str], pid: int) -> tuple[Notifier, float | None]:
    """The notifier, and within how many seconds a sign of life is wanted (None: never).

    The variables are taken out of `environment`: they are meant for this process and none of its children.
    """
    address = environment.pop("NOTIFY_SOCKET", None)
    microseconds = environment.pop("WATCHDOG_USEC", "")
    meant_for = environment.pop("WATCHDOG_PID", str(pid))
    is_asked = microseconds.isdecimal() and int(microseconds) > 0 and meant_for == str(pid)
    return Notifier(address), int(microseconds) / 1e6 if is_asked else None


def notifier_of_this_process() -> tuple[Notifier, float | None]:
    """`taken_from` the environment of this process."""
    return taken_from(os.environ, os.getpid())
