import logging
from datetime import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.assembly.handling import alerting_of
from pipeline.assembly.telling import make_channels, make_deadman
from pipeline.errors import UsageError
from pipeline.senders.alertmanager import Alertmanager
from pipeline.senders.pagerduty import URL
from pipeline.settings import ChannelSettings, load_settings
from tests.notified import Clock

SECRET = "s3cret0123456789"


def made(*channels: dict[str, Any]) -> Any:
    return make_channels(load_settings(channels=list(channels)), Clock())


@pytest.fixture
def key(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.write_text(f"{SECRET}\n")
    return file


@pytest.mark.parametrize(
    ("channel", "words"),
    [
        ({"kind": "webhook"}, ["hook (webhook)", "needs url or url_file"]),
        ({"kind": "alertmanager"}, ["needs url or url_file"]),
        ({"kind": "apprise"}, ["needs url or url_file"]),
        ({"kind": "pagerduty"}, ["needs secret_file"]),
        ({"kind": "stdout", "url": f"https://a/{SECRET}"}, ["has no use for url or url_file; leave it out"]),
        ({"kind": "webhook", "url": ""}, ["url is empty"]),
        ({"kind": "webhook", "url": f"ftp://a/{SECRET}"}, ["scheme 'ftp'", "write http://host:port/path or https://"]),
        ({"kind": "webhook", "url": SECRET}, ["scheme 'none'", "write http://host"]),
        ({"kind": "webhook", "url": f"http:///{SECRET}"}, ["write http://host"]),
        ({"kind": "webhook", "url": f"http://a:port/{SECRET}"}, ["cannot be read", "write http://host"]),
        ({"kind": "webhook", "url": f"http://[a/{SECRET}"}, ["cannot be read"]),
        ({"kind": "apprise", "url": f"nothing://{SECRET}"}, ["hook (apprise)", "does not understand the address"]),
        ({"kind": "apprise", "url": f"slack://{SECRET}"}, ["hook (apprise)", "does not understand the address"]),
        (
            {"kind": "webhook", "url": f"http://a/{SECRET}", "url_file": "/nowhere"},
            ["both url and url_file", "keep one"],
        ),
        ({"kind": "webhook", "url_file": "/nowhere/url"}, ["url_file = '/nowhere/url': No such file", "may read"]),
        ({"kind": "smoke"}, ["channels.0.kind = 'smoke'", "webhook"]),
        ({"kind": "webhook", "min_state": "ok"}, ["channels.0.min_state = 'ok'", "'shift', 'warning' or 'critical'"]),
        ({"kind": "webhook", "events": "none"}, ["channels.0.events = 'none'", "'all' or 'pages'"]),
        ({"kind": "webhook", "timeout_seconds": 0}, ["channels.0.timeout_seconds = 0", "greater than 0"]),
        ({"kind": "webhook", "name": "a b"}, ["channels.0.name = 'a b'"]),
        ({"kind": "webhook", "url": ["https://a", SECRET]}, ["channels.0.url: Input should be a valid string"]),
        ({"kind": "webhook", "key": SECRET}, ["channels.0.key: there is no such setting"]),
        ({"url": f"https://a/{SECRET}"}, ["channels.0.kind: Field required"]),
    ],
)
def test_a_wrong_channel_is_refused_with_the_cure_and_without_its_secrets(
    channel: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(UsageError) as refused:
        made({"name": "hook", **channel})
    for word in words:
        assert word in str(refused.value)
    assert SECRET not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe"])
def test_a_key_file_without_a_key_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=r"pd \(pagerduty\): secret_file = .*(write the secret|may read)"):
        made({"name": "pd", "kind": "pagerduty", "secret_file": file})


def test_an_alertmanager_has_no_use_for_a_key(key: Path) -> None:
    with pytest.raises(UsageError, match="no use for secret_file; leave it out"):
        made({"name": "am", "kind": "alertmanager", "url": "http://127.0.0.1:9093", "secret_file": key})


def test_two_channels_of_one_name_and_what_is_no_list_are_refused() -> None:
    with pytest.raises(UsageError, match="two are named 'a'; give each a name of its own"):
        made({"name": "a", "kind": "stdout"}, {"name": "a", "kind": "stdout"})
    with pytest.raises(UsageError, match="setting channels: Input should be a valid tuple") as refused:
        load_settings(channels=SECRET)
    assert SECRET not in str(refused.value)


def test_channels_are_known_by_their_receivers_and_claims_outlast_attempts(key: Path) -> None:
    channels = made(
        {"name": "hook", "kind": "webhook", "url": f"https://u:{SECRET}@hooks.example.com/x/{SECRET}"},
        {"name": "am", "kind": "alertmanager", "url": "http://localhost:9093/prefix/api/v2/alerts/"},
        {"name": "pd", "kind": "pagerduty", "secret_file": key},
        {"name": "chat", "kind": "apprise", "url": f"json://{SECRET}/x", "timeout_seconds": 30},
        {"name": "log", "kind": "stdout"},
    )
    assert [(channel.name, channel.where) for channel in channels] == [
        ("hook", "hooks.example.com"),
        ("am", "localhost:9093"),
        ("pd", "events.pagerduty.com"),
        ("chat", "apprise"),
        ("log", "stdout"),
    ]
    assert [channel.lease.total_seconds() for channel in channels] == [70, 70, 70, 90, 70]
    assert channels[1].teller == Alertmanager("http://localhost:9093/prefix", 10)
    assert channels[2].teller.url == URL
    assert SECRET not in repr(channels)
    assert [SECRET in channel.hide(f"x {SECRET} y") for channel in channels] == [False, True, False, False, True]


def test_plain_http_to_other_machines_is_warned_of_without_the_path(caplog: pytest.LogCaptureFixture) -> None:
    addresses = ("http://127.0.0.1:1/x", "http://localhost/x", "http://[::1]:5/x", "https://a.example.com/x")
    made(*({"name": f"c{i}", "kind": "webhook", "url": url} for i, url in enumerate(addresses)))
    assert caplog.text == ""
    caplog.set_level(logging.WARNING)
    made({"name": "open", "kind": "webhook", "url": f"http://a.example.com:81/{SECRET}"})
    assert "open (webhook): a.example.com:81 is reached over plain http" in caplog.text
    assert SECRET not in caplog.text


def test_channels_come_from_a_file_and_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "oodwatch.toml"
    config.write_text('[[channels]]\nname = "log"\nkind = "stdout"\nmin_state = "shift"\nevents = "all"\n')
    monkeypatch.setenv("OODWATCH_CONFIG", str(config))
    assert load_settings().channels == (ChannelSettings(name="log", kind="stdout", min_state="shift", events="all"),)
    monkeypatch.setenv("OODWATCH_CHANNELS", f'[{{"name": "a", "kind": "webhook", "url": "https://a/{SECRET}"}}]')
    assert [channel.name for channel in load_settings().channels] == ["a"]
    assert SECRET not in repr(load_settings())
    monkeypatch.setenv("OODWATCH_CHANNELS", f'[{{"url": "{SECRET}')
    with pytest.raises(UsageError) as refused:
        load_settings()
    assert SECRET not in str(refused.value)


def test_a_dead_mans_address_is_checked_and_none_is_needed(tmp_path: Path) -> None:
    assert make_deadman(load_settings().deadman, Clock()) is None
    file = tmp_path / "url"
    file.write_text(f"https://hc.example.com/ping/{SECRET}\n")
    deadman = make_deadman(load_settings(deadman={"url_file": file, "interval_seconds": 30}).deadman, Clock())
    assert deadman is not None
    assert deadman.interval.total_seconds() == 30
    assert SECRET not in deadman.hide(f"no route to https://hc.example.com/ping/{SECRET}")
    with pytest.raises(UsageError, match="deadman: the address has scheme 'mailto'"):
        make_deadman(load_settings(deadman={"url": f"mailto:{SECRET}"}).deadman, Clock())
    with pytest.raises(UsageError, match=r"deadman\.interval_seconds = 0\.5") as refused:
        load_settings(deadman={"url": SECRET, "interval_seconds": 0.5})
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("at", "kind", "asks", "words"),
    [
        ("08:00", "stdout", False, "alerts.digest = '08:00': no channel asks for it; write digest = true"),
        ("off", "stdout", True, "out has digest = true, and alerts.digest is 'off'; write a time"),
        ("08:00", "pagerduty", True, "out (pagerduty) can take no digest"),
        ("8:00", "stdout", True, "alerts.digest = '8:00'"),
        ("24:00", "stdout", True, "alerts.digest = '24:00'"),
    ],
)
def test_a_digest_that_would_reach_nobody_is_refused(at: str, kind: str, asks: bool, words: str) -> None:
    channel = {"name": "out", "kind": kind, "digest": asks}
    with pytest.raises(UsageError) as refused:
        make_channels(load_settings(alerts={"digest": at}, channels=[channel]), Clock())
    assert words in str(refused.value)


def test_a_digest_has_a_time_and_channels_that_asked_for_it() -> None:
    settings = load_settings(
        alerts={"digest": "08:00"},
        channels=[{"name": "a", "kind": "stdout"}, {"name": "b", "kind": "stdout", "digest": True}],
    )
    assert len(make_channels(settings, Clock())) == 2
    alerting = alerting_of(settings)
    assert (alerting.digest, [channel.digest for channel in alerting.channels]) == (time(8), [False, True])
