"""The audit: sealed, verified, pruned, and silent about secrets."""

import io
import json
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import ProgrammingError, connection, transaction
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone
from pytest_django.fixtures import Settings

from devices.commands import issue as commands
from devices.inventory.details import move_device
from devices.models import Device
from tenants.actions import sign_ins
from tenants.actions.keys import create_api_token, create_enrollment_key, revoke_enrollment_key
from tenants.actions.people import change_person, set_membership
from tenants.actions.sign_ins import record_failed_login
from tenants.actions.tenants import create_group, create_tenant, rename
from tenants.audit import sealing
from tenants.audit.rules.coalescer import KINDS_OF_EACH, WINDOW_SECONDS, Coalescer
from tenants.audit.writer import Actor, AuditEvent, prune_audit, record_events
from tenants.middleware import OriginMiddleware, address_of
from tenants.models import Action, ActorKind, AuditAnchor, AuditEntry, Group, Role, Tenant, User
from tenants.origin import Origin, acting, current_origin
from tests.support.system import System, eventually
from tests.support.waiting import SAFETY_NET

PLATFORM = Actor(ActorKind.PLATFORM, "")
# What a database might give back otherwise than it got it.
AWKWARD: dict[str, Any] = {
    "float": 0.1,
    "round": 1.0,
    "tiny": 1e-300,
    "big": 2**200,
    "text": 'ü\u2028"\\ 🦊',
    "nested": {"b": [None, True], "a": {}},
}


@pytest.fixture(autouse=True)
def anchors_file(tmp_path: Path, settings: Settings) -> Path:
    settings.AUDIT_ANCHORS_FILE = tmp_path / "anchors.jsonl"
    return tmp_path / "anchors.jsonl"


def happened(number: int, *, days_ago: float = 0, **detail: Any) -> None:
    at = timezone.now() - timedelta(days=days_ago)
    record_events(
        AuditEvent(Action.TENANT_CHANGED, None, PLATFORM, target=f"{n}", at=at, detail=detail)
        for n in range(number)
    )


def seal() -> None:
    while sealing.seal_batch():
        pass


def problems(*arguments: str) -> list[str]:
    """What `verify_audit` names."""
    out = io.StringIO()
    try:
        call_command("verify_audit", *arguments, stdout=out, stderr=io.StringIO())
    except CommandError:
        assert out.getvalue()
    else:
        assert not out.getvalue()
    return out.getvalue().splitlines()


def sql(statement: str, *arguments: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, arguments)


@pytest.fixture
def sealed(db: None) -> list[AuditEntry]:
    """Five rows in the chain, and one anchor of its head."""
    happened(5, **AWKWARD)
    seal()
    sealing.anchor_head(at_once=True)
    return list(AuditEntry.objects.order_by("sequence"))


def test_rows_are_chained_in_batches_and_the_chain_holds(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "BATCH_ROWS", 3)
    happened(7, **AWKWARD)
    seal()
    sequences = list(AuditEntry.objects.order_by("id").values_list("sequence", flat=True))
    assert sequences == [1, 2, 3, 4, 5, 6, 7]
    assert problems() == []


@pytest.mark.parametrize(
    "change",
    [
        "target = 'x'",
        "at = at + interval '1 microsecond'",
        "count = 2",
        "actor_id = '1'",
        "tenant_uuid = gen_random_uuid()",
        "address = ' '",
        "detail = jsonb_set(detail, '{big}', (detail->'big')::numeric::text::jsonb)"
        " || '{\"float\": 0.10}'",
        "seal = reverse(seal)",
        "at = 'infinity'",
    ],
)
def test_a_changed_row_is_named_and_no_other(sealed: list[AuditEntry], change: str) -> None:
    row = sealed[2]
    sql(f"UPDATE tenants_auditentry SET {change} WHERE id = %s", row.pk)  # noqa: S608
    (named,) = problems()
    assert named.startswith(f"sequence 3, id {row.pk}, tenant.changed: changed")


