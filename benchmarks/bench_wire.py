"""Bytes and time a value of the messages, on a plant of 1,000 tags polled or subscribed at 1 Hz."""

import time
from typing import Any

import numpy as np

from edge.core.batch import Batch, Lane
from edge.core.catalogue import Catalogue, ValueKind
from edge.core.delivery import Parcel
from edge.core.zstd import compress
from uplink.encode import decode, encode, series

DEVICES, TAGS = 20, 50
START = 1_767_225_600_000_000_000
TARGETS = {("polled", 60): 0.8, ("polled", 10): 1.4, ("subscribed", 60): 1.8}
REPEATS = 5


def plant(seconds: int, subscribed: bool) -> tuple[Parcel, int]:
    """Return a parcel of the plant's readings, and how many.

    A device has 35 random walks with two decimals, 8 integers, 5 switches and 2 texts. Polled, all values of a device
    have the time of its poll, a millisecond more or less; subscribed, each has its own within 100 ms.
    """
    chance = np.random.default_rng(7)
    catalogue = Catalogue()
    lanes: dict[Lane, list[Batch]] = {lane: [] for lane in Lane}
    for device in range(DEVICES):
        polls = START + np.arange(seconds) * 10**9 + chance.integers(-1, 2, seconds) * 10**6
        for number in range(TAGS):
            kind = (
                ValueKind.FLOAT64 if number < 35 else ValueKind.INT64 if number < 43
                else ValueKind.BOOL if number < 48 else ValueKind.TEXT
            )  # fmt: skip
            tag = catalogue.intern(f"device-{device}", f"tag-{number}", kind)
            own = START + np.arange(seconds) * 10**9 + chance.integers(0, 100, seconds) * 10**6
            ts = own if subscribed else polls
            value: Any
            match kind:
                case ValueKind.FLOAT64:
                    value = np.round(50 + np.cumsum(chance.normal(0, 0.05, seconds)), 2)
                case ValueKind.INT64:
                    value = 1000 + np.cumsum(chance.integers(0, 3, seconds))
                case ValueKind.BOOL:
                    value = (chance.random(seconds) < 0.02).cumsum() % 2
                case _:
                    value = [("RUN", "IDLE", "SETUP")[place] for place in (chance.random(seconds) < 0.02).cumsum() % 3]
            lanes[kind.lane].append(Batch.of(kind.lane, np.full(seconds, tag.id), ts, value))
    batches = []
    for lane, parts in lanes.items():
        whole = Batch.concat(parts)
        by_time = np.argsort(whole.ts, kind="stable")
        batches.append(Batch.of(lane, whole.tag[by_time], whole.ts[by_time], whole.value[by_time]))
    return Parcel(1, 1, tuple(batches)), DEVICES * TAGS * seconds


def main() -> None:
    """Print the figures."""
    print("                     bytes a value   floor¹   encode   decode   (µs CPU a value)")
    for subscribed in (False, True):
        for seconds in (1, 10, 60):
            parcel, values = plant(seconds, subscribed)
            name = "subscribed" if subscribed else "polled"
            encoding, decoding = [], []
            for _ in range(REPEATS):
                began = time.process_time()
                payload = encode(parcel, "chongqing/plant-1")
                between = time.process_time()
                rows = sum(len(each.ts) for each in series(decode(payload)))
                decoding.append((time.process_time() - between) / values * 1e6)
                encoding.append((between - began) / values * 1e6)
                assert rows == values
            raw = b"".join(
                column.tobytes()
                for batch in parcel.records
                if isinstance(batch, Batch) and batch.lane is not Lane.TEXT
                for column in (batch.ts, batch.tag, batch.value)
            )
            floor = len(compress(raw, 3)) / values
            target = TARGETS.get((name, seconds))
            wanted = f"  (target ≤ {target} B, encode ≤ 0.3 µs)" if target else ""
            size = len(payload) / values
            times = f"{min(encoding):8.3f} {min(decoding):8.3f}"
            print(f"{name:>10} {seconds:3d} s {size:12.2f} {floor:10.2f} {times}{wanted}")
    print("¹ the same columns without text as plain numbers, Zstandard level 3")


if __name__ == "__main__":
    main()
