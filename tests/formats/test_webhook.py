"""What a webhook offers as proof, whether it holds, and what is worth a look."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any
from urllib.parse import urlencode

import pytest

from reconciler.formats import webhook
from reconciler.formats.webhook import Claim, Headers, HookKind, Reply, claim, heard

pytestmark = [pytest.mark.fault("GT15")]

SECRET = b"it is a secret of the host"
MAIN = "refs/heads/main"
BODY = json.dumps({"ref": MAIN, "repository": {"full_name": "shop/web"}}).encode()


def hexed(body: bytes = BODY, secret: bytes = SECRET, algorithm: str = "sha256") -> str:
    return hmac.new(secret, body, algorithm).hexdigest()


def headers(**given: str) -> Headers:
    return {name.lower().replace("_", "-"): [value] for name, value in given.items()}


GITHUB = headers(X_GitHub_Event="push", X_Hub_Signature="sha1=0", X_Hub_Signature_256="sha256=" + hexed())
GITEA = headers(X_Gitea_Event="push", X_GitHub_Event="push", X_Gitea_Signature=hexed(), X_Hub_Signature_256="sha256=0")
FORGEJO = headers(X_Forgejo_Event="push", X_Gitea_Event="push", X_Forgejo_Signature=hexed(), X_Gitea_Signature="0")
GITLAB = headers(X_Gitlab_Event="Push Hook", X_Gitlab_Token=SECRET.decode())
GENERIC = headers(X_Signature=hexed())


def holds(given: Headers, kind: HookKind = HookKind.AUTO, body: bytes = BODY, secret: bytes = SECRET) -> bool:
    found = claim(given, kind)
    return found is not None and found.holds(secret, body)


# --- proof


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (GITHUB, HookKind.GITHUB),
        (GITEA, HookKind.GITEA),
        (FORGEJO, HookKind.GITEA),
        (GITLAB, HookKind.GITLAB),
        (GENERIC, HookKind.GENERIC),
        (headers(X_Signature="sha256=" + hexed().upper()), HookKind.GENERIC),
        (headers(X_Hub_Signature_256="sha256=" + hexed()), HookKind.GENERIC),
        (headers(X_Gogs_Event="push", X_Gogs_Signature=hexed()), HookKind.GITEA),
    ],
)
def test_each_kind_of_server_is_known_by_its_headers(given: Headers, kind: HookKind) -> None:
    found = claim(given)
    assert found is not None
    assert found.kind is kind
    assert holds(given)
    assert holds(given, kind)


@pytest.mark.parametrize("given", [GITHUB, GITEA, GITLAB, GENERIC])
def test_another_secret_does_not_hold(given: Headers) -> None:
    assert not holds(given, secret=SECRET[:-1])
    assert not holds(given, secret=SECRET + b"x")
    assert not holds(given, secret=b"")


def test_without_a_secret_nothing_holds() -> None:
    assert not holds(headers(X_Signature=hexed(secret=b"")), secret=b"")
    assert not Claim(HookKind.GITLAB, token=b"").holds(b"", BODY)


@pytest.mark.parametrize("given", [GITHUB, GITEA, GENERIC])
def test_another_body_does_not_hold(given: Headers) -> None:
    assert not holds(given, body=BODY + b" ")
    assert not holds(given, body=b"")


@pytest.mark.parametrize(
    "given",
    [
        {},
        headers(X_GitHub_Event="push"),
        headers(X_GitHub_Event="push", X_Hub_Signature="sha1=" + hexed(algorithm="sha1")),
        headers(X_Hub_Signature_256="sha1=" + hexed(algorithm="sha1")),
        headers(X_Hub_Signature_256=hexed()),
        headers(X_Hub_Signature_256="sha512=" + hexed(algorithm="sha512")),
        headers(X_Signature=hexed(algorithm="sha512")),
        headers(X_Signature=hexed()[:-1]),
        headers(X_Signature=hexed()[:-1] + "g"),
        headers(X_Signature=hexed()[:-1] + "²"),
        headers(X_Signature=""),
        headers(X_Gitlab_Event="Push Hook", X_Gitlab_Token=""),
        {"x-signature": [hexed(), hexed()]},
        {"x-hub-signature-256": ["sha256=" + "0" * 64, "sha256=" + hexed()]},
        headers(Authorization="Bearer " + SECRET.decode()),
    ],
)
def test_what_is_no_proof_is_not_weighed(given: Headers) -> None:
    assert claim(given) is None


def test_a_kind_that_is_fixed_takes_no_other_proof() -> None:
    assert claim(GITLAB, HookKind.GITHUB) is None
    assert claim(GITHUB, HookKind.GITLAB) is None
    assert claim(GENERIC, HookKind.GITHUB) is None
    assert not holds(GITHUB | GITLAB, HookKind.GITHUB, secret=b"other")


def test_a_good_token_does_not_help_a_bad_signature() -> None:
    bad = headers(X_Gitea_Event="push", X_Gitea_Signature="0" * 64)
    assert not holds(bad | {"x-gitlab-token": [SECRET.decode()], "x-signature": [hexed()]})


def test_bytes_are_compared_whatever_they_are() -> None:
    odd = "gehe\xefm".encode("latin-1") * 4
    assert Claim(HookKind.GITLAB, token=odd).holds(odd, b"")
    assert holds(headers(X_Gitlab_Token=odd.decode("latin-1")), secret=odd)


def test_comparisons_take_the_same_time_whatever_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[bytes, bytes]] = []

    def noting(left: bytes, right: bytes) -> bool:
        asked.append((left, right))
        return left == right

    monkeypatch.setattr("reconciler.formats.webhook.hmac.compare_digest", noting)
    assert holds(GITHUB)
    assert holds(GITLAB)
    assert [len(left) for left, _ in asked] == [64, len(SECRET)]


# --- what it says


def said(payload: Any, ref: str = MAIN, given: Headers = GITHUB, kind: HookKind = HookKind.GITHUB) -> Reply:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return heard(given, body, kind, ref)


def test_a_push_to_what_is_followed_is_worth_a_look() -> None:
    assert said({"ref": MAIN, "repository": {"full_name": "shop/web"}}) == Reply(
        202, "heard: looking now", "github webhook, refs/heads/main, shop/web"
    )
    assert said({"ref": "main"}).hint
    assert said({"ref": "refs/tags/v1"}, ref="refs/tags/v1").hint
    assert said({"ref": "refs/heads/release/1.x"}, ref="refs/heads/release/1.x").hint
    assert said({"ref": MAIN, "deleted": True}).hint


@pytest.mark.parametrize("named", ["refs/heads/other", "refs/tags/main", "refs/heads/main2", "refs/heads/x/main"])
def test_a_push_to_something_else_is_not_and_is_told(named: str) -> None:
    assert said({"ref": named}) == Reply(202, "ignored: another branch or tag is followed")


@pytest.mark.parametrize(
    "payload",
    [{}, [], 5, None, {"ref": 5}, {"ref": None}, b"", b"{", b"\xff", b"[" * 100_000, b"9" * 9999, {"repository": []}],
)  # fmt: skip
def test_what_is_not_understood_is_worth_a_look(payload: Any) -> None:
    assert said(payload).hint == "github webhook"


def test_a_pinned_commit_is_looked_at_whatever_was_pushed() -> None:
    assert said({"ref": "refs/heads/other"}, ref="a" * 40).hint


def test_a_form_is_read_too() -> None:
    given = {**GITHUB, "content-type": ["application/x-www-form-urlencoded"]}
    assert said(urlencode({"payload": json.dumps({"ref": MAIN})}).encode(), given=given).hint
    other = urlencode({"payload": json.dumps({"ref": "refs/heads/other"})}).encode()
    assert not said(other, given=given).hint
    assert said(b"payload=%7B%22ref&" + b"a=1&" * 1000, given=given).hint == "github webhook"


@pytest.mark.parametrize(
    ("given", "kind", "is_worth_it"),
    [
        (headers(X_GitHub_Event="ping"), HookKind.GITHUB, False),
        (headers(X_GitHub_Event="issues"), HookKind.GITHUB, False),
        (headers(X_GitHub_Event="create"), HookKind.GITHUB, True),
        (headers(X_Gitlab_Event="Tag Push Hook"), HookKind.GITLAB, True),
        (headers(X_Gitlab_Event="System Hook"), HookKind.GITLAB, True),
        (headers(X_Gitlab_Event="Note Hook"), HookKind.GITLAB, False),
        (headers(X_Gitea_Event="delete"), HookKind.GITEA, True),
        (headers(X_Gitea_Event="pull_request"), HookKind.GITEA, False),
        (headers(X_GitHub_Event="issues"), HookKind.GENERIC, True),
    ],
)
def test_events_that_change_no_ref_are_not(given: Headers, kind: HookKind, is_worth_it: bool) -> None:
    assert bool(heard(given, BODY, kind, MAIN).hint) is is_worth_it


def test_words_of_strangers_come_out_short_and_plain() -> None:
    hint = said({"repository": {"name": "\x1b[31m\u202e\ud800" + "x" * 9999}}).hint
    assert hint.isprintable()
    assert hint.isascii()
    assert len(hint) < 200
    assert said({"project": {"path_with_namespace": "team/x"}}).hint == "github webhook, team/x"


def test_a_reply_is_json_and_repeats_nothing() -> None:
    assert json.loads(Reply(202, "heard").body()) == {"status": "accepted", "detail": "heard"}
    assert json.loads(Reply(401, "no").body()) == {"status": "refused", "detail": "no"}


# --- the secret's file


def test_a_secret_is_the_line_without_its_end() -> None:
    for end in (b"", b"\n", b"\r\n"):
        assert webhook.secret(SECRET + end) == SECRET
        assert webhook.secret_trouble(SECRET + end) == ""
    key = hashlib.sha256(b"x").hexdigest().encode()
    assert webhook.secret_trouble(key) == ""


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"short", b"x" * 15 + b"\n", b"x" * 1025, b"two lines of it\nmore of it\n"]
)
def test_a_secret_that_is_none_is_refused(data: bytes) -> None:
    assert webhook.secret_trouble(data)
    assert data.decode().strip() == "" or data.decode().strip() not in webhook.secret_trouble(data)
