"""Notices in good time that a certificate ends, and what was decided about those of servers: both become events."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from drivers.api import CertificateState
from edge.core.batch import Event, Record, Severity
from edge.core.clock import Clock, iso8601
from edge.core.language import say
from edge.core.trust import TrustList

CHECK_S = 600.0
DECISIONS_S = 5.0
DAY_NS = 86_400 * 10**9
WARNED_DAYS = (0, 1, 7, 30)
"""How many days before the end it is told, each once."""

log = logging.getLogger("yulink.certificates")


async def watch_certificates(
    clock: Clock,
    put: Callable[[Record], Awaitable[None]],
    certificates: Callable[[], Mapping[str, Sequence[CertificateState]]],
) -> None:
    """Look at the certificates in use every ten minutes until cancelled; each step nearer to an end is one event."""
    told: dict[tuple[str, str], int] = {}
    while True:
        await clock.sleep(CHECK_S)
        for device, states in certificates().items():
            for state in states:
                step = next((days for days in WARNED_DAYS if state.not_after - clock.now() <= days * DAY_NS), None)
                if step is None or told.get((device, state.thumbprint), WARNED_DAYS[-1] + 1) <= step:
                    continue
                told[device, state.thumbprint] = step
                log.warning("%s: %s", device, words(state, clock.now()))
                severity = Severity.HIGH if step <= 1 else Severity.MEDIUM
                facts: dict[str, str | int | float | bool | None] = {
                    "thumbprint": state.thumbprint,
                    "whose": state.whose,
                    "not_after": state.not_after,
                }
                days = days_left(state.not_after, clock.now())
                end = f"ends in {days} days" if days >= 0 else f"ended on {iso8601(state.not_after)[:10]}"
                message = f"{device}: a certificate ({state.whose}) {end}"
                await put(Event(clock.now(), device, "certificate_ends", severity, message, facts))


async def watch_decisions(clock: Clock, put: Callable[[Record], Awaitable[None]], trust: TrustList) -> None:
    """Put each decision about a certificate, made while the agent ran or not, into the log once, until cancelled."""
    while True:
        for known, device in await asyncio.to_thread(trust.untold):
            certificate, seen = known.certificate, known.devices[device]
            despite = f" despite {', '.join(seen.despite)}" if seen.despite else ""
            message = f"{device}: certificate {certificate.thumbprint[:12]} was {seen.state}{despite}"
            facts: dict[str, str | int | float | bool | None] = {
                "thumbprint": certificate.thumbprint,
                "by": seen.by or "operator",
                "who": seen.who,
                "decided": seen.decided,
            }
            await put(Event(clock.now(), device, f"certificate_{seen.state}", Severity.MEDIUM, message, facts))
            with contextlib.suppress(OSError):  # it is told once more then
                await asyncio.to_thread(trust.mark_told, known, device)
        await clock.sleep(DECISIONS_S)


def days_left(not_after: int, now: int) -> int:
    """Return the whole days until an end, negative after it."""
    return (not_after - now) // DAY_NS


def words(state: CertificateState, now: int) -> str:
    """Return what to say of a certificate that ends soon, or has ended."""
    days = days_left(state.not_after, now)
    if state.whose == "own" and days < 0:
        return say("our certificate {thumbprint} has ended", thumbprint=state.thumbprint[:12])
    if state.whose == "own":
        return say("our certificate {thumbprint} ends in {days} days", thumbprint=state.thumbprint[:12], days=days)
    if days < 0:
        return say("the server's certificate ended on {day}: renew it there", day=iso8601(state.not_after)[:10])
    return say("the server's certificate ends in {days} days: renew it there", days=days)
