"""Describe what is recorded of a login that the broker refused."""

from typing import NamedTuple
from uuid import UUID


class Refusal(NamedTuple):
    """A refused login. `name` is safe to show.

    `tenant` is set where the name is one of ours, and `proven` where the server has verified it.
    `rejected` means that the request did not come from one of our servers.
    """

    name: str
    reason: str
    address: str
    tenant: UUID | None = None
    device: UUID | None = None
    proven: bool = False
    rejected: bool = False


def others_of(refusal: Refusal) -> Refusal:
    """Return what stands for a tenant's further refusals, which are too many to list."""
    reason = "too many different ones in one minute"
    return Refusal("others", reason, "", refusal.tenant, rejected=refusal.rejected)
