"""The agent: devices → log → uplink, started and stopped in the order that loses nothing."""

import asyncio
import difflib
import logging
import resource
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from buffer.log import Log, open_log
from buffer.quarantine_view import unknown_uplink
from drivers.api import CertificateState, Certified, Counting, DeviceContext, Scheduled, Shared
from edge.agent import quality_watch
from edge.agent.analytics import FOLLOWER, Analytics, DerivedTag
from edge.agent.bookkeeping import keep
from edge.agent.certificate_watch import watch_certificates, watch_decisions
from edge.agent.clock_watch import ClockHealth, watch
from edge.agent.configuration.rules import rules_of
from edge.agent.configuration.settings import Device, Settings
from edge.agent.health import Rate, facts
from edge.agent.in_log import InLog
from edge.agent.ingest import Ingest
from edge.agent.memory import give_back_now_and_then, memory_mb
from edge.agent.quality_watch import QualityWatch
from edge.agent.running import Running
from edge.agent.status import serve_status
from edge.agent.supervise import DeviceHealth, Supervisor
from edge.agent.tallying import HOUR_S, Tallying
from edge.core.batch import Event, Record, Severity
from edge.core.catalogue import TAG_ID_MAX, Catalogue
from edge.core.clock import Clock, SystemClock
from edge.core.data_class import DataClass
from edge.core.errors import LogError, WrongInput
from edge.core.language import say
from edge.core.ledger import Line, Tally
from edge.core.trust import TrustList
from uplink.api import Uplink, UplinkContext
from uplink.catalogue import Equipment
from uplink.kinds import kind_of
from uplink.section import UplinkSection
from uplink.statement import Signer, quality_statement, statement

LOG_NAME = "log.sqlite3"
KERNELS_NAME = "kernels"
DERIVED_PROTOCOL = "derived"
FLUSH_DEADLINE_S = 5.0
FINISH_DEADLINE_S = 2.0
DRAIN_DEADLINE_S = 6.0
EVENTS_SHOWN_MAX = 50

log = logging.getLogger("yulink.agent")


