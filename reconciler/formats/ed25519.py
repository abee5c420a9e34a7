"""Ed25519 signatures checked (RFC 8032, 5.1.7), never made: nothing here is secret, so plain Python will do.

One key is asked about thousands of signatures, so its multiples are laid out once (0.1 s); a check then takes less than
a millisecond. As OpenSSH does it, a signature must be written in the one canonical way.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha512

KEY_BYTES, SIGNATURE_BYTES = 32, 64

_P = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_ROOT_OF_MINUS_ONE = pow(2, (_P - 1) // 4, _P)
_WINDOW_BITS = 8
_WINDOWS = 32  # of 8 bits: more than any scalar below the order has

Point = tuple[int, int, int, int]  # X, Y, Z, T with x = X/Z, y = Y/Z, x·y = T/Z
Addend = tuple[int, int, int]  # y - x, y + x, 2d·x·y: a point in the form that is added fastest
Multiples = list[list[Addend]]

_NEUTRAL: Point = (0, 1, 1, 0)


class PublicKey:
    """A key to check signatures with; ValueError for bytes that are no point of the curve."""

    def __init__(self, encoded: bytes) -> None:
        x, y = _decoded(encoded)
        self.encoded = encoded
        self._minus = _multiples(-x % _P, y)

    def holds(self, signature: bytes, message: bytes) -> bool:
        """Whether whoever has the private key signed exactly this message."""
        if len(signature) != SIGNATURE_BYTES:
            return False
        commitment, s = signature[:32], int.from_bytes(signature[32:], "little")
        if s >= _ORDER:
            return False
        challenge = int.from_bytes(sha512(commitment + self.encoded + message).digest(), "little") % _ORDER
        return _encoded(_sum(self._minus, challenge, _sum(_base(), s, _NEUTRAL))) == commitment


@cache
def _base() -> Multiples:
    y = 4 * pow(5, -1, _P) % _P
    return _multiples(*_decoded(y.to_bytes(32, "little")))


def _multiples(x: int, y: int) -> Multiples:
    """For each window of a scalar, the point times 1 to 255 times what the window is worth."""
    table: Multiples = []
    for _ in range(_WINDOWS):
        first = _addend(x, y)
        row: list[Point] = [(x, y, 1, x * y % _P)]
        for _ in range(2**_WINDOW_BITS - 1):
            row.append(_add(row[-1], first))
        plain = _affine(row)
        table.append([_addend(*point) for point in plain[:-1]])
        x, y = plain[-1]
    return table


def _affine(points: list[Point]) -> list[tuple[int, int]]:
    """x and y of each point, with one division for all of them."""
    products = [1]
    for _, _, z, _ in points:
        products.append(products[-1] * z % _P)
    inverse = pow(products[-1], -1, _P)
    found = []
    for (x, y, z, _), before in zip(reversed(points), reversed(products[:-1]), strict=True):
        own = inverse * before % _P
        inverse = inverse * z % _P
        found.append((x * own % _P, y * own % _P))
    return found[::-1]


def _addend(x: int, y: int) -> Addend:
    return (y - x) % _P, (y + x) % _P, 2 * _D * x * y % _P


def _sum(multiples: Multiples, scalar: int, start: Point) -> Point:
    """`start` plus `scalar` times the point whose multiples these are."""
    for row, digit in zip(multiples, scalar.to_bytes(_WINDOWS, "little"), strict=True):
        if digit:
            start = _add(start, row[digit - 1])
    return start


def _add(point: Point, addend: Addend) -> Point:
    x, y, z, t = point
    less, more, product = addend
    a, b, c, d = (y - x) * less, (y + x) * more, t * product, 2 * z
    e, f, g, h = (b - a) % _P, (d - c) % _P, (d + c) % _P, (b + a) % _P
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _encoded(point: Point) -> bytes:
    inverse = pow(point[2], -1, _P)
    x, y = point[0] * inverse % _P, point[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _decoded(encoded: bytes) -> tuple[int, int]:
    """The point's x and y; ValueError where there is no such point."""
    if len(encoded) != KEY_BYTES:
        raise ValueError("a key has 32 bytes")
    number = int.from_bytes(encoded, "little")
    sign, y = number >> 255, number & (2**255 - 1)
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * _ROOT_OF_MINUS_ONE % _P
    if y >= _P or (x * x - square) % _P or (x == 0 and sign):
        raise ValueError("no point of the curve")
    return (x if x & 1 == sign else _P - x), y
