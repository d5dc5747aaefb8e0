"""The resources of this app, by their addresses below /api/."""

from tenants.api.base.routers import Router

router = Router()
