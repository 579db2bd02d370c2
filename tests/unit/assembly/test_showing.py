from pathlib import Path

import pytest

from dashboard.gates import LOOPBACK, Proxy
from pipeline.assembly.showing import place_of
from pipeline.errors import UsageError
from pipeline.settings import load_settings


def test_a_proxy_is_trusted_from_its_networks_with_the_secret_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret of the proxy\n")
    given = {"user_header": "X-User", "proxies": ["10.0.0.0/24"], "proxy_secret_file": tmp_path / "secret"}
    place = place_of(load_settings(dashboard=given).dashboard)
    assert place.proxy == Proxy("X-User", ("10.0.0.0/24",), "s3cret of the proxy")
    assert place_of(load_settings(dashboard={"user_header": "X-User"}).dashboard).proxy == Proxy("X-User", LOOPBACK)
    assert place_of(load_settings().dashboard).proxy is None


def test_secrets_of_a_sign_in_come_from_files_and_a_file_without_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "client").write_text("client's secret\n")
    (tmp_path / "cookie").write_text(" \n")
    oidc = {
        "server_metadata_url": "https://id.example.org/.well-known/openid-configuration",
        "client_id": "oodwatch",
        "client_secret_file": tmp_path / "client",
        "redirect_uri": "https://watch.example.org/oauth2callback",
        "cookie_secret_file": tmp_path / "cookie",
    }
    with pytest.raises(UsageError, match=r"oidc\.cookie_secret_file = .*cookie': the file is empty"):
        place_of(load_settings(dashboard={"oidc": oidc}).dashboard)
    (tmp_path / "cookie").write_text("c" * 32)
    provider = place_of(load_settings(dashboard={"oidc": oidc}).dashboard).provider
    assert provider is not None
    assert provider.secrets()["auth"]["client_secret"] == "client's secret"
    assert (provider.host, provider.origin) == ("watch.example.org", "https://watch.example.org")
    (tmp_path / "client").unlink()
    with pytest.raises(UsageError, match=r"oidc\.client_secret_file = .*No such file"):
        place_of(load_settings(dashboard={"oidc": oidc}).dashboard)
