"""The language of expressions: what it means, what it refuses and where, and that no text does anything else."""

import ast
import math
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import edge.analytics.expression
from edge.analytics.expression.check import FUNCTIONS, Checked, Known, Type, check
from edge.analytics.expression.deadband import widened
from edge.analytics.expression.evaluate import Expression, Values
from edge.analytics.expression.syntax import ExpressionError, Node, parse, parts
from edge.analytics.expression.windows import Result, Window
from edge.core.quality import StatusCode

S = 10**9
TAGS = {
    "cnc-07.load": Known(Type.NUMBER, "%"),
    "cnc-07.state": Known(Type.TEXT),
    "spindle.running": Known(Type.BOOL),
    "pump-3.temperature": Known(Type.NUMBER, "degC"),
    "pump-3.speed": Known(Type.NUMBER, "rpm"),
    "泵-3.温度": Known(Type.NUMBER, "degC"),
    "opc.x": Known(Type.ANY),
    "opc.x[3]": Known(Type.ANY),
}


def checked(text: str) -> Checked:
    return check(text, TAGS.get, lambda: list(TAGS))


def value(text: str, **values: float | int | bool | str) -> object:
    """The value of an expression over the tags t.NAME, all good."""
    held = Values([f"t.{name}" for name in values])
    expression = Expression(text, held)
    for name, each in values.items():
        held.set(f"t.{name}", each, 0)
    return expression.at(0)[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("t.x + 2 * 3 - 4 / 8", 6.5),
        ("(t.x + 2) * 3 % 4", 1),
        ("-t.x + - 2", -3),
        ("t.x - -t.y", 4),
        ("t.x-1", None),
        ("1 < t.y <= 3 and not t.x > 1", True),
        ("not t.x == 1 or t.y > 2", True),
        ("t.x >= 1 and t.y ≠ 4", True),
        ("t.y ≤ 2", False),
        ("if(t.x > 0, t.y, 9)", 3),
        ("min(t.x, t.y, 2)", 1),
        ("max(t.x, 2)", 2),
        ("abs(0 - t.y) + round(2.567, 1) + floor(2.9) + ceil(2.1)", 10.6),
        ("sqrt(t.y * 12)", 6.0),
        ("bit(t.y, 1)", True),
        ("bit(t.y, 2)", False),
        ("t.x == true", True),
        ("t.x / (t.y - 3)", None),
        ("good(t.x)", True),
    ],
)
def test_what_is_written_means_what_people_expect(text: str, expected: object) -> None:
    try:
        found = value(text, x=1, y=3)
    except (ExpressionError, KeyError):
        found = None
    assert found == (pytest.approx(expected) if isinstance(expected, float) else expected)


def test_texts_and_names_in_chinese() -> None:
    assert value("t.状态 == '运行' and t.温度 > 20", 状态="运行", 温度=21.5) is True


def test_no_number_grows_without_a_limit() -> None:
    assert value("round(t.x, 0 - 1e9) + round(t.x, t.y)", x=5, y=10**12) == 5
    assert value("t.x" + " * t.x" * 100, x=2**63) is None
    assert isinstance(value("t.x" + " * t.x" * 10, x=2**63), float)
    window = Values(["t.x"])
    mean = Expression("avg(t.x, 1h)", window)
    for second in range(3):
        window.set("t.x", 1.7e308, 0)
        assert mean.at(second * S)[0] in (1.7e308, None)


def test_counters_are_exact() -> None:
    assert value("t.a - t.b", a=2**63 + 1, b=2**63) == 1


@pytest.mark.parametrize(
    ("text", "kind", "unit"),
    [
        ("cnc-07.load > 80 and spindle.running", Type.BOOL, None),
        ("avg(pump-3.temperature, 5min)", Type.NUMBER, "degC"),
        ("rate(pump-3.temperature)", Type.NUMBER, "degC/s"),
        ("pump-3.temperature * 2", Type.NUMBER, None),
        ("prev(cnc-07.state)", Type.TEXT, None),
        ("if(spindle.running, cnc-07.state, 'off')", Type.TEXT, None),
        ("opc.x[3] + 1", Type.NUMBER, None),
        ("count(cnc-07.state, 1h)", Type.NUMBER, None),
        ("泵-3.温度 - pump-3.temperature", Type.NUMBER, "degC"),
    ],
)
def test_types_and_units(text: str, kind: Type, unit: str | None) -> None:
    found = checked(text)
    assert (found.type, found.unit) == (kind, unit)


