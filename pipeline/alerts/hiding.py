"""No secret of a channel leaves it in a text: an address may hold a key anywhere."""

import re
from base64 import b64encode
from collections.abc import Callable, Iterable
from urllib.parse import unquote, urlsplit

#: Shorter words of a path or query are such as `api`: hidden, they would only blot the text.
_SHORTEST = 6
HIDDEN = "***"


def hider(secrets: Iterable[str]) -> Callable[[str], str]:
    """A function that replaces each of these, written as it is or decoded, longest first."""
    known = {form for secret in secrets for form in (secret, unquote(secret)) if form}
    ordered = sorted(known, key=len, reverse=True)

    def hide(text: str) -> str:
        for secret in ordered:
            text = text.replace(secret, HIDDEN)
        return text

    return hide


def secrets_in(url: str, *, host_too: bool = False) -> set[str]:
    """What must not be shown of an address: the whole, its credentials, and the long words of path and query.

    `host_too` is for addresses whose host may be a key as well, as of Apprise.
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # whoever uses it says so
        return {url}
    credentials, _, host = parts.netloc.rpartition("@")
    words = re.split(r"[/&=?]", f"{parts.path}/{parts.query}/{parts.fragment}")
    if host_too:
        words += [host, host.partition(":")[0]]
    basic = b64encode(unquote(credentials).encode()).decode()  # as it goes over the wire
    found = {url, parts.path, basic, *credentials.split(":", 1)}
    return (found | {word for word in words if len(word) >= _SHORTEST}) - {"", "/"}
