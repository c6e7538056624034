"""Connections that send messages: a real mail server, a webhook, and no secret in what they say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters import apprise, mail
from adapters.apprise import secrets_of, without
from pipelines.errors import Invalid, Unavailable
from pipelines.messages import Message
from pipelines.scope import Scope
from pipelines.secrets import Secret
from tests.parts.shop_api import Shop, answer, serving
from tests.parts.smtp import SECRET, USER, Server
from tests.transforms.test_notify import mailed, said, settings

CANARY = "canary-4711-token"


def test_a_server_that_wants_a_password_gets_it_and_a_wrong_one_is_told_without_it(
    smtp: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(smtp.folder / "ca.pem"))
    monkeypatch.setenv("WRONG", CANARY)
    secure = settings(smtp, tmp_path, host="localhost", port=smtp.secure_port, tls="starttls", user=USER)
    right = mail.Connection.model_validate({**secure, "password": Secret(secret=SECRET)})
    wrong = mail.Connection.model_validate({**secure, "password": Secret(secret="WRONG")})
    scope = Scope(tmp_path)

    right.send(Message("it's done", "all of it", ("secure@example.org",)), scope)

    assert said(mailed(smtp, tmp_path, "secure@example.org")[0]).strip() == "all of it"
    assert right.test(scope).startswith(f"a mail server at localhost:{smtp.secure_port} that answers 250")
    with pytest.raises(Invalid, match="check `user` and `password`"):
        wrong.test(scope)
    with pytest.raises((Invalid, Unavailable)) as raised:
        wrong.send(Message("x", "y", ("secure@example.org",)), scope)
    assert CANARY not in str(raised.value)
    assert "535" in str(raised.value)


def test_a_server_that_is_away_is_unavailable(tmp_path: Path) -> None:
    away = mail.Connection(adapter="mail", host="127.0.0.1", port=1, tls="none", sender="a@example.org")

    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1: "):
        away.test(Scope(tmp_path))
    with pytest.raises(Unavailable, match="refused"):
        away.send(Message("x", "y", ("b@example.org",)), Scope(tmp_path))


@pytest.fixture
def shop() -> Iterator[Shop]:
    with serving(0) as found:
        yield found


def test_a_webhook_is_called_and_its_refusals_name_no_token(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setenv("HOOK", f"json://user:{CANARY}@{shop.url.removeprefix('http://')}/hook/{CANARY}")
    hook = apprise.Connection(adapter="apprise", url=Secret(secret="HOOK"))
    scope, message = Scope(tmp_path), Message("3 orders", "were refused")
    path = f"/hook/{CANARY}"
    shop.script(path, answer(200, "{}"), answer(403, "{}"), answer(500, "{}"))

    hook.send(message, scope)
    with pytest.raises(Invalid) as refused:
        hook.send(message, scope)
    with pytest.raises(Unavailable) as failed:
        hook.send(message, scope)

    body = json.loads(shop.asked(path)[0].body)
    assert (body["title"], body["message"]) == ("3 orders", "were refused")
    assert "403" in str(refused.value)
    assert CANARY not in f"{refused.value} {failed.value} {caplog.text}"
    assert "nothing was sent" in hook.test(scope)
    with pytest.raises(Invalid, match="no address that Apprise knows"):
        apprise.Connection(adapter="apprise", url="nowhere").test(scope)


def test_no_part_of_an_address_that_may_be_secret_is_told() -> None:
    address = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#ops?token=s%40crET99"
    text = f"failed {address}: /services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ s@crET99 s%40crET99"

    told = without(secrets_of(address), text)

    assert not any(part in told for part in ("T1JJ3T3L2", "A1BRTD4JD", "TIiajk", "crET99"))
