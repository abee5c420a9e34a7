"""Addresses and names that are taken, beside the many that are not (corpus T4)."""

from __future__ import annotations

import pytest

from reconciler.formats import git_url


@pytest.mark.parametrize(
    ("text", "url", "scheme", "host"),
    [
        ("https://git.example.com/shop/app.git", "https://git.example.com/shop/app.git", "https", "git.example.com"),
        ("https://[::1]:8443/x", "https://[::1]:8443/x", "https", "[::1]"),
        ("ssh://git@example.com:2222/~ann/x.git", "ssh://git@example.com:2222/~ann/x.git", "ssh", "example.com"),
        ("git@github.com:shop/app.git", "git@github.com:shop/app.git", "ssh", "github.com"),
        ("http://127.0.0.1:8080/x", "http://127.0.0.1:8080/x", "http", "127.0.0.1"),
        ("git://localhost/x", "git://localhost/x", "git", "localhost"),
        ("/srv/my repo", "file:///srv/my%20repo", "file", ""),
        ("/srv/größe%", "file:///srv/gr%C3%B6%C3%9Fe%25", "file", ""),
        ("file:///srv/repo", "file:///srv/repo", "file", ""),
    ],
)
def test_an_address_is_taken_as_it_is(text: str, url: str, scheme: str, host: str) -> None:
    found = git_url.remote(text)
    assert (found.url, found.scheme, found.host) == (url, scheme, host)
    assert found.is_local == (scheme == "file")
    assert found.shown == text.removeprefix("file://")


@pytest.mark.parametrize("name", ["main", "feature/x-1", "v1.2.3", "größe", "a-b_c", "x" * 255])
def test_a_branch_s_name_is_taken(name: str) -> None:
    assert git_url.branch(name) == name


@pytest.mark.parametrize("path", ["manifest.yaml", "deploy/prod/manifest.yaml", "größe/a b.yaml", "..x/y..", ".hidden"])
def test_a_path_is_taken(path: str) -> None:
    assert git_url.path(path) == path


def test_ids_are_whole_or_at_least_seven_characters() -> None:
    assert git_url.commit_id("a" * 40) == "a" * 40
    assert git_url.commit_id("0" * 64) == "0" * 64
    assert git_url.prefix("abcdef0") == "abcdef0"
    for text in ("abcdef", "ABCDEF0", "abcdefg", "a" * 65, "--all12"):
        with pytest.raises(ValueError, match="commit"):
            git_url.prefix(text)


@pytest.mark.control("K15")
@pytest.mark.parametrize("text", ["https://u:pa55word@h/x", "https://pa55word@h/x", "HTTPS://u:pa55word@h/x",
                                  "ssh://u:pa55word@h/x", "u:pa55word@h:x"])  # fmt: skip
def test_a_password_in_an_address_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        git_url.remote(text)
    assert "pa55word" not in str(refused.value)
