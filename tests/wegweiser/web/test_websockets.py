"""Live pages on the server process that production runs, and those who wish them ill."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.sync.client import ClientConnection, connect

from devices.live.consumers import TRY_AGAIN
from devices.models import Device
from devices.telemetry import ring_buffers
from devices.telemetry.ring_buffers import Point
from natsbridge.redis import client
from tenants.models import Membership, User
from tests.support.system import eventually
from tests.support.web import Web
from wegweiser.web.websocket import MAX_FRAME_BYTES

Dial = Callable[..., ClientConnection]
DEEP = "[" * 2000


@pytest.fixture
def dial(transactional_db: None, web: Web) -> Iterator[Dial]:
    """`dial(user, path) -> websocket`, from a page of our own origin unless told otherwise."""
    client(settings.REDIS_URL).flushall()
    with ExitStack() as opened:

        def dial(
            user: User | None, path: str = "/ws/fleet/", origin: str | None = None, **options: Any
        ) -> ClientConnection:
            headers = {}
            if user is not None:
                browser = Client()
                browser.force_login(user)
                headers["Cookie"] = f"sessionid={browser.cookies['sessionid'].value}"
            url = web.url.replace("http:", "ws:") + path
            # A dropped connection must not wait for an answer to its farewell.
            options = {"ping_interval": None, "close_timeout": 1, "compression": None} | options
            origin = origin or web.url
            return opened.enter_context(
                connect(url, origin=origin, additional_headers=headers, **options)
            )

        yield dial


def end_of(socket: ClientConnection) -> int | None:
    """The close code, whatever came before it."""
    try:
        while True:
            socket.recv(timeout=30)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else None


def opened(dial: Dial, user: User, device: Device) -> ClientConnection:
    """A live page with its first frame. As a browser does, it comes back where a server that the
    page needs took too long on a busy machine."""

    def open_once() -> ClientConnection | None:
        page = dial(user, f"/ws/devices/{device.pk}/")
        try:
            assert '"snapshot"' in page.recv(timeout=30)
        except ConnectionClosed as closed:
            if closed.rcvd is None or closed.rcvd.code != TRY_AGAIN:
                raise
            return None
        return page

    return eventually(open_once)


def is_alive(socket: ClientConnection) -> bool:
    return socket.ping().wait(timeout=30)


@contextmanager
def quiet_log(web: Web) -> Iterator[None]:
    before = len(web.log)
    yield
    assert "Traceback" not in web.log[before:]


def log_out(user: User) -> None:
    Session.objects.all().delete()


def let_expire(user: User) -> None:
    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))


def change_password(user: User) -> None:
    user.set_password("another-password")
    user.save()


def deactivate(user: User) -> None:
    User.objects.filter(pk=user.pk).update(is_active=False)


def take_membership(user: User) -> None:
    Membership.objects.filter(user=user).delete()


@pytest.mark.parametrize(
    ("loss", "code"),
    [
        (log_out, 4401),
        (let_expire, 4401),
        (change_password, 4401),
        (deactivate, 4401),
        (take_membership, 4404),
    ],
)
def test_a_live_page_ends_with_the_right_to_it(
    dial: Dial, alice: User, device_a: Device, loss: Callable[[User], None], code: int
) -> None:
    page = opened(dial, alice, device_a)
    loss(alice)
    assert end_of(page) == code


def test_a_fleet_page_outlives_a_membership_but_no_password(
    dial: Dial, alice: User, bob: User
) -> None:
    of_alice, of_bob = dial(alice), dial(bob)
    for page in (of_alice, of_bob):
        page.recv(timeout=30)
    change_password(alice)
    assert end_of(of_alice) == 4401
    assert is_alive(of_bob)


@pytest.mark.parametrize(
    "frame",
    [
        Frame(Opcode.TEXT, b"x" * 30),
        Frame(Opcode.TEXT, b""),
        Frame(Opcode.TEXT, DEEP.encode()),
        Frame(Opcode.TEXT, b'{"type": "snapshot"}'),
        Frame(Opcode.PING, b"x"),
        Frame(Opcode.PONG, b"x"),
    ],
    ids=["text", "empty", "deep", "snapshots", "pings", "pongs"],
)
def test_frames_without_end_are_ended_by_policy(
    dial: Dial, web: Web, alice: User, bob: User, frame: Frame
) -> None:
    neighbour, page = dial(bob), dial(alice)
    for socket in (neighbour, page):
        socket.recv(timeout=30)
    many = frame.serialize(mask=True) * 2000
    with quiet_log(web):
        threading.Thread(target=send_for_a_while, args=[page, many]).start()
        assert end_of(page) == 1008
        assert is_alive(neighbour)


def send_for_a_while(socket: ClientConnection, data: bytes) -> None:
    try:
        for _ in range(500):
            socket.socket.sendall(data)
    except OSError:
        pass


def test_fragments_without_end_are_ended_too(dial: Dial, alice: User) -> None:
    page = dial(alice)
    page.recv(timeout=30)
    first = Frame(Opcode.TEXT, b"x", fin=False).serialize(mask=True)
    more = Frame(Opcode.CONT, b"x", fin=False).serialize(mask=True)
    page.socket.sendall(first + more * 100)
    assert end_of(page) == 1008


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([Frame(Opcode.BINARY, b"\x00\xff")], 4415),
        ([Frame(Opcode.BINARY, b"")], 4415),
        ([Frame(Opcode.TEXT, b"\xff\xfe")], 1007),
        ([Frame(Opcode.TEXT, b"x" * 5000)], 1009),
        ([Frame(Opcode.TEXT, b"x" * 3000, fin=False), Frame(Opcode.CONT, b"x" * 3000)], 1009),
        ([Frame(Opcode.CONT, b"x")], 1002),
    ],
)
def test_a_frame_that_makes_no_sense_ends_its_page_alone(
    dial: Dial, web: Web, alice: User, frames: list[Frame], code: int
) -> None:
    neighbour, page = dial(alice), dial(alice)
    page.recv(timeout=30)
    with quiet_log(web):
        page.socket.sendall(b"".join(frame.serialize(mask=True) for frame in frames))
        assert end_of(page) == code
        assert is_alive(neighbour)


@pytest.mark.parametrize("text", ["", DEEP, "{", "null", "[1]", '"\\u0000"', '{"type": []}'])
def test_a_frame_that_asks_for_nothing_is_ignored(
    dial: Dial, web: Web, alice: User, text: str
) -> None:
    page = dial(alice)
    page.recv(timeout=30)
    with quiet_log(web):
        page.send(text)
        page.send('{"type": "snapshot"}')
        assert '"snapshot"' in page.recv(timeout=30)


def test_a_page_gets_all_of_a_long_history_though_it_may_send_little(
    dial: Dial, web: Web, alice: User, device_a: Device
) -> None:
    points = [Point(1_700_000_000_000 + second, second / 7) for second in range(300)]
    ring_buffers.append({(device_a.pk, "cpu_percent"): points})
    page = dial(alice, f"/ws/devices/{device_a.pk}/", max_size=None)
    with quiet_log(web):
        snapshot = page.recv(timeout=30)
        assert len(snapshot) > 4 * MAX_FRAME_BYTES
        page.send("x" * (MAX_FRAME_BYTES + 1))
        assert end_of(page) == 1009


@pytest.mark.parametrize(
    "path", ["/", "/ws/", "/ws/nothing/", "/ws/devices/x/", "/ws/fleet", "/login/", "/%00%ff"]
)
def test_a_websocket_to_nowhere_is_refused(dial: Dial, web: Web, alice: User, path: str) -> None:
    with quiet_log(web), pytest.raises(InvalidStatus) as refused:
        dial(alice, path)
    assert refused.value.response.status_code == 403
    headers = refused.value.response.headers
    assert headers["Content-Type"] == "application/problem+json"
    assert "default-src 'none'" in headers["Content-Security-Policy"]


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://[", "\xff"])
def test_a_websocket_of_a_foreign_page_is_refused(
    dial: Dial, web: Web, alice: User, origin: str
) -> None:
    with quiet_log(web), pytest.raises(InvalidStatus) as refused:
        dial(alice, origin=origin)
    assert refused.value.response.status_code in (400, 403)


def test_one_person_has_so_many_live_pages_and_no_more(dial: Dial, alice: User, bob: User) -> None:
    pages = [dial(alice) for _ in range(settings.LIVE_PAGES_PER_PERSON)]
    for page in pages:
        page.recv(timeout=30)
    assert end_of(dial(alice)) == 4429
    assert is_alive(pages[0])
    dial(bob).recv(timeout=30)
    pages.pop().close()

    def there_is_room() -> bool:
        another = dial(alice)
        try:
            return '"snapshot"' in another.recv(timeout=30)
        except ConnectionClosed:
            return False

    eventually(there_is_room)


def test_somebody_else_has_no_page_of_the_device(
    dial: Dial, charlie: User, device_a: Device
) -> None:
    assert end_of(dial(charlie, f"/ws/devices/{device_a.pk}/")) == 4404
    assert end_of(dial(None, f"/ws/devices/{device_a.pk}/")) == 4401
