"""What the subscriber does for this app."""

from natsbridge.registry import registry
from natsbridge.runtime import Runtime
from tenants.actions import ACCOUNTS_CHANNEL
from tenants.actions.audit import AUDIT_CHANNEL
from tenants.callout_task import answer_logins
from tenants.floods_task import end_floods
from tenants.provisioning_task import keep_provisioned
from tenants.sealing_task import keep_sealed


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
