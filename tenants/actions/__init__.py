"""What people and the platform can do here. These functions are this app's only writers."""

from tenants.actions.keys import (
    create_api_token,
    create_enrollment_key,
    find_enrollment_key,
    redeem_enrollment_key,
    revoke_api_token,
    revoke_enrollment_key,
)
from tenants.actions.one_time_secrets import Revealed, keep_secret, reveal_secret
from tenants.actions.people import (
    change_person,
    create_person,
    delete_person,
    remove_membership,
    set_membership,
)
from tenants.actions.tenants import (
    create_group,
    create_organisation,
    create_tenant,
    delete_unused,
    rename,
)
from tenants.broker.accounts import (
    ACCOUNTS_CHANNEL,
    announce_account,
    ensure_broker_account,
    ensure_broker_key,
    ensure_platform_keys,
    record_provisioned,
    record_provisioning_failed,
)

__all__ = [
    "ACCOUNTS_CHANNEL",
    "Revealed",
    "announce_account",
    "change_person",
    "create_api_token",
    "create_enrollment_key",
    "create_group",
    "create_organisation",
    "create_person",
    "create_tenant",
    "delete_person",
    "delete_unused",
    "ensure_broker_account",
    "ensure_broker_key",
    "ensure_platform_keys",
    "find_enrollment_key",
    "keep_secret",
    "record_provisioned",
    "record_provisioning_failed",
    "redeem_enrollment_key",
    "remove_membership",
    "rename",
    "reveal_secret",
    "revoke_api_token",
    "revoke_enrollment_key",
    "set_membership",
]
