"""Quality of a value: the OPC UA StatusCode (OPC 10000-4, 7.39), for every protocol.

The two top bits are the severity: 00 good, 01 uncertain, 10 bad. Codes are those of OPC 10000-6, Annex A.
"""

from enum import IntEnum

import numpy as np
import numpy.typing as npt


class StatusCode(IntEnum):
    """The codes this program gives itself. A server may send any other; all 32 bits are kept."""

    GOOD = 0x00000000
    UNCERTAIN = 0x40000000
    UNCERTAIN_LAST_USABLE_VALUE = 0x40900000
    UNCERTAIN_INITIAL_VALUE = 0x40920000
    UNCERTAIN_SENSOR_NOT_ACCURATE = 0x40930000
    UNCERTAIN_DATA_SUB_NORMAL = 0x40A40000
    BAD = 0x80000000
    BAD_INTERNAL_ERROR = 0x80020000
    BAD_COMMUNICATION_ERROR = 0x80050000
    BAD_DECODING_ERROR = 0x80070000
    BAD_TIMEOUT = 0x800A0000
    BAD_INVALID_TIMESTAMP = 0x80230000
    BAD_NO_COMMUNICATION = 0x80310000
    BAD_WAITING_FOR_INITIAL_DATA = 0x80320000
    BAD_NODE_ID_INVALID = 0x80330000
    BAD_NODE_ID_UNKNOWN = 0x80340000
    BAD_NOT_READABLE = 0x803A0000
    BAD_OUT_OF_RANGE = 0x803C0000
    BAD_NOT_SUPPORTED = 0x803D0000
    BAD_TYPE_MISMATCH = 0x80740000
    BAD_CONFIGURATION_ERROR = 0x80890000
    BAD_NOT_CONNECTED = 0x808A0000
    BAD_DEVICE_FAILURE = 0x808B0000
    BAD_SENSOR_FAILURE = 0x808C0000
    BAD_OUT_OF_SERVICE = 0x808D0000
    BAD_RESOURCE_UNAVAILABLE = 0x80040000

    @property
    def words(self) -> str:
        """The code's name as OPC UA writes it, e.g. `BadTimeout`."""
        return self.name.title().replace("_", "")


KEEPS_VALUE = frozenset(
    (StatusCode.BAD_OUT_OF_RANGE, StatusCode.BAD_INVALID_TIMESTAMP, StatusCode.BAD_CONFIGURATION_ERROR)
)
"""Bad codes that a rule gives a reading which has a value: what the device said stands in the row all the same."""

UNREACHED = frozenset(
    (
        StatusCode.BAD_COMMUNICATION_ERROR,
        StatusCode.BAD_TIMEOUT,
        StatusCode.BAD_NO_COMMUNICATION,
        StatusCode.BAD_WAITING_FOR_INITIAL_DATA,
        StatusCode.BAD_NOT_CONNECTED,
    )
)
"""Codes of rows that stand in the place of a reading which did not come: the device could not be asked."""


def is_good(code: int) -> bool:
    """Tell whether the severity bits say good."""
    return code & 0xC0000000 == 0


def is_bad(code: int) -> bool:
    """Tell whether the severity bits say bad."""
    return code & 0x80000000 != 0


def describe(code: int) -> str:
    """Name a code for people: `Good`, `BadTimeout`, or the hexadecimal number when it has no name here."""
    try:
        return StatusCode(code).words
    except ValueError:
        return f"0x{code:08X}"


def bad_mask(quality: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    """Return a boolean array, true where `quality` (uint32, any length) is bad."""
    mask: npt.NDArray[np.bool_] = (quality & np.uint32(0x80000000)) != 0
    return mask
