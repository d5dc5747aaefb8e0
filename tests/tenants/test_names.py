"""Names that read otherwise than they are written."""

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from tenants.models import Group, User
from tenants.names import validate_name

BAD = [
    "a\u202eb",
    "\u2066a",
    "a\u200f",
    "a\nb",
    "a\0",
    "a\x1b[2J",
    "a\u2028b",
    "a\u200bb",
    "\ufeffa",
]
GOOD = ["Zoë's laptop", "東京", "שלום", "می\u200cخ", "👩\u200d💻", "a.b_c-d (2)"]


@pytest.mark.parametrize("name", BAD)
def test_a_name_with_what_nobody_sees_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="visible characters"):
        validate_name(name)


@pytest.mark.parametrize("name", GOOD)
def test_a_name_in_any_language_is_taken(name: str) -> None:
    validate_name(name)


@pytest.fixture
def as_sam(db: None) -> Client:
    browser = Client()
    browser.force_login(User.objects.create_superuser("sam"))
    return browser


def test_the_admin_refuses_them_wherever_there_is_a_name(
    as_sam: Client, group_a: Group, alice: User
) -> None:
    for row, fields in (
        (group_a.tenant, {"name": BAD[0]}),
        (group_a.organisation, {"name": BAD[0]}),
        (group_a, {"name": BAD[0]}),
        (alice, {"username": "alice", "first_name": BAD[0]}),
        (alice, {"username": "alice" + BAD[1]}),
    ):
        options = row._meta
        name = f"admin:{options.app_label}_{options.model_name}_change"
        answer = as_sam.post(reverse(name, args=[row.pk]), fields)
        assert answer.status_code == 200, row
        errors = answer.context["adminform"].form.errors
        assert set(errors) >= {list(fields)[-1]}, row


def test_a_device_that_registers_with_one_is_told_why(client: Client, group_a: Group) -> None:
    body = {"groupuuid": str(group_a.pk), "devicename": "a\u202eb", "enrollment_key": "x"}
    answer = client.post("/api/nats/agent/register", body, content_type="application/json")
    assert answer.status_code == 400
    assert "devicename: A name is one line of visible characters" in answer.json()["detail"]
    assert "U+202E" in answer.json()["detail"]


def test_nothing_changes_in_the_database(db: None) -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)
