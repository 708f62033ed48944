"""Where an alias keeps its entries, as people may see it: no user name, password or token.

What cannot be told apart from a secret is taken for one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from os import PathLike
from typing import Any

from django.conf import settings

HIDDEN = "***"

#: Shown of an address that is longer.
LONGEST = 200

#: What may be shown of a query; anything else there may be a password.
_HARMLESS = frozenset({"db", "protocol", "timeout", "socket_timeout", "socket_connect_timeout"})

_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*://"
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]*\]|[^\s:/?#]*)(:[0-9]*)?([/?#]|$)")


def shown_location(alias: str) -> list[str]:
    """Return the LOCATION of `alias` as lines to be shown; empty where there is none."""
    entry: Mapping[str, Any] = settings.CACHES.get(alias, {})
    return list(_lines(entry.get("LOCATION")))


def masked(text: str) -> str:
    """Return an address, or several in one string, without what may be secret."""
    parts = re.split(rf"([;,]\s*)(?={_SCHEME})", text)
    shown = "".join(part if index % 2 else _address(part) for index, part in enumerate(parts))
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}…"


def masked_in_prose(text: str) -> str:
    """Return a message with the addresses in it masked as above."""
    return re.sub(rf"{_SCHEME}\S*", lambda found: _address(found.group()), text)


def _lines(location: object) -> list[str]:
    if location is None or location == "":
        return []
    if isinstance(location, str | PathLike):
        return [masked(str(location))]
    if isinstance(location, tuple) and _is_host_and_port(location):
        return [f"{masked(str(location[0]))}:{location[1]}"]
    if isinstance(location, list | tuple | set | frozenset):
        return [line for part in location for line in _lines(part)]
    return [f"({type(location).__name__})"]  # a dict, an object: nobody knows what it holds


def _is_host_and_port(location: tuple[object, ...]) -> bool:
    return (
        len(location) == 2  # noqa: PLR2004 - (host, port)
        and isinstance(location[0], str)
        and isinstance(location[1], int)
    )


def _address(text: str) -> str:
    found = re.match(_SCHEME, text)
    scheme, rest = (found.group(), text[found.end() :]) if found else ("", text)
    if not scheme and rest.startswith("/"):  # a path: an @ in it ends no password
        return _place(rest)
    user, at, place = rest.rpartition("@")
    if "?" in user or (scheme and not _HOST.match(place)):
        # The @ may be of a password in the query; what is no port may be what is left of one.
        return f"{scheme}{HIDDEN}"
    shown_user = f":{HIDDEN}" if user.startswith(":") else HIDDEN
    return f"{scheme}{shown_user if at else ''}{at}{_place(place)}"


def _place(place: str) -> str:
    """Return host and path, and of a query what is harmless."""
    path, *query = re.split(r"[?#]", place, maxsplit=1)
    return path + "".join(
        f"?{'&'.join(map(_parameter, re.split('[&;#]', part)))}" for part in query
    )


def _parameter(part: str) -> str:
    name, equals, value = part.partition("=")
    if name.lower() in _HARMLESS and re.fullmatch(r"[0-9.]*", value):
        return part
    return f"{name}={HIDDEN}" if equals else HIDDEN
