"""Pure: a login to the broker that was refused, as far as it is told."""

from typing import NamedTuple
from uuid import UUID


class Refusal(NamedTuple):
    """`name` is safe to show; `tenant` is known where the name is one of ours, and `proven` where
    the server had made sure of it. `rejected`: no server of ours has asked."""

    name: str
    reason: str
    address: str
    tenant: UUID | None = None
    device: UUID | None = None
    proven: bool = False
    rejected: bool = False


def others_of(refusal: Refusal) -> Refusal:
    """Those of the same tenant, or of nobody, that are too many to be told one by one."""
    reason = "too many different ones in one minute"
    return Refusal("others", reason, "", refusal.tenant, rejected=refusal.rejected)