def test_a_removed_row_is_named(sealed: list[AuditEntry]) -> None:
    sealed[2].delete()
    missing, unsure = problems()
    assert missing == "sequence 3: missing, 1 row"
    assert unsure.startswith("sequence 4,")


def test_rows_that_changed_places_are_named(sealed: list[AuditEntry]) -> None:
    sql(
        "UPDATE tenants_auditentry AS one SET target = other.target FROM tenants_auditentry other "
        "WHERE one.sequence + other.sequence = 5 AND one.sequence IN (2, 3)"
    )
    assert [name.split(",")[0] for name in problems()] == ["sequence 2", "sequence 3"]


@pytest.mark.parametrize("sequence", [6, 0, -7])
def test_a_row_with_a_made_up_seal_is_named(sealed: list[AuditEntry], sequence: int) -> None:
    AuditEntry.objects.create(action="x", actor_kind="person", sequence=sequence, seal="f" * 64)
    assert [name.split(",")[0] for name in problems()] == [f"sequence {sequence}"]


@pytest.mark.parametrize("continued", [False, True])
def test_a_cut_tail_shows_by_the_tables_anchor(sealed: list[AuditEntry], continued: bool) -> None:
    AuditEntry.objects.filter(sequence__gt=3).delete()
    if continued:
        happened(1)
        seal()
    (named,) = problems()
    assert named.startswith("sequence 4: missing")


@pytest.mark.parametrize("continued", [False, True])
def test_a_cut_tail_shows_by_the_file_when_the_tables_anchors_are_cut_too(
    sealed: list[AuditEntry], continued: bool
) -> None:
    AuditEntry.objects.filter(sequence__gt=3).delete()
    AuditAnchor.objects.all().delete()
    if continued:
        happened(4)
        seal()
    removed, tail = problems()
    assert removed == "sequence 5: the head anchor is in the file but not in the table"
    assert "anchor recorded" in tail


def test_an_empty_table_is_not_a_clean_one(sealed: list[AuditEntry]) -> None:
    AuditEntry.objects.all().delete()
    AuditAnchor.objects.all().delete()
    assert "sequence 1: missing from the end, 5 rows, up to sequence 5: an anchor recorded it" in (
        problems()
    )


def test_a_forged_anchor_is_named_and_misleads_nobody(
    sealed: list[AuditEntry], anchors_file: Path
) -> None:
    AuditAnchor.objects.create(kind="pruned", sequence=10**9, seal="0" * 64, mac="0" * 64)
    with anchors_file.open("a") as file:
        file.write("rubbish")
    happened(1)
    seal()
    assert AuditEntry.objects.order_by("-sequence")[0].sequence == 6
    broken, forged = problems()
    assert "line 2: not an anchor" in broken
    assert forged == "sequence 1000000000: table: the pruned anchor is forged"
    # What comes after half a line is on a line of its own.
    sealing.anchor_head(at_once=True)
    assert json.loads(anchors_file.read_text().splitlines()[2])["sequence"] == 6


def test_pruning_is_legitimate_and_takes_only_what_is_old(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "BATCH_ROWS", 4)
    happened(10, days_ago=400)
    happened(3, days_ago=1)
    happened(1, days_ago=400)
    seal()
    sealing.anchor_head(at_once=True)
    assert sum(prune_audit(timezone.now() - timedelta(days=365))) == 10
    seal()
    assert problems() == []
    told = AuditEntry.objects.get(action=Action.AUDIT_PRUNED)
    assert (told.sequence, told.detail["rows"]) == (15, 10)
    AuditEntry.objects.filter(sequence=11).delete()
    assert problems()[0] == "sequence 11: missing, 1 row"


def test_a_chain_of_which_all_was_pruned_goes_on(db: None) -> None:
    happened(2, days_ago=2)
    seal()
    list(prune_audit(timezone.now() - timedelta(days=1)))
    seal()
    assert list(AuditEntry.objects.values_list("sequence", flat=True)) == [3]
    assert problems() == []


def test_rows_removed_by_hand_are_not_taken_for_pruned(sealed: list[AuditEntry]) -> None:
    AuditEntry.objects.filter(sequence__lte=2).delete()
    assert problems()[0] == "sequence 1: missing, 2 rows, up to sequence 2"


