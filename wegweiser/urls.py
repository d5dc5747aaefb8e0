from django.contrib import admin
from django.contrib.auth import views as auth_views
from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from devices.api import routes as devices_routes
from devices.api.nats.registration import DeviceTenantView
from devices.api.nats.urls import urlpatterns as of_devices
from tenants.api import routes as tenants_routes
from tenants.api.base.routers import Router
from tenants.api.nats.urls import urlpatterns as of_tenants
from wegweiser.problems import NoSuchEndpointView

handler403 = "wegweiser.error_pages.permission_denied"
handler500 = "wegweiser.error_pages.server_error"
handler404 = "wegweiser.error_pages.page_not_found"

router = Router()
for routes in (tenants_routes, devices_routes):
    router.registry.extend(routes.router.registry)

urlpatterns = [
    # One page for everybody's own password; the admin's would save it by itself.
    path("admin/password_change/", RedirectView.as_view(pattern_name="account-password")),
    path("admin/", admin.site.urls),
    path("login/", auth_views.LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("logout/", auth_views.LogoutView.as_view(), name="logout"),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", SpectacularSwaggerSplitView.as_view(url_name="schema"), name="api-docs"),
    path("api/nats/", include(([*of_tenants, *of_devices], "nats"))),
    path("api/nats/<path:rest>", NoSuchEndpointView.as_view()),
    path("api/device/<uuid:uuid>/tenant", DeviceTenantView.as_view(), name="api-old-device-tenant"),
    path("api/", include((router.urls, "api"))),
    path("api/<path:rest>", NoSuchEndpointView.as_view()),
    path("", include("tenants.urls")),
    path("", include("devices.urls")),
]
