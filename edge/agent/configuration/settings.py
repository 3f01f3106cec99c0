"""The configuration as the program uses it: checked, immutable, with every default filled in."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, Field

from drivers.api import DriverSection, DriverSpec
from edge.agent.configuration.located import Located
from edge.agent.configuration.secrets import find_secret, missing_secret
from edge.analytics.condition.section import MachineSection
from edge.analytics.section import AnalyticsSections
from edge.core.errors import ConfigError, Problem
from edge.core.language import say
from edge.core.section import Duration, DurationOrNever, SecretName, Section, Size, refuse
from uplink.section import UplinkSection

SITE_LENGTH_MAX = 128
AGGREGATES_MIN_S = 184 * 86400.0
_SITE = re.compile(r"[a-z0-9][a-z0-9_-]*/[a-z0-9][a-z0-9_-]*")


def _check_site(site: str) -> str:
    if not _SITE.fullmatch(site):
        refuse(
            say("{given} is not tenant/gateway", given=f'"{site}"'),
            say("lower-case letters, digits, - and _, with one slash: chongqing/plant-1"),
        )
    return site


def _check_timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown; or a path, or a folder of the time zone database
        known = available_timezones()
        if not known:
            refuse(say("this machine has no time zone database"), say("install the package tzdata"))
        near = difflib.get_close_matches(name, known, 1)
        refuse(
            say("{given} is not a time zone", given=f'"{name}"'),
            say("did you mean {name}?", name=f'"{near[0]}"') if near else say("write an IANA name: Asia/Shanghai"),
        )
    return name


def _check_aggregates(seconds: float) -> float:
    if seconds < AGGREGATES_MIN_S:
        refuse(
            say("aggregates are kept for half a year at least"),
            say("write 184d or more; readings themselves go after `keep`"),
        )
    return seconds


class LogSection(Section):
    """What is kept on this machine's disk."""

    keep: Duration = 7 * 86400.0
    """How long readings are kept at most."""

    max: Size = 4e9
    """How much disk they may take. Then old telemetry is thinned, the least dear class goes first; all is reported."""

    free: Size = 500e6
    """How much of the disk stays free: with less the log does not grow, and new readings take the place of old ones."""

    aggregates: Annotated[Duration, AfterValidator(_check_aggregates)] = 200 * 86400.0
    """How long the figures of minutes, quarter hours and hours are kept, 184d at least. Those of shifts, days and
    months stay for ten years. They lie beside the readings and are not counted in `max`."""

    encrypt: SecretName | None = None
    """The secret that seals what lies on disk, of at least 16 characters. It is needed as long as the log is sealed."""

    encrypt_before: SecretName | None = None
    """The secret of until now, when `encrypt` names another one, or none any more. The log changes over at the next
    start, which is told; then this may go."""

    commit: Duration = 0.1
    """How long readings may wait in memory before they are durable."""


class QualitySection(Section):
    """How data quality is counted; the rules stand with tags, devices and the site."""

    timely: Duration = 10.0
    """A reading that is in the log later than this after its source time counts as late."""


class SiteSection(AnalyticsSections):
    """A gateway: who it is and where it delivers. What it reads, `devices`, belongs to the drivers."""

    site: Annotated[str, AfterValidator(_check_site), Field(max_length=SITE_LENGTH_MAX, examples=["chongqing/plant-1"])]
    """Tenant and gateway: the identity of this gateway and the beginning of its topics."""

    timezone: Annotated[str, AfterValidator(_check_timezone), Field(examples=["Asia/Shanghai"])] = "Asia/Shanghai"
    """Where the plant's clocks stand, as an IANA name. Readings themselves carry UTC."""

    every: Duration = 1.0
    """How often tags are read where neither tag nor device says otherwise."""

    frozen_after: DurationOrNever | None = None
    """After how long an unchanged number is suspect where neither tag nor device says otherwise. Default: never."""

    clock_tolerance: DurationOrNever | None = None
    """How far devices' time stamps may be off the gateway's clock where neither tag nor device says otherwise."""

    uplink: Any = None
    """The way to the brain, or a list of several, each with its own `name`. Without it readings stay in the log."""

    log: LogSection = LogSection()
    """What is kept on this machine's disk."""

    quality: QualitySection = QualitySection()
    """How data quality is counted."""


@dataclass(frozen=True, slots=True)
class Device:
    """One configured device. `every` is the default interval of its tags in seconds, `machine` what it watches.

    `frozen_after` and `clock_tolerance` are the site's, in seconds, for tags that do not say otherwise.
    """

    name: str
    spec: DriverSpec
    section: DriverSection
    every: float
    machine: MachineSection | None = None
    frozen_after: float | None = None
    clock_tolerance: float | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """A checked configuration.

    site      tenant/gateway
    timezone  IANA name
    devices   by name, in the order of the file
    uplinks   none when nothing is sent; their file names are absolute
    log       limits of the log
    analytics the analytics worker's plan, None where nothing asks for a worker
    folder    where the configuration lies; relative names and secrets begin here
    quality   how data quality is counted
    problems  warnings only
    """

    site: str
    timezone: str
    devices: Mapping[str, Device]
    uplinks: tuple[UplinkSection, ...]
    log: LogSection
    analytics: Mapping[str, Any] | None
    folder: Path
    quality: QualitySection = field(default_factory=QualitySection)
    problems: tuple[Located, ...] = field(default=(), compare=False)

    def log_secrets(self) -> tuple[str | None, str | None]:
        """Return what seals the log and what sealed it before. Raises ConfigError for one that is nowhere."""
        now, before = self.log.encrypt, self.log.encrypt_before
        return self.secret(now) if now else None, self.secret(before) if before else None

    def secret(self, name: str) -> str:
        """Return a secret's text.

        Raises:
            ConfigError: it is nowhere.
        """
        found = find_secret(name, self.folder)
        if found is None:
            raise ConfigError([Problem((), *missing_secret(name, self.folder))])
        return found.text
