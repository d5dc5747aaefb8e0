"""The resources of this app, by their addresses below /api/."""

from tenants.api.base.routers import Router
from tenants.api.dead_letters import DeadLetterViewSet
from tenants.api.exports import ExportViewSet
from tenants.api.places import GroupViewSet, OrganisationViewSet
from tenants.api.subscribers import SubscriberViewSet

router = Router()
router.register("dead-letters", DeadLetterViewSet)
router.register("subscribers", SubscriberViewSet)
router.register("exports", ExportViewSet)
router.register("groups", GroupViewSet)
router.register("organisations", OrganisationViewSet)