def test_verification_may_begin_further_on(sealed: list[AuditEntry]) -> None:
    sql("UPDATE tenants_auditentry SET target = 'x' WHERE sequence = 2")
    assert len(problems()) == 1
    assert problems("--from", "4") == []


def test_a_clean_audit_is_called_so(
    sealed: list[AuditEntry], capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("verify_audit")
    assert "The audit is as it was written." in capsys.readouterr().err


@pytest.mark.parametrize("start", ["99999", "6", "0", "-5", "x", str(2**70)])
def test_verification_begins_nowhere_else(sealed: list[AuditEntry], start: str) -> None:
    with pytest.raises(CommandError, match=r"sequence"):
        call_command("verify_audit", f"--from={start}", stdout=io.StringIO())


@pytest.mark.parametrize("forged", [[2**63 - 1], [6, 7, 9], [2**63 - 1, 2**62, 6]])
def test_a_row_put_far_ahead_stops_no_sealing_and_is_named(
    sealed: list[AuditEntry], forged: list[int]
) -> None:
    for sequence in forged:
        AuditEntry.objects.create(action="x", sequence=sequence, seal="0" * 64)
    for _ in range(3):
        happened(2)
        seal()
        sealing.anchor_head(at_once=True)
    assert not AuditEntry.objects.filter(sequence=None).exists()
    ours = AuditEntry.objects.exclude(action="x").order_by("sequence")
    numbers = (number for number in range(1, 100) if number not in forged)
    assert [row.sequence for row in ours] == [next(numbers) for _ in range(11)]
    named = [line for line in problems() if ", x: " in line]
    assert [f"sequence {sequence}," in " ".join(named) for sequence in forged] == [True] * len(
        forged
    )
    assert len(named) == len(forged)


def test_an_error_while_the_audit_is_held_still_lets_sealing_go_on(db: None) -> None:
    with pytest.raises(ProgrammingError), transaction.atomic(), sealing.holding_still():
        sql("SELECT no_such_column")
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
    with connection.cursor() as cursor:
        cursor.execute(held)
        assert cursor.fetchone() == (0,)


def test_rows_that_nobody_seals_are_a_problem(db: None) -> None:
    happened(1, days_ago=1)
    happened(1)
    (named,) = problems()
    assert "not sealed since" in named


def test_an_anchor_is_due_after_a_minute_or_a_thousand_rows(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def anchors() -> int:
        seal()
        sealing.anchor_head()
        return AuditAnchor.objects.count()

    happened(1)
    assert anchors() == 1
    happened(1)
    assert anchors() == 1
    monkeypatch.setattr(sealing, "ANCHOR_AFTER", timedelta())
    assert anchors() == 2
    assert anchors() == 2
    monkeypatch.undo()
    monkeypatch.setattr(sealing, "ANCHOR_ROWS", 2)
    happened(2)
    assert anchors() == 3


def test_a_file_that_cannot_be_written_is_said_and_stops_nothing(
    db: None, settings: Settings, tmp_path: Path
) -> None:
    settings.AUDIT_ANCHORS_FILE = tmp_path / "missing" / "anchors.jsonl"
    happened(1)
    seal()
    assert "No such file" in (sealing.anchor_head() or "")
    assert AuditAnchor.objects.count() == 1
    assert problems() == []


def test_a_fresh_installation_without_any_anchor_passes_and_says_so(db: None) -> None:
    said = io.StringIO()
    call_command("verify_audit", stdout=io.StringIO(), stderr=said)
    assert "There is no anchor yet, neither in the database nor in" in said.getvalue()


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (lambda path: path.write_text(""), "was emptied: 3 anchors"),
        (lambda path: path.unlink(), "is gone: 3 anchors"),
        (lambda path: _keep_lines(path, 1), "was cut or replaced: 2 anchors"),
        (lambda path: _keep_lines(path, 3, start=1), "was cut or replaced: 1 anchors"),
        (lambda path: path.write_text("\n"), "was cut or replaced: 3 anchors"),
    ],
)
def test_a_file_of_anchors_that_was_emptied_cut_or_taken_away_shows(
    sealed: list[AuditEntry], anchors_file: Path, harm: Callable[[Path], object], named: str
) -> None:
    for _ in range(2):
        happened(1)
        seal()
        sealing.anchor_head(at_once=True)
    assert problems() == []
    harm(anchors_file)
    assert any(f"{anchors_file} {named}" in problem for problem in problems())
    # That the next anchor stands there again undoes nothing.
    happened(1)
    seal()
    sealing.anchor_head(at_once=True)
    assert any("was cut or replaced" in problem for problem in problems())


