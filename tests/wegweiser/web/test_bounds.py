"""What one client may cost everybody, on the server process that production runs."""

import json
import socket
import threading
from collections.abc import Iterator

import psutil
import pytest
from daphne.http_protocol import HTTPFactory
from daphne.ws_protocol import WebSocketFactory
from django.conf import settings
from django.db import connection
from django.test import Client
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from tenants.models import Membership, User
from tests.support.web import Answer, Web, Wire
from wegweiser.quickstart.servers import Postgres
from wegweiser.web import http
from wegweiser.web.server import Server

LIMIT = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
HEALTH = b"/api/nats/health"
REGISTER = b"/api/nats/agent/register"


def post(path: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join([b"POST %s HTTP/1.1" % path, b"Host: 127.0.0.1", *headers, b"", b""])


def get(path: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join([b"GET %s HTTP/1.1" % path, b"Host: 127.0.0.1", *headers, b"", b""])


@pytest.fixture
def wire(web: Web) -> Iterator[Wire]:
    with Wire(web) as wire:
        yield wire


def assert_refused(wire: Wire, status: int, *words: str) -> Answer:
    answer = wire.answer()
    problem = json.loads(answer.body)
    assert answer.status == problem["status"] == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Request-ID"]
    assert all(word in problem["detail"] for word in words), problem
    assert wire.is_closed()
    return answer


@pytest.mark.parametrize("path", [REGISTER, b"/login/", b"/admin/", b"/nothing/", b"/ws/fleet/"])
def test_an_upload_that_says_it_is_too_large_is_refused_before_it_is_sent(
    wire: Wire, path: bytes
) -> None:
    named = (b"X-Request-ID: from-the-caller", b"Expect: 100-continue")
    wire.send(post(path, *named, b"Content-Length: 1000000000"))
    # Not one byte of the body was sent, and no "100 Continue" comes first.
    answer = assert_refused(wire, 413, "2,621,440 bytes")
    assert answer.headers["X-Request-ID"] == "from-the-caller"


def test_an_upload_in_chunks_is_refused_once_it_is_too_large(wire: Wire) -> None:
    wire.send(post(REGISTER, b"Transfer-Encoding: chunked"))
    chunk = b"%x\r\n" % 65_536 + b"x" * 65_536 + b"\r\n"
    for _ in range(LIMIT // 65_536 + 1):
        wire.send(chunk)
    assert_refused(wire, 413, "2,621,440 bytes")


def test_a_client_that_sends_on_reads_the_refusal_afterwards(wire: Wire) -> None:
    wire.send(post(REGISTER, b"Content-Length: %d" % (3 * LIMIT)))
    wire.send(b"x" * (3 * LIMIT))
    assert_refused(wire, 413)


def test_a_body_as_large_as_allowed_is_read(wire: Wire) -> None:
    body = b'{"x": "' + b"x" * (LIMIT - 9) + b'"}'
    wire.send(post(REGISTER, b"Content-Type: application/json", b"Content-Length: %d" % LIMIT))
    wire.send(body)
    assert wire.answer().status == 400


def test_a_body_in_chunks_is_read(wire: Wire) -> None:
    headers = (b"Content-Type: application/json", b"Transfer-Encoding: chunked")
    wire.send(post(REGISTER, *headers, b"Expect: 100-continue"))
    assert wire.socket.recv(64).startswith(b"HTTP/1.1 100 Continue")
    wire.send(b'2\r\n{"\r\n6\r\nx": 1}\r\n0\r\n\r\n')
    assert wire.answer().status == 400


def test_a_body_of_one_byte_in_each_chunk_is_refused(wire: Wire) -> None:
    wire.send(post(REGISTER, b"Transfer-Encoding: chunked"))
    wire.send_until_refused(b"1\r\nx\r\n" * 30_000)
    assert_refused(wire, 413)


@pytest.mark.parametrize("digits", [b"9" * 30, b"9" * 6000])
def test_a_length_beyond_all_reason_is_refused(wire: Wire, digits: bytes) -> None:
    wire.send(post(REGISTER, b"Content-Length: " + digits))
    assert_refused(wire, 413)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n",
        get(b"/", b"X: " + b"x" * 20_000),
        get(b"/", *[b"X-%d: %s" % (number, b"x" * 100) for number in range(200)]),
        b"x" * 100_000,
    ],
    ids=["address", "header", "headers", "no end of line"],
)
def test_an_address_or_headers_that_are_too_large_are_refused(wire: Wire, head: bytes) -> None:
    wire.send_until_refused(head)
    assert_refused(wire, 431, "16,384 bytes")


@pytest.mark.parametrize(
    "head",
    [
        b"nonsense\r\n\r\n",
        b"G\xc3\x84T / HTTP/1.1\r\n\r\n",
        get(b"/\xff"),
        b"GET / HTTP/3.7\r\n\r\n",
        post(b"/", b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        post(b"/", b"Content-Length: 5", b"Content-Length: 6"),
        post(b"/", b"Content-Length: -5"),
        get(b"/", b"no colon"),
        get(b"/", *[b"X-%d: x" % number for number in range(600)]),
        get(b"/", b"Bad\x01Name: x"),
    ],
)
def test_what_is_not_http_is_refused(wire: Wire, head: bytes) -> None:
    wire.send(head)
    assert_refused(wire, 400)


def test_what_is_not_http_leaves_no_traceback_in_the_log(web: Web) -> None:
    for text in (
        get(HEALTH, b"Daphne-Root-Path: \xff"),
        get(HEALTH, b"Upgrade: websocket", b"Connection: Upgrade"),
        get(HEALTH, b"Upgrade: websocket", b"Sec-WebSocket-Protocol: \xff"),
        get(b"/%ff%00", b"Cookie: sessionid=\xff"),
        get(b"/?%ff=%00&" + b"&" * 5000),
        post(b"/login/", b"Content-Type: multipart/form-data", b"Content-Length: 1") + b"x",
        post(b"/login/", b"Content-Type: multipart/form-data; boundary=x", b"Content-Length: 1")
        + b"x",
        post(b"/login/", b"Content-Length: 70") + b"x" * 30,
    ):
        with Wire(web) as wire:
            wire.send(text)
            wire.socket.shutdown(socket.SHUT_WR)
            assert wire.is_closed()
    assert "Traceback" not in web.log


def test_nobody_chooses_the_root_path_of_a_request(wire: Wire) -> None:
    wire.send(get(b"/", b"Daphne-Root-Path: /elsewhere"))
    assert wire.answer().headers["Location"] == "/login/?next=/"


class HalfClosing(StringTransport):
    def loseWriteConnection(self) -> None:  # noqa: N802 (Twisted's name)
        """Nothing of it is looked at here."""


SLOW = [
    (b"GET / HTTP/1.1\r\n", "HEAD_SECONDS"),
    (post(b"/", b"Content-Length: 500"), "BODY_SECONDS"),
]


@pytest.mark.parametrize(("head", "limit"), SLOW, ids=["headers", "body"])
def test_a_request_that_comes_byte_by_byte_is_refused_after_a_while(
    head: bytes, limit: str
) -> None:
    clock, transport = Clock(), HalfClosing()
    server = Server(None, host="127.0.0.1", port=1)
    server.connections = {}
    server.http_factory, server.ws_factory = HTTPFactory(server), WebSocketFactory(server)
    server.ready_callable()
    channel = server.http_factory.buildProtocol(None)
    channel.callLater = clock.callLater
    channel.makeConnection(transport)
    channel.dataReceived(head)
    for _ in range(getattr(http, limit) - 1):
        clock.advance(1)
        channel.dataReceived(b"x")
        assert transport.value() == b""
    clock.advance(1)
    assert transport.value().startswith(b"HTTP/1.1 408 ")


@pytest.mark.long
@pytest.mark.parametrize("head", [head for head, _ in SLOW], ids=["headers", "body"])
def test_a_slow_client_is_told_so(wire: Wire, head: bytes) -> None:
    wire.send(head)
    assert_refused(wire, 408)


def memory(web: Web) -> int:
    assert web.child is not None
    return int(psutil.Process(web.child.process.pid).memory_info().rss)


def ask_in_turn(web: Web, times: int) -> None:
    """A neighbour's requests, each of which has to be answered."""
    for _ in range(times):
        with Wire(web) as neighbour:
            neighbour.send(get(b"/login/"))
            assert neighbour.answer().status == 200


@pytest.mark.parametrize("header", [b"Content-Length: 1000000000", b"Transfer-Encoding: chunked"])
def test_an_upload_of_a_gigabyte_costs_neither_memory_nor_a_neighbour(
    web: Web, header: bytes
) -> None:
    ask_in_turn(web, 3)
    before = memory(web)
    megabyte = b"x" * 1_000_000
    piece = megabyte if b"Length" in header else b"f4240\r\n" + megabyte + b"\r\n"

    def upload(sent: list[bool]) -> None:
        with Wire(web) as wire:
            wire.send(post(b"/", header))
            sent.append(all(wire.send_until_refused(piece) for _ in range(1000)))

    sent: list[bool] = []
    attackers = [threading.Thread(target=upload, args=[sent]) for _ in range(3)]
    for attacker in attackers:
        attacker.start()
    ask_in_turn(web, 10)
    for attacker in attackers:
        attacker.join()
    assert sent == [False] * 3
    assert memory(web) - before < 100_000_000


def test_many_requests_in_one_connection_are_answered_one_by_one(web: Web, wire: Wire) -> None:
    threading.Thread(target=wire.send_until_refused, args=[get(HEALTH) * 2000]).start()
    ask_in_turn(web, 10)
    wire.socket.shutdown(socket.SHUT_RDWR)


def test_pipelined_requests_are_answered_in_their_order(wire: Wire) -> None:
    requests = [get(b"/login/"), get(b"/nothing/"), post(b"/", b"Content-Length: 9999999")]
    wire.send(b"".join(requests))
    heard = b""
    while piece := wire.socket.recv(65_536):
        heard += piece
    statuses = [line.split()[1] for line in heard.splitlines() if line.startswith(b"HTTP/1.1 ")]
    assert statuses == [b"200", b"404", b"413"]


def test_a_form_of_many_parts_is_refused(wire: Wire) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
    body = part * 30_000 + b"--x--\r\n"
    kind = b"Content-Type: multipart/form-data; boundary=x"
    cookie = b"Cookie: csrftoken=" + b"x" * 32
    wire.send(post(b"/login/", kind, cookie, b"Content-Length: %d" % len(body)) + body)
    assert wire.answer().status == 400


def test_an_answer_that_nobody_reads_is_not_kept_in_memory(
    transactional_db: None, web: Web, alice: User
) -> None:
    tenant = Membership.objects.get(user=alice).tenant_id
    rows = 20_000
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO tenants_auditentry (at, tenant_uuid, action, actor_kind, actor, actor_id,"
            " target, address, via, count, detail, seal)"
            " SELECT now(), %s, 'login', 'person', '', '', '', '', '', 1,"
            " jsonb_build_object('text', repeat('x', 6000)), '' FROM generate_series(1, %s)",
            [tenant, rows],
        )
    browser = Client()
    browser.force_login(alice)
    cookie = f"Cookie: sessionid={browser.cookies['sessionid'].value}".encode()
    ask_in_turn(web, 3)
    before = memory(web)
    with Wire(web) as wire:
        wire.send(get(b"/audit/export/?format=jsonl", cookie))
        assert wire.socket.recv(12) == b"HTTP/1.1 200"
        ask_in_turn(web, 100)
        assert memory(web) - before < 50_000_000
        heard = 0
        tail = b""
        while not tail.endswith(b"\r\n0\r\n\r\n"):
            piece = wire.socket.recv(1_000_000)
            heard += piece.count(b"\n")
            tail = (tail + piece)[-16:]
    assert heard >= rows


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: \xff[\r\n\r\n", 400),
        (post(b"/login/", b"Origin: http://evil.example", b"Content-Length: 0"), 403),
        (get(b"/login/", b'Cookie: sessionid="\\000aaaaaaaaaaaa"'), 200),
        (get(b"/login/?next=%00%ff"), 200),
        (get(b"/%2e%2e/%00"), 404),
        (get(b"/static/%00"), 404),
        (get(b"/api/nats/commands/x?limit=%00"), 404),
        (b"TRACE /login/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 405),
        (get(HEALTH, b"Accept: \xff/*;q=x", b"Authorization: Token \xff"), 406),
        (get(b"/api/nats/tenant/x", b"Authorization: Bearer \xff\xfe"), 404),
    ],
)
def test_a_request_that_makes_no_sense_is_answered_without_a_traceback(
    web: Web, wire: Wire, head: bytes, status: int
) -> None:
    before = len(web.log)
    wire.send(head)
    answer = wire.answer()
    assert "Traceback" not in web.log[before:]
    assert answer.status == status
    assert "Content-Security-Policy" in answer.headers


def test_a_page_that_is_not_ones_own_is_refused_without_a_traceback(
    transactional_db: None, web: Web, wire: Wire, bob: User
) -> None:
    browser = Client()
    browser.force_login(bob)
    before = len(web.log)
    cookie = f"Cookie: sessionid={browser.cookies['sessionid'].value}".encode()
    wire.send(get(b"/devices/add/", cookie))
    assert wire.answer().status == 403
    assert "Forbidden (Permission denied): /devices/add/" in web.log[before:]
    assert "Traceback" not in web.log[before:]


@pytest.mark.parametrize(("path", "status"), [(b"/devices/add/", 403), (b"/nothing/", 404)])
def test_a_page_of_an_error_needs_no_connection_from_before_a_restart_of_postgres(
    transactional_db: None,
    web: Web,
    bob: User,
    postgres_server: Postgres,
    path: bytes,
    status: int,
) -> None:
    browser = Client()
    browser.force_login(bob)
    cookie = f"Cookie: sessionid={browser.cookies['sessionid'].value}".encode()
    for restarts in (True, False):
        with Wire(web) as wire:
            wire.send(get(path, cookie))
            assert wire.answer().status == status
        if restarts:
            connection.close()
            postgres_server.stop()
            postgres_server.start()
