"""Addresses of servers that may carry a password: what of them may be shown and written down."""

import os
import re

_SECRET_PARAMETERS = re.compile(r"(?<=[?&])[^=&#]*(?:password|secret|token)[^=&#]*=[^&#]*&?", re.IGNORECASE)


def without_password(address: str) -> str:
    """The address without the password before its host and without parameters that are secrets.

    What is no proper URL loses all that could be a password.
    """
    scheme, separator, rest = address.partition("://")
    if not separator:
        return re.sub(r":.*@", "@", address) if "@" in address else address
    end = min((rest.index(sign) for sign in "/?#" if sign in rest), default=len(rest))
    host = rest[:end]
    if "@" in host:
        user, _, place = host.rpartition("@")
        rest = f"{user.partition(':')[0]}@{place}{rest[end:]}"
    elif "@" in rest and ":" in host and not host.rpartition(":")[2].isdigit():
        # A password with a slash that is not written as %2F.
        rest = f"{host.partition(':')[0]}@{rest.rpartition('@')[2]}"
    plain = _SECRET_PARAMETERS.sub("", rest).rstrip("&")
    return f"{scheme}://{plain.removesuffix('?')}"


def with_password(address: str, variable: str) -> str:
    """The address as the environment variable has it, where that names the same place, else as it is."""
    given = os.environ.get(variable)
    return given if given and same_place(given, address) else address


def same_place(one: str | None, other: str | None) -> bool:
    """Whether two addresses differ in their passwords at most; None is a place of its own."""
    if one is None or other is None:
        return one is other
    return without_password(one) == without_password(other)
