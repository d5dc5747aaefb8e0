"""Tells the app that rotates credentials whose agents fetch a new one when they are told to."""

from collections.abc import Collection
from uuid import UUID

from devices.enrolment.credentials import RENEW
from devices.models import Connectivity


def agents_that_renew(devices: Collection[UUID]) -> set[UUID]:
    able = Connectivity.objects.filter(
        device__in=devices, capabilities__commands__contains=[{"name": RENEW}]
    )
    return set(able.values_list("device_id", flat=True))
