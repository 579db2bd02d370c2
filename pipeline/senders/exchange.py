"""One HTTP request within a bounded time, and its answer judged. Addresses are never logged: they hold keys."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from importlib.metadata import version

import httpx

from pipeline.alerts.delivery import Undelivered, check_answer

_READ = 2_000  # bytes of an answer, to say why; cut to size only where its secrets have been taken out
_LARGEST = 512 * 1024  # PagerDuty takes no more; nothing that is told needs it


def exchange(
    method: str,
    url: str,
    *,
    now: datetime,
    timeout_s: float,
    content: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Ask, and return where the answer is a success. No redirect is followed.

    Raises Undelivered. The time is that of the whole exchange: a server that drips bytes holds nobody.
    """
    if content is not None and len(content) > _LARGEST:
        raise Undelivered(f"the notification has {len(content):,} bytes, more than {_LARGEST:,}", final=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # below, it logs every address
    asked = {"user-agent": f"oodwatch/{version('oodwatch')}", **(headers or {})}
    try:
        status, said, retry_after = asyncio.run(_ask(method, url, content, asked, timeout_s))
    except TimeoutError as error:
        raise Undelivered(f"no answer within {timeout_s:g} s") from error
    except (httpx.HTTPError, OSError) as error:
        raise Undelivered(str(error) or type(error).__name__) from error
    check_answer(status, said, retry_after=retry_after, now=now)


@cache
def _trusted() -> ssl.SSLContext:
    """Read once: it takes longer than an exchange."""
    return httpx.create_ssl_context()


def _client() -> httpx.AsyncClient:
    return httpx.AsyncClient(timeout=None, follow_redirects=False, verify=_trusted())


async def _ask(
    method: str, url: str, content: bytes | None, headers: Mapping[str, str], timeout_s: float
) -> tuple[int, str, str | None]:
    said = b""
    async with asyncio.timeout(timeout_s), _client() as client:
        request = client.build_request(method, url, content=content, headers=headers)
        response = await client.send(request, stream=True)
        # The status is the answer; what comes after it may be cut off.
        with contextlib.suppress(httpx.HTTPError, TimeoutError):
            if not response.is_success:
                async with asyncio.timeout(timeout_s / 10):
                    async for piece in response.aiter_bytes():
                        said += piece
                        if len(said) >= _READ:
                            break
        await response.aclose()
    return response.status_code, said[:_READ].decode("utf-8", "replace"), response.headers.get("retry-after")
