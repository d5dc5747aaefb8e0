"""The resources of this app, by their addresses below /api/."""

from tenants.api.base.routers import Router
from tenants.api.places import GroupViewSet, OrganisationViewSet

router = Router()
router.register("groups", GroupViewSet)
router.register("organisations", OrganisationViewSet)
