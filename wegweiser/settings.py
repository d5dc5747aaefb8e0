"""Django settings: one file, everything that differs between machines from the environment.

`.env.example` lists each variable with its meaning; a `.env` beside manage.py is read first.
"""

import os
from datetime import timedelta
from pathlib import Path

import environ

from wegweiser.admin_look import UNFOLD as UNFOLD
from wegweiser.environment import Environment
from wegweiser.logs import configure_structlog, logging_configuration

BASE_DIR = Path(__file__).resolve().parent.parent
environ.Env.read_env(BASE_DIR / ".env")
ENVIRONMENT = Environment(os.environ)
read = ENVIRONMENT

DEBUG = read.flag("DEBUG", False)
SECRET_KEY = read.text("SECRET_KEY", "unsafe-only-for-checks-and-collectstatic")
# Device tokens and enrolment keys are stored as hashes under this key; changing it voids them all.
TOKEN_HASH_KEY = read.text("TOKEN_HASH_KEY", SECRET_KEY)
# Seals the audit; changing it makes every row that is sealed already look changed.
AUDIT_KEY = read.text("AUDIT_KEY", SECRET_KEY)
# Signing seeds of the broker are encrypted with the first; all are tried to decrypt.
FIELD_ENCRYPTION_KEYS = read.words("FIELD_ENCRYPTION_KEY", [])
WEGWEISER_HOME = read.path("WEGWEISER_HOME", BASE_DIR / "var")
PUBLIC_URL = read.url("PUBLIC_URL", "http://127.0.0.1:8000", schemes=("http", "https"))
ALLOWED_HOSTS = read.words("ALLOWED_HOSTS", ["127.0.0.1", "localhost", "[::1]"])
CSRF_TRUSTED_ORIGINS = read.words("CSRF_TRUSTED_ORIGINS", [])
SECURE_COOKIES = PUBLIC_URL.startswith("https://")

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_filters",
    "knox",
    "channels",
    "axes",
    "django_structlog",
    "natsbridge",
    "tenants",
    "devices",
    "wegweiser",
]

MIDDLEWARE = [
    "tenants.middleware.RequestIdMiddleware",
    "wegweiser.security_headers.SecurityHeadersMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "tenants.api.base.etags.EtagMiddleware",
    "django.middleware.common.CommonMiddleware",
    "wegweiser.direction_marks.DirectionMarksMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_structlog.middlewares.RequestMiddleware",
    "axes.middleware.AxesMiddleware",
    "tenants.middleware.WebSessionMiddleware",
    "tenants.middleware.OriginMiddleware",
    "wegweiser.access_audit.AccessAuditMiddleware",
    "wegweiser.error_pages.ErrorPageMiddleware",
]

ROOT_URLCONF = "wegweiser.urls"
ASGI_APPLICATION = "wegweiser.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "tenants.views.page.navigation",
            ]
        },
    }
]

# Database. A pool suits the web's many short requests; the subscriber's threads each keep one
# connection for ever, so it runs with DATABASE_POOL_MAX=0.
DATABASE_POOL_MAX = read.integer("DATABASE_POOL_MAX", 0)
DATABASES = {
    "default": read.database(
        "DATABASE_URL", "postgres://wegweiser:wegweiser@127.0.0.1:5432/wegweiser"
    )
}
DATABASES["default"]["OPTIONS"] = {
    "application_name": "wegweiser",
    "connect_timeout": 5,
    # A server that has vanished without a word is noticed within half a minute.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
if DATABASE_POOL_MAX:
    DATABASES["default"]["OPTIONS"]["pool"] = {"min_size": 1, "max_size": DATABASE_POOL_MAX}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Redis: ring buffers, watch sets, the channel layer.
REDIS_URL = read.url("REDIS_URL", "redis://127.0.0.1:6379/0", schemes=("redis", "rediss", "unix"))
METRICS_REDIS_URL = read.redis_url(
    REDIS_URL, host="METRICS_REDIS_HOST", port="METRICS_REDIS_PORT", database="METRICS_REDIS_DB"
)
METRICS_REDIS_PREFIX = read.text("METRICS_REDIS_PREFIX", "wegweiser:metrics")
METRICS_MAX_POINTS = read.integer("METRICS_MAX_POINTS", 300, minimum=1)
METRICS_TTL_SECONDS = read.integer("METRICS_TTL_SECONDS", 900, minimum=1)
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [REDIS_URL], "prefix": "wegweiser"},
    }
}

