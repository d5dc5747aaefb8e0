"""The resources of this app, by their addresses below /api/."""

from devices.api.bulk_commands import BulkCommandViewSet
from devices.api.commands import CommandViewSet
from devices.api.devices import DeviceViewSet
from devices.api.imports import DeviceImportViewSet
from devices.api.inventory import CustomFieldViewSet, NoteViewSet, TagViewSet
from devices.api.of_device import ADDRESS
from devices.api.onboarding import MigrationViewSet
from devices.api.presence import PresenceViewSet, SessionViewSet
from devices.api.reports import MetricsViewSet, ReportViewSet
from tenants.api.base.routers import Router

router = Router()
router.register("bulk-commands", BulkCommandViewSet)
router.register("commands", CommandViewSet)
router.register("custom-fields", CustomFieldViewSet)
router.register("devices", DeviceViewSet)
router.register(f"{ADDRESS}/reports", ReportViewSet, "device-report")
router.register(f"{ADDRESS}/metrics", MetricsViewSet, "device-metric")
router.register(f"{ADDRESS}/notes", NoteViewSet, "device-note")
router.register(f"{ADDRESS}/presence", PresenceViewSet, "device-presence")
router.register(f"{ADDRESS}/sessions", SessionViewSet, "device-session")
router.register("device-imports", DeviceImportViewSet)
router.register("migrations", MigrationViewSet, basename="migration")
router.register("tags", TagViewSet)
