"""A permission to interrupt: for one manifest, and for a quarter of an hour."""

from __future__ import annotations

import pytest

from reconciler.core.permission import LASTS_S, Permission

GIVEN = Permission(until=1000.0 + LASTS_S)
A, B = "a" * 64, "b" * 64


def test_it_is_for_the_first_manifest_that_can_be_read() -> None:
    waiting = GIVEN.left("", 1001.0)
    assert waiting == GIVEN
    assert waiting.left(A, 1002.0) == Permission(GIVEN.until, A)


@pytest.mark.parametrize(("asked", "is_left"), [(A, True), ("", True), (B, False)])
def test_another_manifest_has_no_part_in_it(asked: str, is_left: bool) -> None:
    assert (Permission(GIVEN.until, A).left(asked, 1002.0) is not None) is is_left


@pytest.mark.parametrize(("after_s", "is_left"), [(LASTS_S - 0.1, True), (LASTS_S, False), (8 * 3600.0, False)])
def test_it_lapses(after_s: float, is_left: bool) -> None:
    assert (GIVEN.left(A, 1000.0 + after_s) is not None) is is_left
