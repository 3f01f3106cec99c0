import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge.core.quality import StatusCode, bad_mask, describe, is_bad, is_good

CODES = st.integers(0, 2**32 - 1)


@given(CODES)
def test_severity_is_the_two_top_bits(code: int) -> None:
    assert is_good(code) == (code >> 30 == 0)
    assert is_bad(code) == (code >> 30 >= 2)
    assert bad_mask(np.array([code], np.uint32))[0] == is_bad(code)


def test_codes_have_the_names_of_opc_ua() -> None:
    assert describe(StatusCode.BAD_NODE_ID_UNKNOWN) == "BadNodeIdUnknown"
    assert describe(0x80000001) == "0x80000001"


def test_codes_equal_those_of_an_independent_stack() -> None:
    from asyncua.ua.status_codes import StatusCodes

    for code in StatusCode:
        assert getattr(StatusCodes, code.words) == code