@pytest.mark.parametrize(
    ("text", "marked", "words"),
    [
        ("cnc-07.lod > 80", "cnc-07.lod", "did you mean cnc-07.load?"),
        ("pump-3.temperature-5 > 1", "pump-3.temperature-5", "spaces around the minus"),
        ("cnc-7x.load > 80", "cnc-7x.load", "cnc-07.load"),
        ("pump-3.temperature > pump-3.speed", "pump-3.temperature > pump-3.speed", "units differ"),
        ("cnc-07.load > 'x'", "cnc-07.load > 'x'", "a number compared with a text"),
        ("spindle.running + 1", "spindle.running", "if(x, 1, 0)"),
        ("cnc-07.load and spindle.running", "cnc-07.load", "compare it"),
        ("avrg(cnc-07.load, 5min)", "avrg(cnc-07.load, 5min)", "did you mean avg?"),
        ("avg(cnc-07.load)", "avg(cnc-07.load)", "takes 2 arguments, not 1"),
        ("avg(cnc-07.load, 5)", "5", "write e.g. 5min"),
        ("avg(cnc-07.load, 99d)", "99d", "at most 31 days"),
        ("cnc-07.load > 75degC", "75degC", "not a unit of time"),
        ("cnc-07.load && spindle.running", "&", "`and`"),
        ("cnc-07.load = 3", "=", "`==`"),
        ("(cnc-07.load > 3", "(", "never closed"),
        ("cnc-07.load >", ">", "ends too early"),
        ("cnc-07.load load", "load", "device.tag"),
        ("__import__('os')", "_", "means nothing"),
        ("open('f')", "open('f')", "there is no function"),
        ("load > 3", "load", "device.tag"),
        ("1 + 2", "1 + 2", "reads no tag"),
        ("if(spindle.running, 1, 'x')", "if(spindle.running, 1, 'x')", "one branch"),
        ("bit(cnc-07.load, 64)", "64", "0 to 63"),
    ],
)
def test_what_is_wrong_is_refused_at_its_place(text: str, marked: str, words: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        checked(text)
    error = caught.value
    assert text[error.column : error.column + error.length] == marked
    assert words in f"{error.message} {error.hint}"


def tree(text: str) -> Node | ExpressionError:
    try:
        return parse(text)
    except ExpressionError as error:
        return error


def test_depth_and_length_have_limits() -> None:
    for text in ("(" * 41 + "t.x" + ")" * 41, "t.x + " * 500 + "1"):
        found = tree(text)
        assert isinstance(found, ExpressionError)
        assert "more than" in found.message
    for text in ("not " * 400 + "t.x > 1", "-" * 900 + "t.x"):
        found = tree(text)
        assert not isinstance(found, ExpressionError)
        assert len(list(parts(found))) < 10


WORDS = st.sampled_from(
    [
        *(
            "t.x",
            "t.y",
            "cnc-07.load",
            "1",
            "2.5",
            "1e9",
            "5min",
            "'a'",
            "true",
            "and",
            "or",
            "not",
            "(",
            ")",
            ",",
            "+",
        ),
        *(
            "+",
            "-",
            "*",
            "/",
            "%",
            "<",
            "<=",
            "==",
            "!=",
            " ",
            ".",
            "[0]",
            "__class__",
            "lambda",
            ":",
            "{",
            "\\",
            "\x00",
        ),
        *FUNCTIONS,
    ]
)


@given(st.one_of(st.text(max_size=60), st.lists(WORDS, max_size=25).map(" ".join), st.lists(WORDS).map("".join)))
@example("t.x" + "\n" * 3)
def test_any_text_is_a_tree_of_known_nodes_or_a_located_error(text: str) -> None:
    found = tree(text)
    if isinstance(found, ExpressionError):
        assert 0 <= found.column <= len(text)
        assert found.hint
        return
    for part in parts(found):
        assert type(part).__module__ == "edge.analytics.expression.syntax"
        assert 0 <= part.start <= part.end <= len(text)


ANYTHING = st.one_of(st.floats(), st.integers(), st.text(max_size=3), st.booleans())


@given(st.lists(WORDS, max_size=25).map(" ".join), st.lists(ANYTHING, min_size=3, max_size=3))
def test_what_passes_the_check_evaluates_without_an_error_whatever_the_values(text: str, values: list[object]) -> None:
    paths = ["t.x", "t.y", "cnc-07.load"]
    try:
        found = check(text, lambda path: Known(Type.ANY) if path in paths else None, lambda: paths)
    except ExpressionError:
        return
    held = Values(paths)
    expression = Expression(text, held)
    for moment, each in enumerate(values):
        for path in paths:
            held.set(path, each, 0)  # type: ignore[arg-type]
        result, quality = expression.at(moment * S)
        held.touched.clear()
        assert (result is None) == (quality >> 31 == 1)
        assert not isinstance(result, float) or math.isfinite(result)
    assert found.inputs


def test_nothing_in_the_language_runs_text() -> None:
    """No eval, exec, compile, import or attribute of a name that comes from outside."""
    for file in Path(edge.analytics.expression.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec", "compile", "__import__", "getattr", "open"), file


# Quality: what nobody knows.


def results(text: str, **values: tuple[float | bool, int]) -> Result:
    held = Values([f"t.{name}" for name in values])
    expression = Expression(text, held)
    for name, (each, quality) in values.items():
        held.set(f"t.{name}", each, quality)
    return expression.at(0)


BAD, UNCERTAIN = int(StatusCode.BAD_TIMEOUT), int(StatusCode.UNCERTAIN)


def test_bad_and_uncertain_quality_go_through() -> None:
    assert results("t.x + t.y", x=(1, 0), y=(2, BAD)) == (None, BAD)
    assert results("t.x + t.y", x=(1, UNCERTAIN), y=(2, 0)) == (3, UNCERTAIN)
    assert results("t.x > 0", x=(math.nan, 0)) == (None, StatusCode.BAD_OUT_OF_RANGE)
    assert results("good(t.x)", x=(1, BAD)) == (False, 0)


def test_what_the_rest_decides_is_known_all_the_same() -> None:
    assert results("t.x and t.y", x=(False, 0), y=(True, BAD)) == (False, 0)
    assert results("t.x or t.y", x=(False, BAD), y=(True, 0)) == (True, 0)
    assert results("t.x and t.y", x=(True, 0), y=(True, BAD)) == (None, BAD)
    assert results("if(t.x, t.y, 3)", x=(True, 0), y=(2, BAD)) == (None, BAD)
    assert results("if(t.x, 3, t.y)", x=(True, 0), y=(2, BAD)) == (3, 0)


# Windows, against a slow twin.

SAMPLES = st.lists(st.tuples(st.integers(1, 30), st.one_of(st.none(), st.integers(-50, 50))), min_size=1, max_size=30)


@given(SAMPLES, st.integers(5, 60))
def test_windows_agree_with_a_slow_twin(steps: list[tuple[int, int | None]], length: int) -> None:
    window, samples, now = Window(length * S), list[tuple[int, int | None]](), 0
    for step, each in steps:
        now += step
        samples.append((now, each))
        window.add(now * S, each)
        window.forget(now * S)
        # Second by second: what was held, from the first reading on. Windows do not know what was before it.
        held = [_held(samples, second) for second in range(max(now - length, samples[0][0]), now)]
        known = [value for value in held if value is not None]
        inside = [value for at, value in samples if at > now - length and value is not None]
        edge = [_held(samples, now - length)] if now - length >= samples[0][0] else []
        seen = inside + [value for value in edge if value is not None]
        assert window.value("count", now * S)[0] == len(inside)
        assert window.value("sum", now * S)[0] == sum(inside)
        if seen:
            assert window.value("min", now * S)[0] == min(seen)
            assert window.value("max", now * S)[0] == max(seen)
        if known:
            assert window.value("avg", now * S)[0] == pytest.approx(sum(known) / len(known), abs=1e-9)
            assert (window.value("avg", now * S)[1] != 0) == (len(known) < len(held))
        if seen and each is not None:
            start = edge[0] if edge and edge[0] is not None else inside[0]
            assert window.value("delta", now * S)[0] == each - start


def _held(samples: list[tuple[int, int | None]], second: int) -> int | None:
    return next((value for at, value in reversed(samples) if at <= second), None)


def test_a_windows_memory_has_a_bound() -> None:
    window = Window(100 * S)
    for n in range(50_000):
        window.add(n * S // 100, n % 7)
        window.forget(n * S // 100)
    assert len(window.state()[2]) <= 1001
    assert window.value("count", 50_000 * S // 100)[0] == pytest.approx(10_000, rel=2e-3)
    assert window.value("avg", 50_000 * S // 100)[0] == pytest.approx(3, abs=1e-2)


def test_a_dead_band_moves_limits_the_right_way() -> None:
    def stays(text: str, x: float) -> object:
        held = Values(["t.x"])
        expression = Expression(text, held, widened(parse(text), 2))
        held.set("t.x", x, 0)
        return expression.at(0)[0]

    assert (stays("t.x > 75", 73.5), stays("t.x > 75", 73)) == (True, False)
    assert (stays("t.x < 5", 6.5), stays("t.x < 5", 7)) == (True, False)
    assert (stays("not t.x > 75", 76.5), stays("not t.x > 75", 77.5)) == (True, False)
    assert (stays("70 < t.x < 75", 76.5), stays("70 < t.x < 75", 68.5)) == (True, True)