def test_anchors_that_another_computer_wrote_are_looked_for_in_its_file(
    sealed: list[AuditEntry], anchors_file: Path, settings: Settings, tmp_path: Path
) -> None:
    settings.AUDIT_ANCHORS_FILE = tmp_path / "other.jsonl"
    assert "other.jsonl is gone: 1 anchors" in problems()[0]
    assert problems("--anchors", str(anchors_file)) == []
    with pytest.raises(CommandError, match="Cannot read the anchors"):
        call_command("verify_audit", "--anchors", str(tmp_path / "none"))


def test_anchors_removed_from_table_and_file_alike_show_once_rows_are_old(
    sealed: list[AuditEntry], anchors_file: Path
) -> None:
    happened(1, days_ago=1)
    seal()
    AuditAnchor.objects.all().delete()
    anchors_file.unlink()
    assert problems() == [
        "no anchor is left, neither in the table nor in the file: they were removed"
    ]


def _keep_lines(path: Path, end: int, *, start: int = 0) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[start:end]))


def test_a_running_subscriber_seals_at_once_and_anchors_when_it_stops(
    system: System, anchors_file: Path
) -> None:
    happened(1)
    system.start_subscriber()
    system.start_subscriber()
    eventually(AuditEntry.objects.exclude(sequence=None).exists)
    happened(1500)
    eventually(lambda: not AuditEntry.objects.filter(sequence=None).exists())
    system.stop_subscriber()
    assert problems() == []
    newest = json.loads(anchors_file.read_text().splitlines()[-1])
    assert newest["sequence"] == AuditEntry.objects.count()


def recorded(action: Action) -> AuditEntry:
    return AuditEntry.objects.filter(action=action).latest("id")


def test_what_admins_do_is_told_with_what_it_was_before(
    alice: User, bob: User, tenant_a: Tenant, group_a: Group, device_a: Device
) -> None:
    set_membership(bob, tenant_a, Role.OPERATOR, by=alice)
    entry = recorded(Action.MEMBERSHIP_SET)
    assert (entry.actor, entry.actor_id, entry.target) == ("alice", str(alice.pk), "person bob")
    assert (entry.tenant_uuid, entry.actor_kind) == (tenant_a.pk, ActorKind.PERSON)
    assert entry.detail == {"role": {"from": "viewer", "to": "operator"}}
    rename(group_a, name="Desks", by=alice)
    assert recorded(Action.PLACE_RENAMED).detail["name"] == {"from": "Laptops", "to": "Desks"}
    there = create_group(group_a.organisation, name="There", by=alice)
    move_device(device_a, there, by=alice)
    assert recorded(Action.DEVICE_MOVED).detail["group"] == {"from": "Desks", "to": "There"}
    assert recorded(Action.DEVICE_MOVED).device_uuid == device_a.pk
    assert recorded(Action.DEVICE_REGISTERED).actor_kind == ActorKind.DEVICE


def test_what_changes_nothing_is_not_told(alice: User, tenant_a: Tenant, device_a: Device) -> None:
    before = AuditEntry.objects.count()
    set_membership(alice, tenant_a, Role.ADMIN, by=alice)
    rename(tenant_a, name=tenant_a.name, by=alice)
    move_device(device_a, device_a.group, by=alice)
    assert AuditEntry.objects.count() == before


