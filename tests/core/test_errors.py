from edge.core.errors import ConfigError, Disconnected, Problem


def test_an_error_says_what_happened_and_what_to_do() -> None:
    assert str(Disconnected("plc-1 refused the connection", hint="check its address")) == (
        "plc-1 refused the connection (check its address)"
    )
    assert str(Disconnected("cut")) == "cut"


def test_a_configuration_error_keeps_every_problem() -> None:
    error = ConfigError([Problem(("devices", "a"), "first"), Problem(("log", "keep"), "second")])
    assert len(error.problems) == 2
    assert str(error) == "devices.a: first; log.keep: second"
