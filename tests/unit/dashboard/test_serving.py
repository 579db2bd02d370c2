import socket

import pytest

from dashboard import markup
from dashboard.serving import Place, is_loopback, listen
from pipeline.errors import EnvironmentFault, UsageError


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_this_machine_alone_needs_no_sign_in(address: str) -> None:
    Place(address).check()
    assert is_loopback(address)


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.0.0.5", "watch.example.org"])
def test_an_address_that_others_reach_is_refused_where_nobody_asks_who_is_there(address: str) -> None:
    with pytest.raises(UsageError, match="--insecure"):
        Place(address).check()
    Place(address, insecure=True).check()
    Place(address, user_header="X-Forwarded-Email").check()


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
        markup.pictures([markup.Thumb(None, evil, evil, True), markup.Thumb(b"x", evil, evil, False)]),
        markup.bars([(evil, 0.1, 0.2, evil, True)]),
        markup.signals([(evil, evil, False, (0.1, None, 0.2))], "#123456"),
        markup.note(evil),
        markup.empty(evil, [evil], evil),
        markup.heading(evil, evil),
        markup.title(evil, evil),
        markup.table([evil], []),
    ]
    assert not [text for text in shown if "<img src=x" in text or "onerror=alert(1)>" in text]
