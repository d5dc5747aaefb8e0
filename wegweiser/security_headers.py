"""Tell the browser, with every response, what it may load and run and where it may be shown."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase
from django.urls import reverse

Policy = dict[str, str]

# All scripts and styles are files of our own; charts and menus are styled through the DOM.
PAGES: Policy = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "font-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}
# Unfold's Alpine.js makes functions of its attributes (`x-on:click="open = true"`), which no nonce
# permits; its pages have two <style> elements and Alpine binds `style` attributes. Scripts are
# files even there: markup that gets into a page is run by neither.
ADMIN: Policy = PAGES | {
    "script-src": "'self' 'unsafe-eval'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data:",
}
# Swagger UI's style sheet has its icons in it.
API_DOCS: Policy = PAGES | {"img-src": "'self' data:"}

# Nothing here asks for a camera; if something foreign ever runs here, it must not either.
DENIED_FEATURES = (
    *("accelerometer", "autoplay", "camera", "display-capture", "encrypted-media", "fullscreen"),
    *("geolocation", "gyroscope", "magnetometer", "microphone", "midi", "payment"),
    *("picture-in-picture", "publickey-credentials-get", "screen-wake-lock", "serial", "usb"),
    "xr-spatial-tracking",
)
HEADERS = {
    "Permissions-Policy": ", ".join(f"{feature}=()" for feature in DENIED_FEATURES),
    "Cross-Origin-Resource-Policy": "same-origin",
}


class SecurityHeadersMiddleware:
    """The outermost but one, so that static files and errors of the other middleware have them too.
    Django's own middleware adds nosniff, the referrer policy and the opener policy."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        policy = _policy_for(request)
        response["Content-Security-Policy"] = "; ".join(map(" ".join, policy.items()))
        for name, value in HEADERS.items():
            response[name] = value
        return response


def _policy_for(request: HttpRequest) -> Policy:
    """By path, since what is refused before it was resolved has an admin's look as well."""
    if request.path_info.startswith(reverse("admin:index")):
        return ADMIN
    return API_DOCS if request.path_info == reverse("api-docs") else PAGES
