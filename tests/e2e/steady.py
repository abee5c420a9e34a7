"""Steady traffic on keep-alive connections that never retry, until standard input says stop. Run as a program.

python steady.py PORT REQUESTS_A_SECOND
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from collections import Counter

CLIENTS = 4


def main() -> None:
    port, rate = int(sys.argv[1]), float(sys.argv[2])
    counts: Counter[str] = Counter()
    stop = threading.Event()
    threads = [threading.Thread(target=work, args=(port, rate / CLIENTS, counts, stop)) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    sys.stdin.readline()
    stop.set()
    for thread in threads:
        thread.join()
    print(json.dumps(counts))


def work(port: int, rate: float, counts: Counter[str], stop: threading.Event) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    due = time.monotonic()
    while not stop.is_set():
        try:
            connection.request("GET", "/")
            answer = connection.getresponse()
            answer.read()
            counts[f"{answer.status} {answer.getheader('X-Mode') or 'stable'}"] += 1
        except (OSError, http.client.HTTPException) as error:
            counts[type(error).__name__] += 1
            connection.close()
        due = max(due + 1 / rate, time.monotonic() - 1)
        stop.wait(max(0.0, due - time.monotonic()))
    connection.close()


if __name__ == "__main__":
    main()
