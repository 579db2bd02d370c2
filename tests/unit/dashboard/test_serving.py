import socket
from dataclasses import replace

import pytest

from dashboard import markup
from dashboard.gates import Proxy
from dashboard.serving import Place, is_loopback, listen
from dashboard.signing_in import Provider
from pipeline.errors import EnvironmentFault, UsageError

PROVIDER = Provider("https://id.example/", "us", "secret", "https://watch.example/oauth2callback", "c" * 32)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_this_machine_alone_needs_no_sign_in(address: str) -> None:
    Place(address).check()
    assert is_loopback(address)


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.0.0.5", "watch.example.org"])
def test_an_address_that_others_reach_is_refused_where_nobody_asks_who_is_there(address: str) -> None:
    with pytest.raises(UsageError, match="--insecure"):
        Place(address).check()
    Place(address, insecure=True).check()
    with pytest.raises(UsageError, match=r"anybody could send the header X-User.*proxy_secret_file"):
        Place(address, proxy=Proxy("X-User")).check()
    Place(address, proxy=Proxy("X-User", secret="s" * 16)).check()
    for where in (address, "127.0.0.1"):
        with pytest.raises(UsageError, match=r"15 characters can be guessed.*at least 16") as refused:
            Place(where, proxy=Proxy("X-User", secret="s" * 15)).check()
        assert "sss" not in str(refused.value)
    Place(address, provider=PROVIDER).check()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"redirect_uri": "https://watch.example/"}, "with /oauth2callback behind it"),
        ({"redirect_uri": "http://watch.example/oauth2callback"}, "without https"),
        ({"cookie_secret": "short"}, "5 characters can be guessed"),
    ],
)
def test_a_sign_in_that_is_none_is_refused(change: dict[str, str], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        Place(provider=replace(PROVIDER, **change)).check()


def test_a_proxy_and_a_sign_in_here_exclude_one_another() -> None:
    with pytest.raises(UsageError, match="either a proxy in front signs people in, or here"):
        Place(proxy=Proxy("X-User"), provider=PROVIDER).check()


def test_an_address_that_is_taken_is_said_with_the_cure() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(EnvironmentFault, match="--port"):
            listen(Place(port=taken.getsockname()[1]))


def test_strangers_texts_never_become_markup() -> None:
    evil = "<img src=x onerror=alert(1)>\"'&"
    shown = [
        markup.trust_strip(evil, evil, evil, [evil], old=True, refreshed=evil),
        markup.verdict("shift", evil, [evil]),
        markup.pictures([markup.Thumb(shown, evil, evil, True) for shown in (None, b"x", markup.HIDDEN)]),
        markup.bars([(evil, 0.1, 0.2, evil, True)]),
        markup.signals([(evil, evil, False, (0.1, None, 0.2))], "#123456"),
        markup.note(evil),
        markup.empty(evil, [evil], evil),
        markup.heading(evil, evil),
        markup.title(evil, evil),
        markup.table([evil], []),
    ]
    assert not [text for text in shown if "<img src=x" in text or "onerror=alert(1)>" in text]
