"""Django's sessions in the database; SESSION_ENGINE names this module, whatever its length."""

from django.contrib.sessions.backends import db


class SessionStore(db.SessionStore):
    def _validate_session_key(self, key: str | None) -> bool:
        """Accept plain keys only: a cookie may hold anything, even NUL, which Postgres refuses."""
        return bool(key and key.isascii() and key.isalnum() and len(key) <= 40)