# NATS.
NATS_URL = read.urls("NATS_URL", "nats://127.0.0.1:4222", schemes=("nats", "tls", "ws", "wss"))
# The CA that the server's certificate must come from; None: any that the system trusts.
NATS_CA_FILE = read.path("NATS_CA_FILE", Path()) if read.text("NATS_CA_FILE") else None
NATS_MONITOR_URL = read.url("NATS_MONITOR_URL", "http://127.0.0.1:8222", schemes=("http", "https"))
AGENT_NATS_URL = read.urls("AGENT_NATS_URL", NATS_URL, schemes=("nats", "tls", "ws", "wss"))
NATS_REPLICAS = read.integer("NATS_REPLICAS", 1, minimum=1)
INGEST_MAX_BYTES = read.integer("INGEST_MAX_BYTES", 8 * 1024**3, minimum=1024**2)
LATEST_MAX_BYTES = read.integer("LATEST_MAX_BYTES", 1024**3, minimum=1024**2)
DLQ_MAX_BYTES = read.integer("DLQ_MAX_BYTES", 8 * 1024**3, minimum=1024**2)
DEVICE_INFO_MAX_BYTES = read.integer("DEVICE_INFO_MAX_BYTES", 32 * 1024, minimum=1024)
DEVICE_MESSAGE_BYTES = read.integer("DEVICE_MESSAGE_BYTES", 320 * 1024, minimum=1024)
BROKER_MAX_BYTES = read.integer("BROKER_MAX_BYTES", 256 * 1024**2, minimum=1024**2)
INGEST_BATCH = read.integer("INGEST_BATCH", 500, minimum=1)
DEAD_LETTER_MESSAGES_MAX = read.integer("DEAD_LETTER_MESSAGES_MAX", 10_000, minimum=1)
DEAD_LETTER_BYTES_MAX = read.integer("DEAD_LETTER_BYTES_MAX", 256 * 1024**2, minimum=1)
# Not less than the dead-letter queue keeps them.
DEAD_LETTER_DAYS = read.integer("DEAD_LETTER_DAYS", 30, minimum=30)
DEVICE_JWT_SECONDS = read.integer("DEVICE_JWT_SECONDS", 7 * 86_400, minimum=60)
# What one device, or one connection of a tenant credential, may send: a second, and at once. What
# sends more is disconnected, and shut out so long (doubled each time; 0: never) if it goes on.
DEVICE_MESSAGES_PER_SECOND = read.integer("DEVICE_MESSAGES_PER_SECOND", 500, minimum=1)
DEVICE_MESSAGES_BURST = read.integer("DEVICE_MESSAGES_BURST", 20_000, minimum=100)
DEVICE_BYTES_PER_SECOND = read.integer("DEVICE_BYTES_PER_SECOND", 4 * 1024**2, minimum=1024)
DEVICE_BYTES_BURST = read.integer("DEVICE_BYTES_BURST", 64 * 1024**2, minimum=1024**2)
FLOOD_BLOCK_SECONDS = read.integer("FLOOD_BLOCK_SECONDS", 30)
# What a tenant may have, unless its own limits say otherwise; -1 means no limit.
TENANT_MAX_CONNECTIONS = read.integer("TENANT_MAX_CONNECTIONS", 10_000, minimum=-1)
TENANT_MAX_SUBSCRIPTIONS = read.integer("TENANT_MAX_SUBSCRIPTIONS", 1_000, minimum=-1)
TENANT_MAX_PAYLOAD_BYTES = read.integer("TENANT_MAX_PAYLOAD_BYTES", 1024**2, minimum=-1)
TENANT_STORAGE_BYTES = read.integer("TENANT_STORAGE_BYTES", 32 * 1024**2, minimum=1024**2)
TENANT_MAX_DEVICES = read.integer("TENANT_MAX_DEVICES", 10_000, minimum=-1)

