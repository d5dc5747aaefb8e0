"""The resources of this app, by their addresses below /api/."""

from tenants.api.audit import AuditEntryViewSet
from tenants.api.base.routers import Router
from tenants.api.dead_letters import DeadLetterViewSet
from tenants.api.exports import ExportViewSet
from tenants.api.keys import ApiTokenViewSet, EnrolmentKeyViewSet
from tenants.api.memberships import MembershipViewSet
from tenants.api.places import GroupViewSet, OrganisationViewSet
from tenants.api.subscribers import SubscriberViewSet
from tenants.api.tenants import TenantViewSet

router = Router()
router.register("audit", AuditEntryViewSet)
router.register("dead-letters", DeadLetterViewSet)
router.register("enrolment-keys", EnrolmentKeyViewSet)
router.register("exports", ExportViewSet)
router.register("groups", GroupViewSet)
router.register("memberships", MembershipViewSet)
router.register("organisations", OrganisationViewSet)
router.register("subscribers", SubscriberViewSet)
router.register("tenants", TenantViewSet)
router.register("tokens", ApiTokenViewSet)
