"""Hand jobs of the subscriber to the actions of this app."""

from natsbridge.postgres.locks import Lock
from natsbridge.registry import registry
from natsbridge.runtime import Part, Runtime
from natsbridge.subscriber.intake import DEVICE_STREAMS
from tenants.audit import task as audit_task
from tenants.audit.writer import AUDIT_CHANNEL
from tenants.broker import floods_task, provisioning_task
from tenants.broker.accounts import ACCOUNTS_CHANNEL
from tenants.broker.floods import lift_due_blocks
from tenants.broker.logins import system_login
from tenants.callout import task as callout_task
from tenants.credentials.revocations import end_due_credentials
from tenants.export import exports


@registry.side_task("accounts", login=system_login, wakes_on=ACCOUNTS_CHANNEL)
async def accounts(part: Part) -> None:
    await provisioning_task.keep_provisioned(part)


# What it ends or lifts is announced to the accounts.
@registry.periodic("due endings", every=1.0, beside=("accounts",))
def due_endings(runtime: Runtime) -> None:
    end_due_credentials()
    lift_due_blocks()


@registry.periodic("audit", every=10.0, wakes_on=AUDIT_CHANNEL, least=0.2, last=1.0)
def audit(runtime: Runtime) -> None:
    audit_task.seal_all(runtime)


@registry.side_task("auth")
async def auth(part: Part) -> None:
    await callout_task.answer_logins(part)


# It tells the intakes of its process whose reports have to wait.
@registry.side_task("floods", login=system_login, beside=DEVICE_STREAMS)
async def floods(part: Part) -> None:
    await floods_task.FloodWatch(part).run()


@registry.periodic("exports", every=60.0, wakes_on=exports.EXPORTS_CHANNEL, lock=Lock.EXPORTS)
def tenant_exports(runtime: Runtime) -> None:
    runtime.counters["exports.made"] += exports.make_requested(runtime.stopping.is_set)
