from django.apps import AppConfig

from wegweiser import checks  # noqa: F401 (registers the checks)


class WegweiserConfig(AppConfig):
    name = "wegweiser"
    verbose_name = "Wegweiser"
