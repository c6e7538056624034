"""The connection on bad days: what is asked again, what ends the run, what is never sent elsewhere."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
import trustme
from pydantic import ValidationError

from adapters.http import Connection
from pipelines.environment import Environment
from pipelines.errors import Interrupted, Invalid, Unavailable
from tests.adapters.http.conftest import Desk
from tests.parts.shop_api import Fault, Shop, answer, broken_off, hang_up, serving, slowly

IDS = {"path": "/plain", "columns": {"id": "BIGINT"}}
GOOD = answer(200, '[{"id": 1}]')


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "s3cr3t/+key")


@pytest.mark.parametrize(
    "fault",
    [
        answer(500), answer(502), answer(503, retry_after="0"), answer(429, retry_after="0.01"), answer(408), hang_up,
        broken_off(b'[{"id": 1}'), answer(200, '[{"id": 1'), answer(200, "\x16not http", content_length="3"),
    ],
    ids=["500", "502", "503", "429", "408", "hung up", "broken off", "cut JSON", "no JSON"],
)  # fmt: skip
def test_what_may_pass_is_asked_again(fault: Fault, desk: Desk, shop: Shop) -> None:
    shop.script("/plain", fault, GOOD)

    assert desk.read(**IDS) == [{"id": 1}]


def test_what_goes_on_failing_is_unavailable_after_the_attempts_and_not_asked_for_again(desk: Desk, shop: Shop) -> None:
    shop.script("/plain", *[answer(503, '{"error": {"message": "closed for lunch"}}')] * 9)

    with pytest.raises(Unavailable, match="503 Service Unavailable: closed for lunch") as raised:
        desk.read(**IDS)

    assert raised.value.asked_again
    assert len(shop.asked("/plain")) == 3


def test_a_wait_that_the_answer_asks_for_holds_for_all_requests(desk: Desk, shop: Shop) -> None:
    shop.script("/orders/W1", answer(429, retry_after="1"))
    started = time.monotonic()

    desk.put(
        [{"order_no": f"W{number}", "total": 1.0} for number in range(40)], path="/orders/{order_no}", mode="upsert"
    )

    assert time.monotonic() - started >= 1.0
    assert len(shop.taken) == 40


def test_a_wait_longer_than_allowed_is_told_at_once(desk: Desk, shop: Shop) -> None:
    shop.script("/plain", answer(503, retry_after="86400"), GOOD)

    with pytest.raises(Unavailable, match="asks to wait 86400 s"):
        desk.read(**IDS)

    assert len(shop.seen) == 1


def test_a_slow_answer_ends_with_the_time_out(shop: Shop, tmp_path: Path) -> None:
    desk = Desk(tmp_path, shop.url, timeout_seconds=0.1, retry={"attempts": 1})
    shop.script("/plain", slowly(2))

    with pytest.raises(Unavailable, match=r"no whole answer within 0\.1 s"):
        desk.read(**IDS)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, "answered GET with 400"),
        (401, "check the connection's `auth`"),
        (403, "no entry"),
        (404, "correct the path"),
    ],
)
def test_what_is_to_be_edited_is_told_at_once(status: int, said: str, desk: Desk, shop: Shop) -> None:
    shop.script("/plain", answer(status, '{"detail": "no entry"}'), GOOD)

    with pytest.raises(Invalid, match=said):
        desk.read(**IDS)

    assert len(shop.seen) == 1


def test_an_answer_of_another_kind_is_told_with_its_beginning(desk: Desk, shop: Shop) -> None:
    shop.script("/plain", answer(200, "<html><h1>Log in</h1>", content_type="text/html"))

    with pytest.raises(Invalid, match=r"answered text/html where json is wanted: '<html><h1>Log in"):
        desk.read(**IDS)


def test_a_server_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be reached"):
        Desk(tmp_path, "http://127.0.0.1:1").read(**IDS)


def test_a_host_that_has_no_name_is_told(tmp_path: Path) -> None:
    with pytest.raises((Invalid, Unavailable), match=r"no host has this name|cannot be looked up"):
        Desk(tmp_path, "http://no-such-host.invalid").read(**IDS)


@pytest.mark.parametrize(
    ("auth", "headers", "query"),
    [
        ({"bearer": {"secret": "KEY"}}, {"authorization": "Bearer s3cr3t/+key"}, ""),
        (
            {"basic": {"user": "u", "password": {"secret": "KEY"}}},
            {"authorization": f"Basic {base64.b64encode(b'u:s3cr3t/+key').decode()}"},
            "",
        ),
        ({"api_key": {"header": "X-Key", "value": {"secret": "KEY"}, "prefix": "T "}}, {"x-key": "T s3cr3t/+key"}, ""),
        ({"api_key": {"query": "key", "value": {"secret": "KEY"}}}, {}, "key=s3cr3t/%2Bkey"),
        ("none", {}, ""),
    ],
    ids=["bearer", "basic", "header", "query", "none"],
)
def test_who_asks_is_in_every_request(
    auth: Any, headers: dict[str, str], query: str, shop: Shop, tmp_path: Path
) -> None:
    Desk(tmp_path, shop.url, auth=auth, headers={"X-Also": {"secret": "KEY"}, "X-Plain": "p"}).read(**IDS)

    assert shop.seen
    for seen in shop.seen:
        assert headers.items() | {("x-also", "s3cr3t/+key"), ("x-plain", "p")} <= dict(seen.headers).items()
        assert query in seen.query


def test_a_request_is_signed_over_what_is_sent(shop: Shop, tmp_path: Path) -> None:
    signed = {"secret": {"secret": "KEY"}, "timestamp_header": "X-Time", "prefix": "sha256=", "encoding": "base64"}
    desk = Desk(tmp_path, shop.url, auth={"hmac": signed})

    desk.put([{"order_no": "W1", "total": 1.5}], path="/orders")

    seen = shop.seen[0]
    over = f"POST\n/orders\n{seen.headers['x-time']}\n".encode() + seen.body
    digest = hmac.new(b"s3cr3t/+key", over, hashlib.sha256).digest()
    assert seen.headers["x-signature"] == f"sha256={base64.b64encode(digest).decode()}"


def token(text: str, seconds: float = 3600, **more: str) -> Fault:
    return answer(200, json.dumps({"access_token": text, "expires_in": seconds, **more}))


def oauth(shop: Shop, folder: Path, **more: Any) -> Desk:
    auth = {"oauth2": {"token_url": "/token", "client_id": "me", "client_secret": {"secret": "KEY"}, **more}}
    return Desk(folder, shop.url, auth=auth)


def test_a_token_is_fetched_once_and_renewed_before_it_expires(shop: Shop, tmp_path: Path) -> None:
    shop.script("/token", token("one", 0.6), token("two"))
    desk = oauth(shop, tmp_path, scope="orders", early_seconds=0.3)

    desk.read(**IDS)
    desk.read(**IDS)
    time.sleep(0.5)
    desk.read(**IDS)

    sent = [seen.headers["authorization"] for seen in shop.asked("/plain")]
    assert list(dict.fromkeys(sent)) == ["Bearer one", "Bearer two"]
    first = shop.asked("/token")[0]
    assert first.body == b"grant_type=client_credentials&scope=orders"
    assert first.headers["authorization"] == f"Basic {base64.b64encode(b'me:s3cr3t%2F%2Bkey').decode()}"
    assert len(shop.asked("/token")) == 2


def test_a_token_that_is_refused_is_renewed_once(shop: Shop, tmp_path: Path) -> None:
    shop.script("/token", token("one"), token("two"))
    desk = oauth(shop, tmp_path)
    desk.read(**IDS)
    time.sleep(1.1)
    shop.script("/plain", answer(401), GOOD)

    assert desk.read(**IDS) == [{"id": 1}]
    assert shop.seen[-1].headers["authorization"] == "Bearer two"


def test_a_refresh_token_that_is_exchanged_is_kept_where_it_came_from(shop: Shop, tmp_path: Path) -> None:
    folder = tmp_path / ".processflow" / "secrets"
    folder.mkdir(parents=True)
    (folder / "REFRESH").write_text("refresh-1\n")
    shop.script("/token", token("one", refresh_token="refresh-2"))

    oauth(shop, tmp_path, refresh_token={"secret": "REFRESH"}, send="body").read(**IDS)

    assert b"grant_type=refresh_token&refresh_token=refresh-1" in shop.asked("/token")[0].body
    assert b"client_secret=s3cr3t%2F%2Bkey" in shop.asked("/token")[0].body
    assert (folder / "REFRESH").read_text() == "refresh-2"


def test_a_token_that_is_not_given_is_told_without_the_secret(shop: Shop, tmp_path: Path) -> None:
    why = {"error": "invalid_client", "error_description": "no client has the secret s3cr3t/+key"}
    shop.script("/token", answer(401, json.dumps(why)))

    with pytest.raises(Invalid, match=r"no client has the secret \*\*\*"):
        oauth(shop, tmp_path).read(**IDS)


def test_a_redirect_is_followed_with_credentials_on_the_same_server_only(shop: Shop, tmp_path: Path) -> None:
    desk = Desk(tmp_path, shop.url, auth={"bearer": {"secret": "KEY"}}, headers={"X-Also": {"secret": "KEY"}})
    with serving(3) as other:
        shop.script("/plain", answer(302, location="/orders/1"), answer(302, location=f"{other.url}/plain"))

        desk.read(path="/plain", records="@", columns={"id": "BIGINT"})
        found = desk.read(**IDS)

        assert shop.asked("/orders/1")[0].headers["authorization"] == "Bearer s3cr3t/+key"
        assert [record["id"] for record in found] == [1, 2, 3]
        assert "s3cr3t" not in str(other.seen)


def test_a_next_address_on_another_server_gets_no_credentials(shop: Shop, tmp_path: Path) -> None:
    desk = Desk(tmp_path, shop.url, auth={"api_key": {"query": "key", "value": {"secret": "KEY"}}})
    with serving(3) as other:
        shop.script("/plain", answer(200, '[{"id": 9}]', link=f'<{other.url}/plain?page=2>; rel="next"'))

        found = desk.read(**IDS, paging={"by": "link"})

        assert [record["id"] for record in found] == [9, 1, 2, 3]
        assert [seen.query for seen in other.seen] == ["page=2"]


def test_records_are_not_sent_where_a_redirect_leads(desk: Desk, shop: Shop) -> None:
    with serving(3) as other:
        shop.script("/orders", answer(307, location=f"{other.url}/orders"))

        with pytest.raises(Interrupted, match="records are not sent elsewhere"):
            desk.put([{"order_no": "W1", "total": 1.0}], path="/orders")

        assert other.seen == []


def test_redirects_without_end_are_noticed(desk: Desk, shop: Shop) -> None:
    shop.script("/plain", *[answer(302, location="/plain")] * 99)

    with pytest.raises(Invalid, match="redirects again and again"):
        desk.read(**IDS)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "127.1"])
def test_a_private_address_is_refused_where_the_environment_says_so(host: str, shop: Shop, tmp_path: Path) -> None:
    port = shop.url.rpartition(":")[2]
    desk = Desk(tmp_path, f"http://{host}:{port}")
    environment = Environment(connections=desk.scope.environment.connections, private_addresses=False)
    desk.scope = desk.scope.__class__(**{**vars(desk.scope), "environment": environment})

    with pytest.raises(Invalid, match=r"no address of the public internet|is no address"):
        desk.read(**IDS)

    assert shop.seen == []


def test_the_networks_that_are_named_are_reached_even_so(shop: Shop, tmp_path: Path) -> None:
    desk = Desk(tmp_path, shop.url)
    environment = Environment(connections=desk.scope.environment.connections, private_addresses=["127.0.0.0/8"])
    desk.scope = desk.scope.__class__(**{**vars(desk.scope), "environment": environment})

    assert len(desk.read(**IDS)) == 10


def test_no_more_requests_are_under_way_than_allowed_whoever_asks(shop: Shop, tmp_path: Path) -> None:
    shop.slow_seconds = 0.01
    desk = Desk(tmp_path, shop.url, limit={"concurrent": 2})

    desk.put([{"order_no": f"W{number}", "total": 1.0} for number in range(20)], path="/orders")

    assert shop.most_under_way == 2


def test_no_more_requests_begin_in_a_second_than_allowed(shop: Shop, tmp_path: Path) -> None:
    desk = Desk(tmp_path, shop.url, limit={"per_second": 50, "concurrent": 20})
    started = time.monotonic()

    desk.put([{"order_no": f"W{number}", "total": 1.0} for number in range(26)], path="/orders")

    assert time.monotonic() - started >= 25 / 50


def test_an_own_authority_is_trusted_and_a_strange_one_is_not(tmp_path: Path) -> None:
    authority, strange = trustme.CA(), trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    strange.cert_pem.write_to_path(str(tmp_path / "strange.pem"))
    with serving(3, ssl_certfile=tmp_path / "server.pem", ssl_keyfile=tmp_path / "server.pem") as shop:
        assert len(Desk(tmp_path, shop.url, tls={"ca": "ca.pem"}).read(**IDS)) == 3

        with pytest.raises(Invalid, match="its certificate is not trusted"):
            Desk(tmp_path, shop.url, tls={"ca": "strange.pem"}).read(**IDS)


def test_a_client_s_certificate_is_shown(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    for name in ("server", "client"):
        pair = authority.issue_cert("127.0.0.1" if name == "server" else "me@example.org")
        pair.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / f"{name}.pem"))
    words = {"ssl_certfile": tmp_path / "server.pem", "ssl_keyfile": tmp_path / "server.pem"}
    with serving(3, **words, ssl_ca_certs=tmp_path / "ca.pem", ssl_cert_reqs=ssl.CERT_REQUIRED) as shop:
        assert len(Desk(tmp_path, shop.url, tls={"ca": "ca.pem", "certificate": "client.pem"}).read(**IDS)) == 3

        with pytest.raises((Invalid, Unavailable)):
            Desk(tmp_path, shop.url, tls={"ca": "ca.pem"}).read(**IDS)


def test_a_proxy_is_asked_in_place_of_the_server(shop: Shop, tmp_path: Path) -> None:
    proxy = {"url": shop.url, "user": "p", "password": {"secret": "KEY"}}
    desk = Desk(tmp_path, "http://api.invalid", proxy=proxy)
    shop.script("http://api.invalid/plain", GOOD)

    assert desk.read(**IDS) == [{"id": 1}]
    expected = f"Basic {base64.b64encode(b'p:s3cr3t/+key').decode()}"
    assert shop.seen[0].headers["proxy-authorization"] == expected


def test_a_connection_is_tested_with_a_sentence(shop: Shop, tmp_path: Path) -> None:
    desk = Desk(tmp_path, shop.url, test_path="/plain")
    connection = desk.scope.connection("shop", Connection)

    assert "/plain answered 200 in" in connection.test(desk.scope)
    shop.script("/plain", answer(401, '{"detail": "who?"}'))
    with pytest.raises(Invalid, match="who\\?; check the connection's `auth`"):
        connection.test(desk.scope)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"url": "erp.example.org"}, "no address of a server"),
        ({"url": "https://u:p@host"}, "holds a user or password"),
        ({"url": "https://host?a=1"}, "ends before"),
        ({"auth": {}}, "one of basic, bearer"),
        ({"auth": {"api_key": {"value": {"secret": "K"}}}}, "name one of them"),
    ],
)
def test_what_a_connection_cannot_be_is_told(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Connection.model_validate_json(json.dumps({"adapter": "http", "url": "https://host", **settings}))
