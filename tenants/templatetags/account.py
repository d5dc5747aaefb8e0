"""Print what the page of one's own account shows."""

from django import template

from tenants.rules.user_agents import describe

register = template.Library()
register.filter("browser", describe)
