import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.alerts.attribution import OTHER, Counted, attribute, hundred, is_significant, normal_share

PARTS = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=3),
    st.builds(Counted, n=st.integers(0, 10_000), k=st.integers(0, 5_000), q=st.floats(0, 0.5)),
    max_size=30,
)


@given(PARTS)
def test_shares_of_whatever_is_counted_sum_to_exactly_one_hundred(parts: dict[str, Counted]) -> None:
    shares = attribute(parts)
    assert sum(share.percent for share in shares) == (100 if any(part.excess > 0 for part in parts.values()) else 0)
    assert all(share.percent > 0 for share in shares)
    assert len(shares) <= 9


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20).filter(lambda amounts: sum(amounts) > 0))
def test_largest_remainders_are_never_off_by_a_percent(amounts: list[float]) -> None:
    percents = hundred(amounts)
    assert sum(percents) == 100
    for amount, percent in zip(amounts, percents, strict=True):
        assert abs(100 * amount / sum(amounts) - percent) < 1 + 1e-9


def test_a_segment_with_fewer_flags_than_normal_has_no_share_and_lets_no_other_have_more_than_all() -> None:
    shares = attribute(
        {"east": Counted(100, 35, 0.05), "north": Counted(1000, 10, 0.05), "south": Counted(100, 15, 0.05)}
    )
    assert [(share.name, share.percent) for share in shares] == [("east", 75), ("south", 25)]
    assert shares[0].share == 0.35


def test_parts_that_do_not_stand_out_are_other_where_one_does() -> None:
    parts = {"east": Counted(1000, 850, 0.05), "north": Counted(1000, 55, 0.05), OTHER: Counted(1000, 245, 0.05)}
    assert [(share.name, share.percent) for share in attribute(parts)] == [("east", 80), (OTHER, 20)]


def test_where_nothing_is_in_excess_nothing_is_shared_out() -> None:
    assert attribute({"east": Counted(100, 4, 0.05)}) == ()
    assert attribute({}) == ()
    with pytest.raises(ValueError, match="cannot be shared out"):
        hundred([0.0])


def test_a_new_segment_is_held_against_all_the_others() -> None:
    assert normal_share(0, 0, 0.05) == 0.05
    assert normal_share(300, 1000, 0.05) == pytest.approx(310 / 1200)


def test_bursts_count_for_less() -> None:
    part = Counted(1000, 85, 0.05)
    assert is_significant(part, d=1)
    assert not is_significant(part, d=4)


def test_the_part_that_is_asked_about_is_named_however_small() -> None:
    parts = {"gate": Counted(10_000, 8_000, 0.05), "hall": Counted(500, 45, 0.05), "press": Counted(500, 40, 0.05)}
    assert [share.name for share in attribute(parts)] == ["gate"]
    named = attribute(parts, named="hall")
    assert [(share.name, share.excess) for share in named] == [("gate", 7500), ("hall", 20)]
    assert [share.name for share in attribute(parts, shown=1, named="hall")] == ["hall", OTHER]
    assert attribute(parts, named="dock") == attribute(parts)
