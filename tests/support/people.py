"""Makes people and devices for tests, through the actions that make the real ones."""

from dataclasses import dataclass
from typing import Any

from django.contrib.auth.hashers import Argon2PasswordHasher
from django.test import Client

from devices.enrolment import actions as enrolment
from devices.enrolment.credentials import RENEW
from devices.models import Connectivity, Device
from natsbridge.identity import nkeys
from natsbridge.identity.nkeys import KeyPair
from tenants.actions.keys import create_api_token, create_enrollment_key
from tenants.actions.people import set_membership
from tenants.credentials.issue import issue_device_jwt
from tenants.models import Group, Role, Tenant, User


class QuickArgon2(Argon2PasswordHasher):
    """The same hashes at the least cost, which the server's own hasher can check as well."""

    time_cost = 1
    memory_cost = 8
    parallelism = 1


@dataclass(frozen=True)
class Enrolled:
    """A device with what its agent would hold."""

    device: Device
    token: str
    key: KeyPair

    @property
    def jwt(self) -> str:
        device = self.device
        return issue_device_jwt(device.tenant_id, device.pk, self.key.public).secret

    @property
    def authorization(self) -> dict[str, str]:
        return {"HTTP_AUTHORIZATION": f"Bearer {self.token}"}


def person(name: str, tenant: Tenant, role: Role) -> User:
    user = User.objects.create_user(name, password=f"{name}-password")
    set_membership(user, tenant, role)
    return user


def authorization(user: User, role: Role = Role.ADMIN) -> dict[str, str]:
    """The header of a new API token of this role."""
    _, token = create_api_token(user, name="test", role=role, expires_at=None)
    return {"HTTP_AUTHORIZATION": f"Token {token}"}


def renews_by_command(device: Device) -> None:
    """Its agent has said that it renews its credential by command."""
    commands = [{"name": RENEW}]
    Connectivity.objects.update_or_create(
        device=device, defaults={"capabilities": {"commands": commands}}
    )


def enrol(group: Group, name: str) -> Enrolled:
    _, key = create_enrollment_key(group, name=name, max_uses=1)
    pair = nkeys.generate("user")
    registration = enrolment.register(
        group=group.pk,
        name=name,
        enrollment_key=key,
        nkey_public=pair.public,
        hardware_info={},
        proof=None,
    )
    return Enrolled(registration.device, registration.device_token, pair)


def shown(client: Client, posted: Any) -> Any:
    """The page that shows a new secret, to which the answer to a POST redirects."""
    assert posted.status_code == 302, posted.content
    page = client.get(posted["Location"])
    assert page.status_code == 200, page.content
    return page


def logged_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    # The first page of a session notes where it is used, which is no matter of the test's page.
    client.get("/account/password/")
    return client
