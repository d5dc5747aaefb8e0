"""The admin's pages of messages that could not be used, and of the subscribers."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from natsbridge.admin.base import SHOWN_CHARACTERS
from natsbridge.models import DeadLetter, SubscriberStatus
from natsbridge.protocol.hexdump import readable
from tenants.models import User

TABLE = DeadLetter._meta.db_table
MESSAGES = reverse("admin:natsbridge_deadletter_changelist")
SUBSCRIBERS = reverse("admin:natsbridge_subscriberstatus_changelist")


@pytest.fixture
def staff(client: Client, db: None) -> User:
    user = User.objects.create_superuser("sam")
    client.force_login(user)
    return user


def dead_letter(body: bytes = b"{}", reason: str = "malformed", subject: str = "tenant.x") -> str:
    """The address of the message's page."""
    message = DeadLetter.objects.create(
        received_at=timezone.now(), subject=subject, body=body, reason=reason, detail="why not"
    )
    return reverse("admin:natsbridge_deadletter_change", args=[message.pk])


def subscriber(name: str, *, silent_for: timedelta, connected: bool = True) -> None:
    now = timezone.now()
    SubscriberStatus.objects.create(
        instance=name, started_at=now, beat_at=now - silent_for, connected=connected
    )


def test_text_is_readable_as_it_is() -> None:
    assert readable('{"häme": 1}\n'.encode()) == '{"häme": 1}\n'


@pytest.mark.parametrize("body", [b"\xff\xfe", b"a\x00b", b"\x1b[31m"])
def test_what_is_not_text_is_shown_as_hex(body: bytes) -> None:
    assert readable(body) == body.hex(" ")


def test_long_hex_has_lines() -> None:
    assert readable(b"\xff" * 33).splitlines() == [" ".join(["ff"] * 32), "ff"]


def test_a_body_is_escaped(client: Client, staff: User) -> None:
    page = client.get(dead_letter(b"<script>alert(1)</script>")).content.decode()
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert(1)" not in page


def test_a_huge_body_is_cut(client: Client, staff: User) -> None:
    page = client.get(dead_letter(b"x" * 1_000_000)).content.decode()
    assert "Only the first 20,000 of 1,000,000 characters are shown." in page
    assert "x" * SHOWN_CHARACTERS in page
    assert "x" * (SHOWN_CHARACTERS + 1) not in page


def test_the_list_of_messages_is_filtered_and_searched(client: Client, staff: User) -> None:
    dead_letter(reason="malformed", subject="tenant.one")
    dead_letter(reason="unknown_device", subject="tenant.two")
    assert b"tenant.two" not in client.get(MESSAGES, {"reason": "malformed"}).content
    assert b"tenant.one" not in client.get(MESSAGES, {"q": "tenant.two"}).content


def test_the_list_of_messages_reads_no_bodies(client: Client, staff: User) -> None:
    for _ in range(3):
        dead_letter(b"BODY")
    with CaptureQueriesContext(
        connection,
    ) as queries:
        page = client.get(MESSAGES).content.decode()
    assert "4\xa0bytes" in page
    read = [query["sql"] for query in queries if TABLE in query["sql"]]
    assert read
    assert all('"body"' not in sql.replace(f'LENGTH("{TABLE}"."body")', "") for sql in read)


def test_messages_are_deleted_but_not_changed(client: Client, staff: User) -> None:
    address = dead_letter()
    assert client.post(address, {"reason": "other"}).status_code == 403
    client.post(address.replace("change", "delete"), {"post": "yes"})
    assert not DeadLetter.objects.exists()


def asked(reason: str) -> int:
    rows = DeadLetter.objects.filter(reason=reason)
    return rows.exclude(replay_requested_at=None).filter(replay_requested_by="sam").count()


def test_one_message_is_replayed_from_its_page_after_a_question(
    client: Client, staff: User
) -> None:
    address = dead_letter()
    assert b"replay" in client.get(address).content
    button = address.replace("change/", "replay")
    question = client.get(button, follow=True)
    assert b"Replay this dead letter?" in question.content
    assert asked("malformed") == 0, "asking is not doing"
    client.post(question.request["PATH_INFO"])
    assert asked("malformed") == 1
    assert b"Replay requested" in client.get(address).content


def test_all_messages_of_a_reason_are_replayed(client: Client, staff: User) -> None:
    addresses = [dead_letter(), dead_letter(), dead_letter(reason="other")]
    button = addresses[0].replace("change/", "replay_reason")
    client.post(client.get(button, follow=True).request["PATH_INFO"])
    assert (asked("malformed"), asked("other")) == (2, 0)


@pytest.mark.parametrize(
    ("action", "state", "asked_for"),
    [("replay_selected", "waiting", 2), ("discard_selected", "discarded", 0)],
)
def test_selected_messages_are_replayed_or_discarded(
    client: Client, staff: User, action: str, state: str, asked_for: int
) -> None:
    chosen = [dead_letter(), dead_letter()]
    dead_letter(reason="left alone")
    ids = [address.split("/")[-3] for address in chosen]
    client.post(MESSAGES, {"action": action, "_selected_action": ids})
    rows = DeadLetter.objects.filter(reason="malformed")
    assert set(rows.values_list("state", flat=True)) == {state}
    assert (asked("malformed"), asked("left alone")) == (asked_for, 0)


def test_who_may_only_look_cannot_replay(client: Client, db: None) -> None:
    user = User.objects.create_user("stella", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_deadletter"))
    client.force_login(user)
    address = dead_letter()
    assert client.get(address).status_code == 200
    button = address.replace("change/", "replay")
    assert client.post(button, follow=True).status_code == 403
    assert DeadLetter.objects.get().replay_requested_at is None


def test_a_subscriber_that_is_silent_is_called_so(client: Client, staff: User) -> None:
    subscriber("alpha", silent_for=timedelta(0))
    assert_states(client, present="Connected", absent=["Silent", "Disconnected"])
    SubscriberStatus.objects.update(connected=False)
    assert_states(client, present="Disconnected", absent=["Silent", "Connected"])
    SubscriberStatus.objects.update(beat_at=timezone.now() - timedelta(minutes=1))
    assert_states(client, present="Silent", absent=["Disconnected", "Connected"])


def assert_states(client: Client, *, present: str, absent: list[str]) -> None:
    words = client.get(SUBSCRIBERS).content.decode().split()
    assert present in words
    assert not set(absent) & set(words)


def test_nobody_changes_a_subscribers_status(client: Client, staff: User) -> None:
    subscriber("alpha", silent_for=timedelta(0))
    address = reverse("admin:natsbridge_subscriberstatus_change", args=["alpha"])
    assert client.get(address).status_code == 200
    assert client.post(address, {}).status_code == 403
    assert client.post(address.replace("change", "delete"), {"post": "yes"}).status_code == 403