def first_tag_id(clock: Clock) -> int:
    """Return the least id for new tags: the seconds since 2024.

    A data directory that was deleted or restored has forgotten which ids the brain knows; later ids are surely new.
    """
    return min(max(clock.now() // 10**9 - 1_704_067_200, 1), TAG_ID_MAX // 2)


def _fixed(settings: Settings) -> tuple[object, ...]:
    """Return what cannot change while the agent runs."""
    return settings.site, settings.timezone, settings.uplinks, settings.log, settings.quality


class Agent:
    """One gateway at work. `async with` nothing: call `run` once.

    The data's way is lexical: the log is open around the uplink, the uplink runs around the intake, so
    stopping closes the intake first, then drains, then closes the log.
    """

    def __init__(self, settings: Settings, data_dir: Path, clock: Clock | None = None) -> None:
        self.settings = settings
        self._data_dir = data_dir
        self._clock = clock or SystemClock()
        self._started = self._clock.monotonic()
        self._stop = asyncio.Event()
        self._running: dict[str, Running] = {}
        self._shared = Shared()
        self._events: deque[dict[str, Any]] = deque(maxlen=EVENTS_SHOWN_MAX)
        self._events_total = 0
        self._log: Log | None = None
        self._uplinks: dict[str, Uplink] = {}
        self._analytics: Analytics | None = None
        self._deriving: asyncio.Task[None] | None = None
        self._quality: QualityWatch | None = None
        self._counting: asyncio.Task[None] | None = None
        self._derived: dict[str, dict[str, DerivedTag]] = {}
        self._signer = self._find_signer()
        self._clock_health = ClockHealth()
        self._rate = Rate(self._clock)

    def stop(self) -> None:
        """Ask `run` to drain and return. Safe to call from a signal handler of the loop."""
        self._stop.set()

    async def run(self) -> None:
        """Run until `stop`, then drain within the deadline.

        Cancelling stops without draining; nothing durable is lost. Anything unexpected ends the process:
        the service manager restarts it and the log makes that cheap.
        """
        self._data_dir.mkdir(parents=True, exist_ok=True)
        limits = self.settings.log
        secret, secret_before = self.settings.log_secrets()
        async with AsyncExitStack() as closing:
            self._log = await closing.enter_async_context(
                open_log(
                    self._data_dir / LOG_NAME,
                    self._clock,
                    consumers={section.name: section.only for section in self.settings.uplinks},
                    followers=[quality_watch.FOLLOWER, *([FOLLOWER] if self.settings.analytics else [])],
                    commit_interval_s=limits.commit,
                    keep_s=limits.keep,
                    bytes_max=limits.max,
                    free_min=limits.free,
                    aggregates_s=limits.aggregates,
                    first_tag_id=first_tag_id(self._clock),
                    secret=secret,
                    secret_before=secret_before,
                )
            )
            orders = {"quarantine_retry": self._retry, "alarm": self._request}
            await closing.enter_async_context(serve_status(self._data_dir, self.describe, orders))
            async with asyncio.TaskGroup() as flow:
                delivering = self._start_uplinks(flow)
                self._start_analytics(flow)
                self._start_counting(flow)
                async with asyncio.TaskGroup() as intake:
                    self._intake = intake
                    watching = [
                        intake.create_task(watch(self._clock, self._put, self._clock_health), name="clock"),
                        intake.create_task(
                            watch_certificates(self._clock, self._put, self._certificates), name="certificates"
                        ),
                        intake.create_task(
                            watch_decisions(self._clock, self._put, TrustList(self._data_dir)), name="decisions"
                        ),
                        intake.create_task(give_back_now_and_then(self._clock), name="memory"),
                        intake.create_task(keep(self._log, self._clock, self._tellers, self._statement), name="ledger"),
                    ]
                    await self._note("gateway_started", f"Yulink {version('yulink')} started")
                    for device in self.settings.devices.values():
                        self._start_device(device)
                    await self._stop.wait()
                    log.info(say("stopping: devices first, then what is left goes out"))
                    for task in (*watching, *(running.task for running in self._running.values())):
                        task.cancel()
                self._shared.close()
                await self._drain(delivering)

    def _find_signer(self) -> Signer | None:
        """Return what signs the ledger: the certificate of the first uplink that has one."""
        identities = (getattr(section, "identity", None) for section in self.settings.uplinks)
        identity = next((each for each in identities if each), None)
        return Signer(self.settings.site, Path(identity)) if identity else None

    def _tellers(self) -> list[Callable[[], Awaitable[None]]]:
        return [running.tell for running in self._running.values()]

    def _certificates(self) -> dict[str, Sequence[CertificateState]]:
        return {
            name: running.driver.certificates
            for name, running in self._running.items()
            if isinstance(running.driver, Certified)
        }

    def _statement(self, line: Line, now: int) -> Event:
        return statement(line, self.settings.site, now, self._signer)

    def _start_uplinks(self, flow: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        assert self._log is not None
        if not self.settings.uplinks:
            log.warning(say("no uplink is configured: readings stay in the log"))
        for section in self.settings.uplinks:
            outbox = self._log.outbox(section.name)
            context = UplinkContext(
                self.settings.site, outbox, self._clock, self._equipment, self._put, self._tell_health
            )
            self._uplinks[section.name] = kind_of(section).create(section, context)
        return [flow.create_task(uplink.run(), name=f"uplink {name}") for name, uplink in self._uplinks.items()]

    def _start_analytics(self, flow: asyncio.TaskGroup) -> None:
        assert self._log is not None
        if self.settings.analytics is None:
            return
        self._analytics = Analytics(
            self.settings.analytics,
            self._log.followers[FOLLOWER],
            self._log.catalogue,
            self._clock,
            self._data_dir / KERNELS_NAME,
            self._know_derived,
            self._note_event,
        )
        self._deriving = flow.create_task(self._analytics.run(), name="analytics")

    def _start_counting(self, flow: asyncio.TaskGroup) -> None:
        assert self._log is not None

        def tell(device: str, facts: Mapping[str, Any], now: int) -> Event:
            return quality_statement(device, facts, self.settings.site, now, self._signer)

        self._quality = QualityWatch(
            self._log.followers[quality_watch.FOLLOWER],
            self._log.catalogue,
            self._clock,
            ZoneInfo(self.settings.timezone),
            self.settings.quality.timely,
            lambda: [each for running in self._running.values() for each in running.watched(self._catalogue)],
            lambda: dict(each for running in self._running.values() for each in running.repeated),
            lambda: {name: running.ingest.state() for name, running in self._running.items()},
            tell,
        )
        self._counting = flow.create_task(self._quality.run(), name="data quality")

    @property
    def _catalogue(self) -> Catalogue:
        assert self._log is not None
        return self._log.catalogue

    def _know_derived(self, tags: Sequence[DerivedTag]) -> None:
        """Take up which tags analytics make: what the catalogue tells of them, and how dear they are."""
        self._derived = {}
        for tag in tags:
            self._derived.setdefault(tag.device, {})[tag.name] = tag
        for device in self._derived:
            self._tell_classes(device)

    def _tell_classes(self, name: str) -> None:
        assert self._log is not None
        device = self.settings.devices.get(name)
        classes = {tag: each.data_class for tag, each in self._derived.get(name, {}).items()}
        if device is not None:
            classes |= {tag: DataClass[each.data_class.upper()] for tag, each in device.section.tags.items()}
        self._log.classes.tell(name, {tag: each for tag, each in classes.items() if each is not DataClass.TELEMETRY})

    def _tell_health(self) -> dict[str, Any]:
        assert self._log is not None
        devices = [running.health for running in self._running.values()]
        return facts(devices, self._rate, self._log.statistics(), self._clock_health)

    def _equipment(self) -> dict[str, Equipment]:
        """Return what the catalogue tells of each device beyond its tags."""
        inputs = {device: {name: tag.inputs for name, tag in tags.items()} for device, tags in self._derived.items()}
        told = {
            name: Equipment(
                device.spec.kind,
                device.section.path,
                {tag: each.classification for tag, each in device.section.tags.items() if each.classification},
                inputs.get(name, {}),
            )
            for name, device in self.settings.devices.items()
        }
        return {name: Equipment(DERIVED_PROTOCOL, inputs=of) for name, of in inputs.items()} | told

    async def _drain(self, delivering: Sequence[asyncio.Task[None]]) -> None:
        assert self._log is not None
        try:
            async with asyncio.timeout(FLUSH_DEADLINE_S):
                await self._note("gateway_stopped", "stopped on request")
                await self._log.flush()
                await self._finish_analytics()
                await self._finish_counting()
        except TimeoutError:
            log.error(say("the log cannot be written: nothing more is sent either"))
        else:
            await asyncio.gather(*(uplink.drain(DRAIN_DEADLINE_S) for uplink in self._uplinks.values()))
        if self._deriving is not None:
            self._deriving.cancel()
        if self._counting is not None:
            self._counting.cancel()
        for task in delivering:
            task.cancel()
        if rows := max((self._log.outbox(name).backlog().rows for name in self._uplinks), default=0):
            log.info(say("{rows} rows are kept in the log for the next start", rows=rows))

    async def _finish_analytics(self) -> None:
        """Let what was read have its outcome in the log, so that it is sent too; the rest comes at the next start."""
        assert self._log is not None
        if self._analytics is not None and self._deriving is not None:
            self._analytics.finish()
            await asyncio.wait([self._deriving], timeout=FINISH_DEADLINE_S)
            self._deriving.cancel()
            await self._log.flush()

    async def _finish_counting(self) -> None:
        """Let what was read be counted; what is not, is at the next start."""
        assert self._quality is not None
        assert self._counting is not None
        self._quality.finish()
        await asyncio.wait([self._counting], timeout=FINISH_DEADLINE_S)

    def _start_device(self, device: Device) -> None:
        assert self._log is not None
        context = DeviceContext(
            device.name,
            device.every,
            self._log.catalogue,
            self._clock,
            self.settings.secret,
            self._shared,
            self._data_dir,
            InLog(self._log),
        )
        driver = device.spec.create(device.section, context)
        health = DeviceHealth(device.name, device.spec.kind, device.spec.security(device.section))
        if isinstance(driver, Counting):
            health.counters = driver.counters
        rules = rules_of(device.section, device.frozen_after, device.clock_tolerance)
        self._tell_classes(device.name)
        ingest = Ingest(device.name, rules, self._log.catalogue)
        health.flags = ingest.flags
        if self._quality is not None:
            ingest.restore(self._quality.kept.get(device.name, {}))
        schedule = driver.schedule if isinstance(driver, Scheduled) else {HOUR_S: len(device.section.tags)}
        tallying = Tallying(device.name, schedule, self._clock)
        supervisor = Supervisor(health, driver, ingest, self._log.catalogue, self._clock, self._put, tallying)
        task = self._intake.create_task(supervisor.run(), name=f"device {device.name}")
        self._running[device.name] = Running(device, driver, health, task, supervisor.tell, ingest)

    async def reload(self, settings: Settings) -> None:
        """Apply a changed configuration: only devices that differ are stopped and started.

        Site, uplink and log settings need a new start; a change there is said and left for it.
        """
        old = self.settings
        if _fixed(old) != _fixed(settings):
            log.warning(say("changes of site, time zone, uplink, log and quality take effect at the next start"))
        if (self._analytics is None) != (settings.analytics is None):
            log.warning(say("analytics begin, or end, at the next start"))
        elif self._analytics is not None and settings.analytics is not None:
            self._analytics.change(settings.analytics)
        self.settings = settings
        gone = [name for name, running in self._running.items() if settings.devices.get(name) != running.device]
        for name in gone:
            running = self._running.pop(name)
            running.task.cancel()
            await asyncio.wait([running.task])
            if self._quality is not None:
                self._quality.kept[name] = running.ingest.state()
            log.info(say("{device}: stopped by the new configuration", device=name))
        for name, device in settings.devices.items():
            if name not in self._running:
                self._start_device(device)
        await self._note("configuration_reloaded", f"{len(gone)} devices stopped, {len(self._running)} run")

    async def _note(self, kind: str, message: str) -> None:
        await self._put(Event(self._clock.now(), "gateway", kind, Severity.INFO, message))

    async def _put(self, record: Record | None, tally: Tally | None = None) -> None:
        if self._log is None:
            raise LogError(say("the log is not open"))
        if isinstance(record, Event):
            self._note_event(record)
        if tally is not None and tally.left_out and self._quality is not None:
            self._quality.leave_out(tally.left_out)
        await self._log.put(record, tally)

    def _note_event(self, event: Event) -> None:
        self._events_total += 1
        self._events.append({"ts": event.ts, "source": event.source, "kind": event.kind, "text": event.message})

    async def _request(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Put what somebody wants of an alarm into the log, where analytics find it in its order."""
        if self._analytics is None:
            raise WrongInput(say("no alarms are configured"), say("add `alarms:` to the configuration"))
        names = self._analytics.health.views.get("alarms", {}).get("names", [])
        alarm, action = str(asked["alarm"]), str(asked["action"])
        if alarm != "*" and alarm not in names:
            near = difflib.get_close_matches(alarm, names, 1, 0.6)
            hint = say("did you mean {name}?", name=near[0]) if near else say("alarms: {names}", names=", ".join(names))
            raise WrongInput(say("there is no alarm {name!r}", name=alarm), hint)
        facts = {"alarm": alarm, "action": action, "by": str(asked.get("by", "")), "seconds": asked.get("seconds")}
        message = f"{action} {alarm} was asked for"
        await self._put(Event(self._clock.now(), "gateway", "alarm_request", Severity.INFO, message, facts))
        return {"asked": alarm}

    async def _retry(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Send again what is set aside, of one uplink or of all, all of it or some `ids`; tell which that is."""
        assert self._log is not None
        uplink, ids = asked.get("uplink"), asked.get("ids")
        if uplink is not None and uplink not in self._uplinks:
            raise unknown_uplink(uplink, self._uplinks)
        names = self._uplinks if uplink is None else [uplink]
        return {"ids": [entry for name in names for entry in await self._log.outbox(name).retry(ids)]}

    def describe(self) -> dict[str, Any]:
        """Return the state of everything, as JSON types; `yulink status` and the demo show it."""
        uplinks = [self._describe_uplink(section) for section in self.settings.uplinks if self._uplinks]
        usage = resource.getrusage(resource.RUSAGE_SELF)
        certificates = self._certificates()
        return {
            "version": version("yulink"),
            "site": self.settings.site,
            "now": self._clock.now(),
            "uptime_s": self._clock.monotonic() - self._started,
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "rss_mb": {"core": memory_mb(), "worker": self._analytics.memory_mb() if self._analytics else None},
            "analytics": asdict(self._analytics.health) if self._analytics else None,
            "devices": [
                asdict(running.health) | {"certificates": [asdict(each) for each in certificates.get(name, ())]}
                for name, running in self._running.items()
            ],
            "log": asdict(self._log.statistics()) if self._log else None,
            "backlog": uplinks[0]["backlog"] if uplinks else None,
            "uplink": uplinks[0] if uplinks else None,
            "uplinks": uplinks,
            "events_total": self._events_total,
            "events": list(self._events),
        }

    def _describe_uplink(self, section: UplinkSection) -> dict[str, Any]:
        assert self._log is not None
        statistics: Any = self._uplinks[section.name].statistics()
        backlog = asdict(self._log.outbox(section.name).backlog())
        return {"name": section.name, "url": section.url(), **asdict(statistics), "backlog": backlog}
