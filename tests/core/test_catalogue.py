import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core.catalogue import TAG_ID_MAX, Catalogue, Tag, ValueKind
from edge.core.errors import YulinkError

IDENTITIES = st.tuples(
    st.sampled_from(["cnc", "plc"]),
    st.sampled_from(["a", "b"]),
    st.sampled_from(ValueKind),
    st.sampled_from(["", "kW"]),
)


@given(st.lists(IDENTITIES), st.integers(0, 30))
def test_an_id_means_one_tag_for_ever_also_after_reloading(wanted: list[tuple], reload_at: int) -> None:  # type: ignore[type-arg]
    catalogue = Catalogue()
    ids: dict[tuple, int] = {}  # type: ignore[type-arg]
    for step, identity in enumerate(wanted):
        if step == reload_at:
            catalogue = Catalogue(list(catalogue))
        tag = catalogue.intern(*identity)
        assert ids.setdefault(identity, tag.id) == tag.id
        assert catalogue[tag.id] == tag
        assert catalogue.find(*identity[:2]) == tag
    assert len(set(ids.values())) == len(ids) == len(catalogue)


@given(st.lists(IDENTITIES), st.integers(0, 30))
def test_what_is_new_since_an_id_is_exactly_the_higher_ids(wanted: list[tuple], since: int) -> None:  # type: ignore[type-arg]
    catalogue = Catalogue()
    for identity in wanted:
        catalogue.intern(*identity)
    assert [tag.id for tag in catalogue.since(since)] == list(range(since + 1, catalogue.last_id + 1))


def test_ids_go_on_after_the_highest_even_when_lower_ones_are_missing() -> None:
    catalogue = Catalogue([Tag(7, "plc", "a", ValueKind.BOOL)])
    assert catalogue.intern("plc", "b", ValueKind.BOOL).id == 8


def test_another_unit_or_kind_is_another_tag() -> None:
    catalogue = Catalogue()
    kilo = catalogue.intern("meter", "power", ValueKind.FLOAT64, "kW")
    assert catalogue.intern("meter", "power", ValueKind.FLOAT64, "W").id != kilo.id


def test_two_tags_of_one_id_and_an_exhausted_range_are_refused() -> None:
    with pytest.raises(ValueError, match="given twice"):
        Catalogue([Tag(1, "a", "x", ValueKind.BOOL), Tag(1, "b", "y", ValueKind.BOOL)])
    with pytest.raises(YulinkError, match="all tag ids are used"):
        Catalogue([Tag(TAG_ID_MAX, "a", "x", ValueKind.BOOL)]).intern("a", "y", ValueKind.BOOL)


@given(st.integers(0, 2**64 - 1))
def test_unsigned_counters_are_presented_exactly(counter: int) -> None:
    held = counter - 2**64 if counter >= 2**63 else counter
    assert Tag(1, "d", "n", ValueKind.UINT64).present(held) == counter
    assert Tag(1, "d", "n", ValueKind.INT64).present(held) == held
    assert Tag(1, "d", "n", ValueKind.BOOL).present(held) is bool(held)