def test_no_secret_is_told(alice: User, group_a: Group, device_a: Device) -> None:
    _, token = create_api_token(alice, name="cron", role=Role.VIEWER, expires_at=None)
    key, plain = create_enrollment_key(group_a, name="June", created_by=alice)
    revoke_enrollment_key(key, by=alice)
    alice.set_password("correct-horse-9")
    change_person(alice, by=alice)
    commands.issue(device_a, "login", {"password": "hunter2"}, by=alice)
    everything = json.dumps(list(AuditEntry.objects.values()), default=str)
    assert recorded(Action.PERSON_CHANGED).detail == {"password": "changed"}
    assert {Action.API_TOKEN_CREATED, Action.ENROLMENT_KEY_REVOKED, Action.COMMAND_ISSUED} <= set(
        AuditEntry.objects.values_list("action", flat=True)
    )
    for secret in (token, token[:12], plain, "correct-horse-9", "hunter2", "argon2"):
        assert secret not in everything


def test_the_admins_pages_of_people_tell_who_did_it(client: Client, bob: User) -> None:
    sam = User.objects.create_superuser("sam", password="old-secret-7")
    client.force_login(sam)
    page = reverse("admin:tenants_user_change", args=[bob.pk])
    form = {"username": "bob", "is_staff": "on", "is_active": "on", **_NO_MEMBERSHIPS}
    assert client.post(page, form).status_code == 302
    entry = recorded(Action.PERSON_CHANGED)
    assert (entry.actor, entry.via, entry.address) == ("sam", "admin", "127.0.0.1")
    assert entry.detail == {"is_staff": {"from": False, "to": True}}

    passwords = {"password1": "correct-horse-9", "password2": "correct-horse-9"}
    change = reverse("admin:auth_user_password_change", args=[bob.pk])
    assert client.post(change, passwords).status_code == 302
    assert User.objects.get(pk=bob.pk).check_password("correct-horse-9")
    entry = recorded(Action.PERSON_CHANGED)
    assert (entry.actor, entry.target) == ("sam", "person bob")
    assert entry.detail == {"password": "changed"}

    own_page = reverse("account-password")
    assert client.get(reverse("admin:password_change")).headers["Location"] == own_page
    own = {
        "old_password": "old-secret-7",
        "new_password1": "correct-horse-8",
        "new_password2": "correct-horse-8",
    }
    assert client.get(own_page).status_code == 200
    assert client.post(own_page, own).status_code == 302
    assert recorded(Action.PERSON_CHANGED).target == "person sam"

    client.post(reverse("admin:tenants_user_delete", args=[bob.pk]), {"post": "yes"})
    assert recorded(Action.PERSON_DELETED).target == "person bob"
    assert recorded(Action.MEMBERSHIP_REMOVED).actor == "sam"


_NO_MEMBERSHIPS = {
    f"memberships-{name}_FORMS": number
    for name, number in {"TOTAL": 0, "INITIAL": 0, "MIN_NUM": 0, "MAX_NUM": 1000}.items()
}


def test_logins_are_recorded_but_no_password_and_no_word_that_is_not_a_name(
    client: Client, alice: User, settings: Settings
) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.AXES_FAILURE_LIMIT = 2
    alice.set_password("right")
    alice.save()
    login = reverse("login")
    for name in ("alice", "my-secret-password"):
        for _ in range(3):
            client.post(login, {"username": name, "password": "guess"}, REMOTE_ADDR="203.0.113.9")
    failed = AuditEntry.objects.filter(action=Action.PERSON_LOGIN_FAILED)
    assert {(each.target, each.detail["locked_out"]) for each in failed} == {
        *(("person alice", locked_out) for locked_out in (False, True)),
        *(("", locked_out) for locked_out in (False, True)),
    }
    assert {each.address for each in failed} == {"203.0.113.9"}
    told_of = json.dumps(list(failed.values()), default=str)
    assert "my-secret" not in told_of
    assert "guess" not in told_of

    client.post(login, {"username": "alice", "password": "right"}, REMOTE_ADDR="::1")
    entry = recorded(Action.PERSON_LOGIN)
    assert (entry.actor, entry.via, entry.address) == ("alice", "web", "::1")


