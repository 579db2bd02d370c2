from hypothesis import given
from hypothesis import strategies as st

from pipeline.alerts.hiding import hider, secrets_in


def test_nothing_of_an_address_that_may_be_a_key_is_left() -> None:
    url = "https://ann:pa%24s@hooks.example.com:8443/services/T0AB12CD/B9x8y7z6?token=s3cr3tvalue&n=1"
    hide = hider(secrets_in(url))
    said = f"POST {url}: /services/T0AB12CD/B9x8y7z6 as ann with pa$s at hooks.example.com, token s3cr3tvalue"
    hidden = hide(said)
    assert hidden == "POST ***: *** as *** with *** at hooks.example.com, token ***"


def test_the_host_of_an_apprise_address_is_hidden_too() -> None:
    hide = hider(secrets_in("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdn", host_too=True))
    assert hide("T1JJ3T3L2 and A1BRTD4JD and TIiajkdn") == "*** and *** and ***"


@given(st.text(), st.lists(st.text(), max_size=4))
def test_hiding_never_leaves_a_secret_of_four_or_more_letters(text: str, secrets: list[str]) -> None:
    hidden = hider(secrets)(text + "".join(secrets))
    assert not any(secret in hidden for secret in secrets if len(secret) >= 4 and "*" not in secret)
