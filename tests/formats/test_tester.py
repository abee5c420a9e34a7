"""The tester's secret: what may be one, what stands for it, and what nginx is given."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.formats.tester import SecretFile, complaint, digest, included, map_name, map_text, secret_of

SECRET = "0123456789abcdef" * 4
ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+/=-"


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        ("", "is empty"),
        ("a" * 15, "holds 15 characters, not 16 to 256"),
        ("a" * 257, "holds 257 characters, not 16 to 256"),
        ("a" * 16 + '"', "holds other characters"),
        ("a" * 16 + "$x", "holds other characters"),
        ("a" * 16 + "\\", "holds other characters"),
        ("a" * 16 + "\nb", "holds other characters"),
        ("a" * 16 + " ", "holds other characters"),
        ("~" + "a" * 16, "holds other characters"),
        ("ä" * 16, "holds other characters"),
    ],
)
def test_what_is_no_secret_is_refused_and_not_shown(secret: str, said: str) -> None:
    assert complaint(secret).startswith(said)
    assert not secret or secret not in complaint(secret)
    with pytest.raises(ValueError, match="not a secret"):
        map_text(secret)


@given(st.text(ALPHABET, min_size=16, max_size=256))
def test_the_map_matches_its_secret_and_nothing_else(secret: str) -> None:
    assert complaint(secret) == ""
    pattern, value = map_text(secret).rstrip().split(" ")
    expression = re.compile(pattern.strip('"').removeprefix("~"))
    assert value == "1;"
    assert expression.search(secret)
    near = ("", secret[1:], secret[:-1], f"x{secret}", f"{secret}x", f"{secret}, {secret}", secret.replace(".", "x"))
    others = [*near, secret.swapcase(), re.sub(r"(.)[+]", r"\1\1", secret)]
    assert not [other for other in others if other != secret and expression.search(other)]


def test_a_secret_that_is_not_at_hand_matches_nobody() -> None:
    assert re.sub(r"#.*\n", "", map_text(None)) == ""


def test_one_end_of_line_does_not_belong_to_the_secret() -> None:
    assert {secret_of(SECRET + end) for end in ("", "\n", "\r\n")} == {SECRET}
    assert complaint(secret_of(SECRET + "\n\n"))


def test_the_digest_follows_the_secret_and_the_service_and_shows_neither() -> None:
    found = {digest("web", SECRET), digest("api", SECRET), digest("web", SECRET[::-1])}
    assert len(found) == 3
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in found)
    assert digest("web", SECRET) == digest("web", SECRET) == "73b18eb6f0a5009f"


def test_what_a_configuration_includes_is_found_by_name_and_digest() -> None:
    name = map_name("my.web-2", "0" * 16)
    assert included(f"x include /etc/nginx/live/testers/{name}; y") == {name: "0" * 16}
    assert included("include /etc/nginx/live/testers/../x.0000000000000000.map;") == {}
    assert included("include /etc/nginx/mime.types;") == {}


def test_a_secret_file_does_not_print_its_secret() -> None:
    assert SECRET not in repr(SecretFile(SECRET))
