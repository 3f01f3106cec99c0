"""`yulink keys`: made, shown, and exchanged without losing what was sealed to the old one or waits in the log."""

import sqlite3
from pathlib import Path

import pytest

from edge.agent.cli import main
from simulators.broker import Broker, start_broker
from simulators.pki import Pki
from tests.support import until
from tests.uplink.support import CLOCK, background, feed, open_plant, received, uplink_to
from uplink.keys import CLASSICAL, HYBRID, PrivateKey, read_private, read_public
from uplink.receiver.service import Receiver
from uplink.receiver.store import SqliteStore
from uplink.seal import Opener
from uplink.session import Access


def old_key(name: Path) -> Path:
    """The file in which `rotate` has kept what was there before."""
    (kept,) = name.parent.glob(f"{name.name}-until-*.key")
    return kept


@pytest.mark.parametrize(("options", "kem"), [([], HYBRID), (["--x25519"], CLASSICAL)])
def test_a_key_is_made_shown_and_exchanged_for_one_of_its_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], kem: str
) -> None:
    name, private, public = tmp_path / "brain", tmp_path / "brain.key", tmp_path / "brain.pub"
    assert main(["keys", "new", str(name), *options]) == 0
    first = read_public(public)
    assert (first.kem, read_private(private).public.id, private.stat().st_mode & 0o777) == (kem, first.id, 0o600)
    capsys.readouterr()
    for file, half in ((private, "private"), (public, "public")):
        assert main(["keys", "show", str(file)]) == 0
        shown = capsys.readouterr().out
        assert first.id in shown
        assert half in shown
        assert "PRIVATE" not in shown
    assert main(["keys", "rotate", str(name)]) == 0
    second = read_public(public)
    assert (second.kem, read_private(private).public.id) == (kem, second.id)
    assert second.id != first.id
    assert read_private(old_key(name)).public.id == first.id
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in (private, old_key(name)))
    told = capsys.readouterr().out
    assert f"--key {private} --key {old_key(name)}" in told


def test_an_existing_key_is_never_overwritten_and_nothing_is_rotated_where_none_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = tmp_path / "brain"
    assert main(["keys", "rotate", str(name)]) == 2
    assert str(name) in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert main(["keys", "new", str(name)]) == 0
    before = (tmp_path / "brain.key").read_bytes()
    assert main(["keys", "new", str(name)]) == 2
    assert (tmp_path / "brain.key").read_bytes() == before


async def test_an_exchange_loses_nothing_that_is_under_way_or_in_the_log(
    tmp_path: Path, pki: Pki, mosquitto: str, quick: None
) -> None:
    name = pki.folder / "brain"
    async with start_broker(tmp_path / "broker", pki, kind=mosquitto) as broker:
        settings = uplink_to(broker, pki)
        brain = receiver(broker, pki, tmp_path, read_private(pki.folder / "brain.key"))
        async with open_plant(tmp_path, **settings) as (log, pump), background(brain.run, pump.run):
            await feed(log, 100)
            await until(lambda: log.outbox().backlog().rows == 0)
        async with open_plant(tmp_path, **settings) as (log, pump), background(pump.run):  # the brain is away
            await feed(log, 100, 100)
            await until(lambda: pump.statistics().resends_total > 0)  # so the first sending lies at the broker
        assert main(["keys", "rotate", str(name)]) == 0
        async with open_plant(tmp_path, **settings) as (log, pump):
            await feed(log, 100, 200)
            new, kept = read_private(pki.folder / "brain.key"), read_private(old_key(name))
            async with background(receiver(broker, pki, tmp_path, new, kept).run, pump.run):
                await until(lambda: log.outbox().backlog().rows == 0, 20)
    assert received(tmp_path) == list(range(300))
    db = sqlite3.connect(tmp_path / "brain.sqlite3")
    assert db.execute("SELECT reason FROM quarantine").fetchall() == []
    db.close()


def receiver(broker: Broker, pki: Pki, folder: Path, *keys: PrivateKey) -> Receiver:
    """A brain that keeps its place at the broker, with as many keys as it has."""
    access = Access(broker.url, pki.ca, pki.issue("brain"), client_id="brain", clean_start=False, manual_ack=True)
    return Receiver(access, SqliteStore(folder / "brain.sqlite3"), CLOCK, opener=Opener(list(keys), pki.ca))


def test_keys_exchanged_within_one_second_are_all_kept(tmp_path: Path) -> None:
    name = tmp_path / "brain"
    assert main(["keys", "new", str(name), "--x25519"]) == 0
    ids = {read_public(tmp_path / "brain.pub").id}
    for _ in range(3):
        assert main(["keys", "rotate", str(name)]) == 0
        ids.add(read_public(tmp_path / "brain.pub").id)
    assert {read_private(file).public.id for file in tmp_path.glob("*.key")} == ids
    assert len(ids) == 4
