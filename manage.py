#!/usr/bin/env python
"""Django's command line; `manage.py quickstart` runs the whole system."""

import gc
import os
import sys

from django.core.management import execute_from_command_line

from tenants.origin import acting, command_line_origin

if __name__ == "__main__":
    # WegweiserConfig.ready turns it on again: what is loaded until then is no garbage.
    gc.disable()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "wegweiser.settings")
    with acting(command_line_origin()):
        execute_from_command_line(sys.argv)
