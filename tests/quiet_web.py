"""`manage.py web` without what it writes a minute later, when another test has the database."""

import gc
import os
import sys

from django.core.management import execute_from_command_line

from tenants.actions.later import Later


def ask_in_vain(later: Later) -> None:
    """Take the place of `Later.ask`."""


if __name__ == "__main__":
    gc.disable()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "wegweiser.settings")
    Later.ask = ask_in_vain  # type: ignore[method-assign]
    execute_from_command_line(["manage.py", "web", *sys.argv[1:]])