# Presence and commands.
ONLINE_SECONDS = read.integer("ONLINE_SECONDS", 120, minimum=1)
STALE_SECONDS = read.integer("STALE_SECONDS", 600, minimum=1)
# How long a device may take to connect again before its disconnection counts: as a rule, when its
# link flaps, and when its server went away and it has to find another.
PRESENCE_GRACE_SECONDS = read.integer("PRESENCE_GRACE_SECONDS", 3, minimum=0)
PRESENCE_UNSTABLE_GRACE_SECONDS = read.integer("PRESENCE_UNSTABLE_GRACE_SECONDS", 30, minimum=0)
PRESENCE_SERVER_GRACE_SECONDS = read.integer("PRESENCE_SERVER_GRACE_SECONDS", 60, minimum=0)
# A device's connections to the broker: one more ends its oldest. Renewing takes two for a moment.
DEVICE_MAX_CONNECTIONS = read.integer("DEVICE_MAX_CONNECTIONS", 3, minimum=2)
PRESENCE_HISTORY_DAYS = read.integer("PRESENCE_HISTORY_DAYS", 90, minimum=7)
COMMAND_DEADLINE_SECONDS = read.integer("COMMAND_DEADLINE_SECONDS", 3600, minimum=1)
COMMAND_RESPONSE_SECONDS = read.integer("COMMAND_RESPONSE_SECONDS", 600, minimum=1)
COMMAND_DAYS = read.integer("COMMAND_DAYS", 90, minimum=1)
COMMAND_RESULT_MAX_BYTES = read.integer("COMMAND_RESULT_MAX_BYTES", 256 * 1024, minimum=1024)

# Audit. The anchors (checkpoints) are for a place that no user of the database can write.
AUDIT_ANCHORS_FILE = read.path("AUDIT_ANCHORS_FILE", WEGWEISER_HOME / "audit-anchors.jsonl")
AUDIT_DAYS = read.integer("AUDIT_DAYS", 365, minimum=1)
# Credentials, API tokens and enrolment keys, once they open nothing any more.
ENDED_DAYS = read.integer("ENDED_DAYS", 90, minimum=1)
# Exports of a tenant, which are kept in the database until they expire.
EXPORT_HOURS = read.integer("EXPORT_HOURS", 24, minimum=1)
EXPORT_MAX_BYTES = read.integer("EXPORT_MAX_BYTES", 1024**3, minimum=1024**2)
# The header in which a proxy of our own says who called, such as X-Forwarded-For.
CLIENT_ADDRESS_HEADER = read.text("CLIENT_ADDRESS_HEADER")

