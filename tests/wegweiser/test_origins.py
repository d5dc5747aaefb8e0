import pytest
from pytest_django.fixtures import Settings

from wegweiser.origins import is_ours

HTTP = "http://127.0.0.1:8000"


@pytest.mark.parametrize(
    ("origin", "host", "ours"),
    [
        ("http://127.0.0.1:9000", "127.0.0.1:9000", True),
        ("http://localhost", "localhost", True),
        ("http://localhost", "localhost:80", True),
        ("http://[::1]:9000", "[::1]:9000", True),
        ("HTTP://LocalHost:9000", "localhost:9000", True),
        # As the settings name them, behind a proxy that changes the Host.
        (HTTP, "internal:1", True),
        ("https://ops.example.org", "internal:1", True),
        # Another program of the same computer, and its pages.
        ("http://127.0.0.1:9001", "127.0.0.1:9000", False),
        ("http://127.0.0.1", "127.0.0.1:9000", False),
        ("https://127.0.0.1:9000", "127.0.0.1:9001", False),
        ("http://evil.example", "127.0.0.1:9000", False),
        # A name of somebody else's that leads to us.
        ("http://evil.example:9000", "evil.example:9000", False),
        ("http://127.0.0.1:9000@evil.example", "127.0.0.1:9000", False),
        ("http://127.0.0.1:99999", "127.0.0.1:99999", False),
        ("file://127.0.0.1:9000", "127.0.0.1:9000", False),
        ("null", "127.0.0.1:9000", False),
        ("", "", False),
    ],
)
def test_a_page_is_ours_to_the_port(settings: Settings, origin: str, host: str, ours: bool) -> None:
    settings.PUBLIC_URL = HTTP
    settings.CSRF_TRUSTED_ORIGINS = ["https://ops.example.org"]
    assert is_ours(origin, host) is ours


def test_where_pages_come_by_https_no_other_is_ours(settings: Settings) -> None:
    settings.PUBLIC_URL = "https://wegweiser.example.org"
    settings.ALLOWED_HOSTS = [".example.org"]
    assert is_ours("https://wegweiser.example.org", "wegweiser.example.org")
    assert is_ours("https://other.example.org", "other.example.org")
    assert not is_ours("http://wegweiser.example.org", "wegweiser.example.org")
