"""The catalogue cites its sources, passes the pitch check and gives the published frequencies."""

import pytest

from edge.analytics.condition.bearing.bearings import PITCH_TOLERANCE, bearing, entries, geometry_problem, known_names
from edge.core.errors import WrongInput


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: str(entry["name"]))
def test_every_entry_has_a_source_and_a_possible_geometry(entry: dict[str, object]) -> None:
    assert len(str(entry["source"])) > 20
    found = bearing(str(entry["name"]))
    assert geometry_problem(found.elements, found.element_mm, found.pitch_mm, found.angle_deg) == ""
    if "bore_mm" in entry:
        middle = (float(str(entry["bore_mm"])) + float(str(entry["outside_mm"]))) / 2
        assert abs(found.pitch_mm - middle) / found.pitch_mm < PITCH_TOLERANCE
    else:
        assert entry["name"] == "NICE"
        assert "not published" in str(entry["source"])
    orders = entry["orders"]
    assert isinstance(orders, dict)
    assert found.is_inferred is (len(orders) < 4), "a geometry stands on all four frequencies, or is marked"
    for family, published in orders.items():
        assert found.orders[family] == pytest.approx(published, abs=6e-4), family


def test_the_identities_of_kinematics() -> None:
    for name in known_names():
        found = bearing(name)
        assert found.orders["bpfo"] + found.orders["bpfi"] == pytest.approx(found.elements)
        assert found.orders["bpfo"] == pytest.approx(found.elements * found.orders["ftf"])


@pytest.mark.parametrize("name", ["6205", "SKF 6205", "6205-2RS JEM SKF", "6205-2Z/C3", "fag 6205.2rsr", "6205ETN9"])
def test_makers_and_suffixes_do_not_matter(name: str) -> None:
    assert bearing(name).name == "6205"


def test_dimensions_stand_for_a_name() -> None:
    assert bearing("balls=9,ball=7.94,pitch=39.04").orders == bearing("6205").orders


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("6204", "did you mean 6205"),
        ("xyz", "known: 6205"),
        ("balls=9,ball=7.94", "write e.g. balls=9"),
        ("balls=9,ball=x,pitch=3", "write e.g. balls=9"),
        ("balls=20,ball=7.94,pitch=39.04", "data sheet"),
        ("balls=9,ball=79.4,pitch=39.04", "data sheet"),
    ],
)
def test_what_is_no_bearing_is_refused_with_the_next_step(given: str, words: str) -> None:
    with pytest.raises(WrongInput) as refused:
        bearing(given)
    assert words in refused.value.hint
