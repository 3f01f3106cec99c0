import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edge.core.section import Duration, Frequency, Pause, Section, Size


class Example(Section):
    """A section with one of each quantity."""

    every: Duration = 1.0
    pause: Pause = 0.0
    room: Size = 1.0
    rate: Frequency = 1.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("200ms", 0.2), ("1s", 1), ("1.5 s", 1.5), ("10min", 600), ("7d", 604800), ("2h", 7200), ("50us", 5e-5)],
)
def test_durations_carry_units(text: str, seconds: float) -> None:
    assert Example(every=text).every == pytest.approx(seconds)  # type: ignore[arg-type]


def test_sizes_and_frequencies_carry_units() -> None:
    example = Example.model_validate({"room": "4 GB", "rate": "6.4 kHz", "pause": "0ms"})
    assert (example.room, example.rate, example.pause) == (4e9, 6400, 0)


@pytest.mark.parametrize(
    ("given_", "message", "hint"),
    [
        (5, "5 has no unit", "write a unit, e.g. 5s"),
        ("5", "5 has no unit", "write a unit, e.g. 5s"),
        ("5 parsecs", "'parsecs' is not a unit", "us, ms, s, min, h, d"),
        ("soon", "'soon' is not a quantity", "write e.g. 10s"),
    ],
)
def test_a_wrong_quantity_says_what_to_write(given_: object, message: str, hint: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Example.model_validate({"every": given_})
    (error,) = raised.value.errors()
    assert message in error["msg"]
    assert hint in error["ctx"]["hint"]


def test_zero_and_negative_times_are_refused_where_they_mean_nothing() -> None:
    for text in ("0s", "-1s"):
        with pytest.raises(ValidationError):
            Example.model_validate({"every": text})
    with pytest.raises(ValidationError):
        Example.model_validate({"pause": "-1ms"})


@given(st.text() | st.integers() | st.floats() | st.none() | st.booleans() | st.lists(st.integers()))
def test_anything_else_is_a_validation_error_and_nothing_worse(anything: object) -> None:
    try:
        Example.model_validate({"every": anything})
    except ValidationError:
        return


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        Example.model_validate({"evry": "1s"})
