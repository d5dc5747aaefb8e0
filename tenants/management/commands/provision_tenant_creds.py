"""Provision a tenant at the broker, and issue its own credentials."""

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError

from natsbridge.management.base import PlainCommand
from tenants.management import arguments, credential_work
from tenants.models import Credential, Tenant

MODES = {
    "--rotate": "let the new credential replace the older ones of its kind",
    "--rotate-keys": "replace the signing keys, so that the tenant and all its devices need new "
    "credentials",
    "--list": "only list the tenant's credentials",
    "--check": "only say whether broker and database agree; without TENANT, for all tenants",
}

ISSUING = ("rotate", "rotate_keys")
GOES_WITH = {"all": ("rotate",), "overlap": ISSUING, "reason": ("revoke",)}
OF_NO_SECRET = ("list", "check", "revoke")


class Command(PlainCommand):
    help = (
        "Create or repair a tenant's account and stream at the broker, and issue a credential of "
        "the tenant: one more, or with --rotate a replacement of older ones. --list, --check and "
        "--revoke issue none."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant", nargs="?", help="the tenant's UUID or name")
        arguments.add_secret(parser)
        parser.add_argument(
            "--all", action="store_true", help="with --rotate: also those of the devices"
        )
        arguments.add_overlap(parser)
        arguments.add_reason(parser)
        mode = parser.add_mutually_exclusive_group()
        for name, what in MODES.items():
            mode.add_argument(name, action="store_true", help=what)
        mode.add_argument(
            "--revoke",
            type=int,
            metavar="ID",
            help="only end this credential (--list shows the IDs)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        arguments.refuse_idle(options, GOES_WITH)
        for mode in OF_NO_SECRET:
            if options[mode] not in (None, False) and (options["out"] or options["password"]):
                raise CommandError(f"--{mode} issues no credential: remove --out and --password.")
        named = options["tenant"]
        if options["check"]:
            tenants = [arguments.tenant_named(named)] if named else Tenant.objects.all()
            credential_work.check(tenants, self.stdout.write)
        elif not named:
            raise CommandError("TENANT is required: give its UUID or name.")
        else:
            self._work(arguments.tenant_named(named), options)

    def _work(self, tenant: Tenant, options: dict[str, Any]) -> None:
        if options["list"]:
            if tenant.suspended_at:
                since = f"{tenant.suspended_at:%F %T}"
                self.stdout.write(
                    f"{tenant} has been suspended since {since}: all its logins are refused"
                )
            rows = tenant.credentials.filter(device_uuid=None)
            for row in rows:
                self.stdout.write(arguments.line_of(row))
            if not rows:
                self.stderr.write(f"{tenant} has no credential")
        elif options["revoke"] is not None:
            credential_work.revoke(tenant, options["revoke"], reason=options["reason"])
            credential_work.provision(tenant, self.stderr.write)
        else:
            self._issue(tenant, options)

    def _issue(self, tenant: Tenant, options: dict[str, Any]) -> None:
        kind = Credential.Kind.PASSWORD if options["password"] else Credential.Kind.JWT
        credential_work.provision(tenant, self.stderr.write)
        with arguments.SecretOutput(self, options["out"]) as output:
            issued = credential_work.issue(
                tenant,
                kind,
                overlap=options["overlap"],
                rotate=options["rotate"],
                with_devices=options["all"],
                keys=options["rotate_keys"],
            )
            output.put(issued)
        if options["all"] and options["overlap"] != timedelta(0):
            credential_work.say_who_keeps_theirs(tenant, self.stderr.write)
        if options["rotate"] or options["rotate_keys"]:
            credential_work.provision(tenant, self.stderr.write)
