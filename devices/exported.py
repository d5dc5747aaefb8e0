"""The rows of this app that leave with a tenant's export."""

from devices.models import (
    BrokerSession,
    BulkCommand,
    Command,
    Connectivity,
    CustomField,
    Device,
    DeviceImport,
    DeviceTag,
    Note,
    Onboarding,
    PresenceChange,
    RealtimeData,
    Tag,
)
from tenants.export.tables import export_table

export_table(Device, "tenant", withheld={"token_digest": "the device token's keyed hash"})
export_table(Tag, "tenant")
export_table(DeviceTag, "tenant")
export_table(CustomField, "tenant")
export_table(Note, "device__tenant")
export_table(DeviceImport, "tenant")
export_table(Onboarding, "device__tenant")
export_table(Connectivity, "device__tenant")
export_table(RealtimeData, "device__tenant")
export_table(PresenceChange, "device__tenant")
export_table(BrokerSession, "device__tenant")
export_table(BulkCommand, "tenant")
export_table(Command, "device__tenant")
