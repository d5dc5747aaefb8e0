"""How the admin looks: a setting of django-unfold that no environment changes."""

from django.templatetags.static import static
from django.urls import reverse_lazy

UNFOLD = {
    "SITE_TITLE": "Wegweiser",
    "SITE_HEADER": "Wegweiser",
    "SITE_URL": reverse_lazy("fleet"),
    "SITE_ICON": lambda request: static("wegweiser.svg"),
    "SHOW_HISTORY": True,
    "STYLES": [lambda request: static("wegweiser-admin.css")],
    "SITE_FAVICONS": [
        {
            "rel": "icon",
            "type": "image/svg+xml",
            "href": lambda request: static("wegweiser.svg"),
        }
    ],
    "SIDEBAR": {"navigation": "devices.admin.navigation.sections"},
    "DASHBOARD_CALLBACK": "devices.admin.dashboard.overview",
    # The accent of the live pages, from light to dark.
    "COLORS": {
        "primary": {
            "50": "#eef8fa",
            "100": "#e3f1f4",
            "200": "#c3e4ea",
            "300": "#97d3de",
            "400": "#63c5d8",
            "500": "#2f9fb5",
            "600": "#0b6478",
            "700": "#09556a",
            "800": "#0a4554",
            "900": "#0f3b47",
            "950": "#08262d",
        }
    },
}
