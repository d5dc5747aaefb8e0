import gc

from django.apps import AppConfig

from wegweiser import checks  # noqa: F401 (registers the checks)


class WegweiserConfig(AppConfig):
    name = "wegweiser"
    verbose_name = "Wegweiser"

    def ready(self) -> None:
        """Turn the garbage collector on, which leaves alone what has been loaded until now."""
        gc.freeze()
        gc.enable()
