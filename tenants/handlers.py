"""What the subscriber does for this app."""

from natsbridge.registry import registry
from natsbridge.runtime import Runtime
from tenants.audit.task import keep_sealed
from tenants.audit.writer import AUDIT_CHANNEL
from tenants.broker.accounts import ACCOUNTS_CHANNEL
from tenants.broker.floods_task import end_floods
from tenants.broker.provisioning_task import keep_provisioned
from tenants.callout.task import answer_logins


@registry.side_task("accounts", wakes_on=(ACCOUNTS_CHANNEL,))
async def accounts(runtime: Runtime) -> None:
    await keep_provisioned(runtime)


@registry.side_task("audit", wakes_on=(AUDIT_CHANNEL,))
async def audit(runtime: Runtime) -> None:
    await keep_sealed(runtime)


@registry.side_task("auth")
async def auth(runtime: Runtime) -> None:
    await answer_logins(runtime)


@registry.side_task("floods")
async def floods(runtime: Runtime) -> None:
    await end_floods(runtime)
