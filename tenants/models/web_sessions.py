"""The browsers in which people are logged in."""

from typing import Self

from django.contrib.sessions.models import Session
from django.db import models
from django.utils import timezone

from tenants.models.people import User


class WebSessionQuerySet(models.QuerySet["WebSession"]):
    def alive(self) -> Self:
        """Return the sessions that have not ended or expired."""
        alive = Session.objects.filter(expire_date__gt=timezone.now())
        return self.filter(session_key__in=alive.values("session_key"))


class WebSession(models.Model):
    """The owner of a Django session, and where it was last used."""

    session_key = models.CharField(max_length=40, unique=True)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="web_sessions")
    began_at = models.DateTimeField(default=timezone.now)
    seen_at = models.DateTimeField(default=timezone.now)
    address = models.CharField(max_length=64, blank=True)
    user_agent = models.CharField(max_length=300, blank=True)

    objects = WebSessionQuerySet.as_manager()

    class Meta:
        ordering = ["-seen_at", "-id"]

    def __str__(self) -> str:
        return f"Session of {self.user}"
