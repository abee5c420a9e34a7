"""Clients that keep their connections and never retry, and say who answered. Run as a program, prints JSON.

python swarm.py PORT HOST CLIENTS METHODS [REQUESTS]

METHODS is GET, POST or GET,POST (in turn). Without REQUESTS they go on until standard input ends. Whatever is not an
answer counts under the error's name.
"""

from __future__ import annotations

import json
import re
import select
import selectors
import socket
import sys
from collections import Counter

BODY = b"x" * 64
STATUS = re.compile(rb"HTTP/1\.1 (\d\d\d) ")
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.I)
CLOSES = re.compile(rb"\r\nconnection: *close", re.I)
SERVED_BY = re.compile(rb"\r\nx-served-by: *([^\r]*)", re.I)
MODE = re.compile(rb"\r\nx-mode: *([^\r]*)", re.I)


class Client:
    """One connection, made when it is needed, and at most one question on it."""

    def __init__(self, port: int, questions: tuple[bytes, ...], watcher: selectors.BaseSelector) -> None:
        self.port = port
        self.questions = questions
        self.watcher = watcher
        self.asked = 0
        self.received = b""
        self.connection: socket.socket | None = None

    def ask(self) -> str | None:
        """None, or the name of what went wrong."""
        try:
            if self.connection is None:
                self.connection = socket.create_connection(("127.0.0.1", self.port), 30)
                self.watcher.register(self.connection, selectors.EVENT_READ, self)
            self.connection.sendall(self.questions[self.asked % len(self.questions)])
        except OSError as error:
            return self._lost(error)
        finally:
            self.asked += 1
        return None

    def hear(self) -> str | None:
        """`STATUS SLOT MODE` when the answer is whole (`-` where a header is missing), an error's name, or None yet."""
        assert self.connection is not None
        try:
            more = self.connection.recv(65536)
            if not more:
                raise ConnectionError("closed where an answer was owed")
        except OSError as error:
            return self._lost(error)
        self.received += more
        head, end, body = self.received.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if not end or length is None or len(body) < int(length[1]):
            return None
        self.received = body[int(length[1]) :]
        if CLOSES.search(head):
            self._close()
        found = (pattern.search(head) for pattern in (STATUS, SERVED_BY, MODE))
        return " ".join(match[1].decode() if match else "-" for match in found)

    def _lost(self, error: OSError) -> str:
        self._close()
        return type(error).__name__

    def _close(self) -> None:
        self.received = b""
        if self.connection is not None:
            self.watcher.unregister(self.connection)
            self.connection.close()
            self.connection = None


def question(method: str, host: str) -> bytes:
    body = BODY if method == "POST" else b""
    return f"{method} / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def swarm(port: int, host: str, clients: int, methods: list[str], requests: int | None) -> Counter[str]:
    """How often each answer came, after `requests` questions, or when standard input ends."""
    watcher, counts, left = selectors.DefaultSelector(), Counter[str](), requests
    questions = tuple(question(method, host) for method in methods)
    free = [Client(port, questions, watcher) for _ in range(clients)]
    waiting = 0
    while free or waiting:
        is_over = left == 0 if left is not None else bool(select.select([sys.stdin], [], [], 0)[0])
        while free and not is_over:
            client = free.pop()
            if lost := client.ask():
                counts[lost] += 1
                free.append(client)
            else:
                waiting += 1
            if left is not None:
                left -= 1
                is_over = left == 0
        if is_over and not waiting:
            break
        for key, _ in watcher.select(30):
            client = key.data
            heard = client.hear()
            if heard is not None:
                counts[heard] += 1
                waiting -= 1
                free.append(client)
    return counts


def main() -> None:
    port, host, clients, methods, *rest = sys.argv[1:]
    print(json.dumps(swarm(int(port), host, int(clients), methods.split(","), int(rest[0]) if rest else None)))


if __name__ == "__main__":
    main()