# People.
AUTH_USER_MODEL = "tenants.User"
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "fleet"
LOGOUT_REDIRECT_URL = "login"
# One person's typing errors lock that name from that address, not the whole office.
AXES_HANDLER = "tenants.callout.login_limits.LoginHandler"
LOGIN_ADDRESS_FAILURE_LIMIT = read.integer("LOGIN_ADDRESS_FAILURE_LIMIT", 100, minimum=1)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = read.integer("LOGIN_FAILURE_LIMIT", 10, minimum=1)
SIGN_IN_DAYS = read.integer("SIGN_IN_DAYS", 30, minimum=1)
AUTH_FAILURE_LIMIT = read.integer("AUTH_FAILURE_LIMIT", 20, minimum=1)
# Of the API; 0: no limit.
PERSON_REQUESTS_PER_MINUTE = read.integer("PERSON_REQUESTS_PER_MINUTE", 3_000, minimum=0)
TOKEN_REQUESTS_PER_MINUTE = read.integer("TOKEN_REQUESTS_PER_MINUTE", 1_200, minimum=0)
DEVICE_REQUESTS_PER_MINUTE = read.integer("DEVICE_REQUESTS_PER_MINUTE", 120, minimum=0)
ADDRESS_REQUESTS_PER_MINUTE = read.integer("ADDRESS_REQUESTS_PER_MINUTE", 60_000, minimum=0)
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_CLIENT_IP_CALLABLE = "tenants.middleware.address_of"
AXES_LOCKOUT_TEMPLATE = "registration/locked.html"
LIVE_PAGES_PER_PERSON = read.integer("LIVE_PAGES_PER_PERSON", 50, minimum=1)
SESSION_ENGINE = "tenants.session_store"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_COOKIES
SECURE_HSTS_SECONDS = 31_536_000 if SECURE_COOKIES else 0
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if SECURE_COOKIES else None

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "tenants.api.base.authentication.PersonTokenAuthentication",
        "devices.api.authentication.DeviceTokenAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_THROTTLE_CLASSES": ["devices.api.throttles.CallerThrottle"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["tenants.api.base.parsers.ShallowJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "tenants.api.base.schema.DescribedSchema",
    "EXCEPTION_HANDLER": "wegweiser.problems.problem_details",
}
KNOX_TOKEN_MODEL = "tenants.ApiToken"
# Knox's own migrations make its own token table, swapped out or not.
MIGRATION_MODULES = {"knox": None}
REST_KNOX = {
    "SECURE_HASH_ALGORITHM": "hashlib.sha512",
    "TOKEN_TTL": timedelta(days=90),
    "TOKEN_PREFIX": "wgw_",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Wegweiser",
    "DESCRIPTION": (
        "Devices, agents and monitoring over NATS.\n\n"
        "People call with `Authorization: Token KEY`; everybody makes tokens on the page *Your "
        "account*. Devices call with `Authorization: Bearer DEVICE_TOKEN`, the token that their "
        "registration answered.\n\n"
        "What a GET answers has an `ETag`, unless it has a secret: a client that polls sends it "
        "back in `If-None-Match`, and is answered 304 while nothing has changed."
    ),
    "VERSION": "0.1.0",
    "COMPONENT_SPLIT_REQUEST": True,
    "PREPROCESSING_HOOKS": ["tenants.api.base.schema.without_final_slash"],
    "GET_LIB_DOC_EXCLUDES": "tenants.api.base.schema.undocumented",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SERVE_INCLUDE_SCHEMA": False,
    "ENUM_NAME_OVERRIDES": {
        "CommandState": "devices.models.CommandState",
        "Presence": "devices.models.connectivity.PRESENCES",
        "DeadLetterState": "natsbridge.models.DeadLetter.State",
        "ExportState": "tenants.models.exports.TenantExport.State",
    },
    # The names of the choices repeat the values.
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
}

# Files, language, time.
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
# Where `collectstatic` puts them. Without it WhiteNoise serves from the apps themselves.
STATIC_ROOT = read.text("STATIC_ROOT") or None
WHITENOISE_USE_FINDERS = True
LANGUAGE_CODE = "en-gb"
FORMAT_MODULE_PATH = ["wegweiser.formats"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"

LOG_LEVEL = read.choice("LOG_LEVEL", "INFO", allowed=("DEBUG", "INFO", "WARNING", "ERROR"))
LOG_FORMAT = read.choice("LOG_FORMAT", "console", allowed=("console", "json"))
# RequestIdMiddleware has replaced what is not well-formed.
DJANGO_STRUCTLOG_TRUST_UPSTREAM_REQUEST_ID = True
LOGGING = logging_configuration(level=LOG_LEVEL, format=LOG_FORMAT)
configure_structlog()
