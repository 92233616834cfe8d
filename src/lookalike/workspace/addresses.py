"""Addresses of tracking servers and databases, and how to show them and any other text without a secret."""

import os
import sys
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlsplit, urlunsplit

DATABASES = ("postgresql", "mysql", "mssql", "sqlite")
"""Schemes of URIs that SQLAlchemy reads; a driver may follow, as in `postgresql+psycopg2`."""

SECRET_ENDINGS = ("_PASSWORD", "_TOKEN", "_KEY", "_SECRET")
"""Endings of the MLFLOW_ and WANDB_ variables whose values are secret."""


class Address(NamedTuple):
    """A URI that was read.

    Attributes:
        shown: the URI without user, password and query.
        secrets: its password and the values of its query that are no numbers, in every spelling.
        is_clear: whether it is clear which part is the password; otherwise only the scheme is shown.
    """

    shown: str
    secrets: frozenset[str] = frozenset()
    is_clear: bool = True


def read_address(uri: str) -> Address:
    """Return what may be shown of a URI and what must not."""
    scheme, _, rest = uri.partition("://")
    if not rest or scheme in ("sqlite", "file"):
        return Address(uri)
    try:
        shown, hidden = read_database(uri) if scheme.partition("+")[0] in DATABASES else read_url(uri)
    except Exception:  # Errors of these libraries quote parts of the URI.
        shown, hidden = "@", []
    if "@" in unquote(shown):
        hidden = [uri, rest.rpartition("@")[0]]
        return Address(f"{scheme}://***", spellings(hidden), is_clear=False)
    return Address(shown, spellings(hidden))


def read_database(uri: str) -> tuple[str, list[str]]:
    """Return a database's URI without user, password and query, and the last two."""
    from sqlalchemy.engine import URL, make_url

    url = make_url(uri)
    bare = URL.create(url.drivername, host=url.host, port=url.port, database=url.database)
    values = [value for given in url.query.values() for value in ([given] if isinstance(given, str) else given)]
    return bare.render_as_string(), [str(url.password or ""), *(value for value in values if not value.isdigit())]


def read_url(uri: str) -> tuple[str, list[str]]:
    """Return a server's URI without user, password and query, and the last two."""
    parts = urlsplit(uri)
    if "@" in f"{parts.path}{parts.query}{parts.fragment}" or parts.port == 0:
        raise ValueError("a part of the password was taken for another part")
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="")
    return urlunsplit(bare), [
        parts.password or "",
        *(value for _, value in parse_qsl(parts.query) if not value.isdigit()),
    ]


def spellings(secrets: list[str]) -> frozenset[str]:
    """Return secrets as they are, and with percent signs for special characters."""
    plain = {spelling for secret in secrets if secret for spelling in (secret, unquote(secret))}
    return frozenset(plain | {quote(secret, safe="") for secret in plain} | {quote(secret) for secret in plain})


def hide(text: str, *uris: str) -> str:
    """Return a text without passwords: those in URIs, in the environment and on this process's command line."""
    secrets: set[str] = set()
    for uri in filter(None, (*uris, *surrounding())):
        address = read_address(uri)
        text = text.replace(uri, address.shown)
        secrets |= address.secrets
    for name, value in os.environ.items():
        if name.startswith(("MLFLOW_", "WANDB_")) and name.endswith(SECRET_ENDINGS) and value:
            secrets |= spellings([value])
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def surrounding() -> Iterator[str]:
    """Yield the URIs of trackers in the environment and on this process's command line."""
    yield from (os.environ.get(name, "") for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "WANDB_BASE_URL"))
    yield from (item.partition("tracking.uri=")[2].strip("'\"") for item in sys.argv)
