"""Steady numbered requests on keep-alive connections that never retry, until standard input ends. Run as a program.

python -m tests.soak.traffic PORT REQUESTS_A_SECOND

One JSON object on a line: each request that failed, at once; the total every few seconds and at the end. Request
`GET /?n=3-17` is the 17th of the third connection; nginx's own log has the same number.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time

CLIENTS = 4
TELL_S = 5.0
PATIENCE_S = 15.0
BODY = b"x" * 64


class Voice:
    """Whole lines, whoever speaks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.total = 0
        self.slowest_s = 0.0

    def failed(self, number: str, began: float, what: str, mode: str) -> None:
        with self._lock:
            self._say({"n": number, "at": began, "took_s": round(time.time() - began, 3), "what": what, "mode": mode})

    def asked(self, took_s: float) -> None:
        with self._lock:
            self.total += 1
            self.slowest_s = max(self.slowest_s, took_s)

    def tell(self) -> None:
        with self._lock:
            self._say({"total": self.total, "slowest_s": round(self.slowest_s, 3)})

    def _say(self, line: dict[str, object]) -> None:
        print(json.dumps(line), flush=True)


def work(name: int, port: int, rate: float, voice: Voice, stop: threading.Event) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    due, count = time.monotonic() + name / rate / CLIENTS, 0
    while not stop.wait(max(0.0, due - time.monotonic())):
        count += 1
        number, began, start = f"{name}-{count}", time.time(), time.monotonic()
        method, body = ("POST", BODY) if count % 2 else ("GET", None)
        try:
            connection.request(method, f"/?n={number}", body)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                voice.failed(number, began, str(answer.status), answer.getheader("X-Mode") or "")
        except (OSError, http.client.HTTPException) as error:
            voice.failed(number, began, type(error).__name__, "")
            connection.close()
        voice.asked(time.monotonic() - start)
        due = max(due + 1 / rate, time.monotonic() - 1)
    connection.close()


def main() -> None:
    port, rate = int(sys.argv[1]), float(sys.argv[2])
    voice, stop = Voice(), threading.Event()
    threads = [threading.Thread(target=work, args=(name, port, rate / CLIENTS, voice, stop)) for name in range(CLIENTS)]
    for thread in threads:
        thread.start()
    ticker = threading.Thread(target=lambda: [voice.tell() for _ in iter(lambda: stop.wait(TELL_S), True)])
    ticker.start()
    sys.stdin.read()
    stop.set()
    for thread in (*threads, ticker):
        thread.join()
    voice.tell()


if __name__ == "__main__":
    main()
