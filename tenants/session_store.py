"""Sessions in the database, as Django keeps them."""

from django.contrib.sessions.backends import db


class SessionStore(db.SessionStore):
    def _validate_session_key(self, key: str | None) -> bool:
        """A cookie may name anything, NUL too, which Postgres does not take in a query."""
        return bool(key and key.isascii() and key.isalnum() and len(key) <= 40)