@pytest.mark.django_db(transaction=True)
def test_failed_logins_by_the_hundred_are_two_rows_the_second_of_them_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    minute_is_over, waits = threading.Event(), list[float]()

    class HeldTimer(threading.Timer):
        def run(self) -> None:
            waits.append(self.interval)
            minute_is_over.wait(SAFETY_NET)
            self.function(*self.args, **self.kwargs)

    monkeypatch.setattr("tenants.actions.later.Timer", HeldTimer)
    monkeypatch.setattr("tenants.audit.rules.coalescer.WINDOW_SECONDS", 10 * SAFETY_NET)
    for _ in range(128):
        record_failed_login("nobody", locked_out=False)
    failed = AuditEntry.objects.filter(action=Action.PERSON_LOGIN_FAILED).order_by("pk")
    assert list(failed.values_list("count", flat=True)) == [1]
    minute_is_over.set()
    eventually(lambda: failed.count() == 2)
    assert waits == [sign_ins.WINDOW_SECONDS]
    assert list(failed.values_list("count", flat=True)) == [1, 127]


def test_a_coalescer_tells_the_first_at_once_and_the_rest_together() -> None:
    coalescer: Coalescer[str] = Coalescer(others=lambda key: f"{key[0]} others")
    first = [key for key in ("a1", "a1", "a2", "a1") if coalescer.admit(key, 5.0)]
    assert first == ["a1", "a2"]
    with coalescer.due(5.0 + WINDOW_SECONDS - 1) as counted:
        assert counted == []
    # What could not be written is told later.
    with pytest.raises(OSError, match="away"), coalescer.due(5.0 + WINDOW_SECONDS):
        raise OSError("away")
    # While it goes on, it is told each minute; after a minute without it, at once again.
    assert not coalescer.admit("a1", 70.0)
    with coalescer.due(70.0, at_once=True) as counted:
        assert counted == [("a1", 3)]
    with coalescer.due(70.0 + WINDOW_SECONDS) as counted:
        assert counted == []
    assert coalescer.admit("a1", 140.0)


def test_one_groups_flood_hides_no_other_group() -> None:
    coalescer: Coalescer[str] = Coalescer(others=lambda key: f"{key[0]} others")
    told = [key for number in range(200) if coalescer.admit(key := f"a{number}", 1.0)]
    assert len(told) == KINDS_OF_EACH
    assert coalescer.admit("b1", 2.0)
    with coalescer.due(2.0, at_once=True) as counted:
        assert counted == [("a others", 200 - KINDS_OF_EACH)]


@pytest.mark.parametrize(
    ("header", "sent", "expected"),
    [
        ("", "203.0.113.9", "127.0.0.1"),
        ("X-Forwarded-For", "203.0.113.9", "203.0.113.9"),
        ("X-Forwarded-For", "1.1.1.1, 203.0.113.9", "203.0.113.9"),
        ("X-Forwarded-For", "<script>", "127.0.0.1"),
    ],
)
def test_a_header_is_believed_only_where_a_setting_says_so(
    settings: Settings, header: str, sent: str, expected: str
) -> None:
    settings.CLIENT_ADDRESS_HEADER = header
    request = RequestFactory().get("/", headers={"X-Forwarded-For": sent})
    assert address_of(request) == expected


@pytest.mark.parametrize(
    ("path", "via"), [("/admin/x/", "admin"), ("/api/nats/health", "api"), ("/administrate", "web")]
)
def test_a_request_says_through_what_it_came(path: str, via: str) -> None:
    seen: list[Origin] = []

    def view(request: object) -> Any:
        seen.append(current_origin())

    OriginMiddleware(view)(RequestFactory().get(path))
    assert seen == [Origin(via, "", "127.0.0.1")]
    assert current_origin() == Origin()


def test_a_command_line_tells_the_systems_user(db: None) -> None:
    with acting(Origin(via="command line", name="root")):
        create_tenant(name="Gamma")
    entry = recorded(Action.TENANT_CREATED)
    assert (entry.via, entry.actor, entry.actor_kind) == ("command line", "root", "platform")
