"""What the subscriber does for this app."""

from natsbridge.registry import registry
from natsbridge.runtime import Runtime
from tenants.actions import ACCOUNTS_CHANNEL
from tenants.provisioning_task import keep_provisioned


@registry.side_task("accounts", wakes_on=(ACCOUNTS_CHANNEL,))
async def accounts(runtime: Runtime) -> None:
    await keep_provisioned(runtime)
