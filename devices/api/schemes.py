"""How people and devices authenticate, for the API's own documentation."""

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema


class PersonTokenScheme(OpenApiAuthenticationExtension):
    target_class = "tenants.api.base.authentication.PersonTokenAuthentication"
    name = "Person"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, str]:
        # OpenAPI's http schemes know no "Token", so the whole header is typed in.
        return {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "A person's API token, with the word before it: `Token KEY`.",
        }


class DeviceTokenScheme(OpenApiAuthenticationExtension):
    target_class = "devices.api.authentication.DeviceTokenAuthentication"
    name = "Device"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, str]:
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "A device's own token, as its registration answered it.",
        }
