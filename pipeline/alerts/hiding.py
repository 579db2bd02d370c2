"""No secret of a channel leaves it in a text: an address may hold a key anywhere."""

import re
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
    parts = urlsplit(url)
    credentials, _, host = parts.netloc.rpartition("@")
    words = re.split(r"[/&=?]", f"{parts.path}/{parts.query}/{parts.fragment}")
    if host_too:
        words += [host, host.partition(":")[0]]
    return {url, parts.path, *credentials.split(":", 1), *(word for word in words if len(word) >= _SHORTEST)} - {
        "",
        "/",
    }
