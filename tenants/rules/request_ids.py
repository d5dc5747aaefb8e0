"""The id of a request: it finds the request's lines in the log, its commands and their responses.

A caller may choose it, so it proves nothing, and two requests may have the same one.
"""

import re
from uuid import uuid4

HEADER = "X-Request-ID"
MAX_LENGTH = 128
# What is safe in a header, in a line of the log and in a page.
_WELL_FORMED = re.compile(rf"[A-Za-z0-9._:/+=-]{{1,{MAX_LENGTH}}}")


def request_id_from(offered: str) -> str:
    """Return the id that the caller offers, or a new one if it is missing or not well-formed."""
    return offered if is_well_formed(offered) else str(uuid4())


def is_well_formed(text: str) -> bool:
    return _WELL_FORMED.fullmatch(text) is not None
