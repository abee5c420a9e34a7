"""Clients that keep their connections and never retry: whatever is lost shows. Run as a program, prints JSON.

python load.py PORT SECONDS CLIENTS
"""

from __future__ import annotations

import json
import multiprocessing
import socket
import sys
import time
from typing import Any

BODY = b"x" * 64


class Client:
    """One keep-alive connection, half GET, half POST."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connection: socket.socket | None = None
        self.rest = b""

    def ask(self, number: int) -> str:
        """`200`, another status, or the error's name."""
        try:
            return self._asked(number)
        except OSError as error:
            self._close()
            return type(error).__name__

    def _asked(self, number: int) -> str:
        if self.connection is None:
            self.connection = socket.create_connection(("127.0.0.1", self.port), 10)
            self.rest = b""
        body = BODY if number % 2 else b""
        method = b"POST" if number % 2 else b"GET"
        head = b" / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
        self.connection.sendall(method + head + body)
        while b"\r\n\r\n" not in self.rest:
            self._more()
        header, _, self.rest = self.rest.partition(b"\r\n\r\n")
        low = header.lower()
        length = int(low.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        while len(self.rest) < length:
            self._more()
        self.rest = self.rest[length:]
        if b"connection: close" in low:
            self._close()
        return header.split(b" ", 2)[1].decode()

    def _more(self) -> None:
        assert self.connection is not None
        data = self.connection.recv(65536)
        if not data:
            raise ConnectionError("closed in the middle of an answer")
        self.rest += data

    def _close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None


def work(port: int, seconds: float, counts: Any) -> None:
    client, found = Client(port), dict[str, int]()
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        number += 1
        answer = client.ask(number)
        found[answer] = found.get(answer, 0) + 1
    counts.put(found)


def main() -> None:
    port, seconds, clients = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    counts: Any = multiprocessing.Queue()
    processes = [multiprocessing.Process(target=work, args=(port, seconds, counts)) for _ in range(clients)]
    for process in processes:
        process.start()
    total: dict[str, int] = {}
    for _ in processes:
        for answer, count in counts.get().items():
            total[answer] = total.get(answer, 0) + count
    print(json.dumps(total))


if __name__ == "__main__":
    main()
