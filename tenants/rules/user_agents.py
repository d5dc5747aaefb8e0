"""Which browser and system a User-Agent header names, in words that people know."""

# The first match counts, since most browsers name others too.
BROWSERS = {
    "Edg": "Edge",
    "OPR/": "Opera",
    "Firefox/": "Firefox",
    "Chrome/": "Chrome",
    "Safari/": "Safari",
    "curl/": "curl",
    "python": "a Python script",
}
SYSTEMS = {
    "Windows": "Windows",
    "Android": "Android",
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Mac OS X": "macOS",
    "Linux": "Linux",
}
SHOWN = 60


def describe(user_agent: str) -> str:
    """Return "Firefox on Linux", or the beginning of a header that names no known browser."""
    browser = next((name for mark, name in BROWSERS.items() if mark in user_agent), "")
    system = next((name for mark, name in SYSTEMS.items() if mark in user_agent), "")
    if not browser:
        return user_agent[:SHOWN] or "Unknown browser"
    return f"{browser} on {system}" if system else browser
