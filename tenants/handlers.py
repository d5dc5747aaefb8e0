"""What the subscriber does for this app."""

from natsbridge.registry import registry
from natsbridge.runtime import Runtime
from tenants.provisioning import keep_provisioned


@registry.side_task("accounts")
async def accounts(runtime: Runtime) -> None:
    await keep_provisioned(runtime)
