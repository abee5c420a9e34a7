"""The sample service: one process, one event loop, one core.

`python3 /app/app.py` serves until SIGTERM or SIGINT, finishes what it has begun and exits with 0.
Exit codes: 1 the address cannot be bound, 2 an environment variable has a wrong value.
"""

import signal
import sys
from types import FrameType


def stop_before_serving(signal_number: int, frame: FrameType | None) -> None:
    """Leave at once: nothing has been accepted yet."""
    sys.exit(0)


# The kernel keeps from process 1 of a container every signal that it has not asked for, so a stop during the imports
# below would wait for the engine's SIGKILL. The server puts its own answer in place of this one.
signal.signal(signal.SIGTERM, stop_before_serving)
signal.signal(signal.SIGINT, stop_before_serving)

import os  # noqa: E402

from events import EventLog  # noqa: E402
from server import WorkloadServer, bind  # noqa: E402
from service import Service  # noqa: E402
from settings import InvalidSetting, read_settings  # noqa: E402


def main() -> int:
    try:
        settings = read_settings(os.environ)
        listener = bind(settings.host, settings.port)
    except InvalidSetting as wrong:
        print(wrong, file=sys.stderr)
        return 2
    except OSError as refused:
        print(f"Cannot listen on {settings.host}:{settings.port}: {refused.strerror}.", file=sys.stderr)
        return 1
    events = EventLog(settings.log_dir)
    WorkloadServer(Service(settings, events), settings, events).run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main())
