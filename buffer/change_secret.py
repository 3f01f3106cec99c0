"""Brings a log over to another secret, to none, or to its first one, in one transaction that touches no reading.

Readings are sealed under data keys, and only these are wrapped under the secret. So a new secret wraps them anew, and
where there is none any more they are stored as they are, beside what they open.
"""

import logging

import aiosqlite

from buffer.vault import Vault
from edge.core.language import say

log = logging.getLogger("yulink.log")


async def change_secret(db: aiosqlite.Connection, vault: Vault) -> None:
    """Store keys and names as the vault would store them now, and overwrite what was there. Mostly nothing is to do.

    A crash leaves the log under the old secret or under the new one; either way the same settings open it again.
    """
    keys = [
        (stored, key_id)
        for key_id, wrapped in await db.execute_fetchall("SELECT id, wrapped FROM key")
        if (stored := vault.rewrapped(key_id, wrapped)) is not None
    ]
    tags = [
        (*vault.hide(tag, *vault.show(tag, device, name, unit)), tag)
        for tag, device, name, unit in await db.execute_fetchall("SELECT id, device, name, unit FROM tag")
        if not vault.is_hidden(tag, name)
    ]
    devices = [
        (vault.hide(number, "", vault.show(number, "", name, "")[1], "")[1], number)
        for number, name in await db.execute_fetchall("SELECT number, name FROM ledger_device")
        if not vault.is_hidden(number, name)
    ]
    if not (keys or tags or devices):
        return
    await db.execute("PRAGMA secure_delete=ON")
    await db.execute("BEGIN IMMEDIATE")
    await db.executemany("UPDATE key SET wrapped = ? WHERE id = ?", keys)
    await db.executemany("UPDATE tag SET device = ?, name = ?, unit = ? WHERE id = ?", tags)
    await db.executemany("UPDATE ledger_device SET name = ? WHERE number = ?", devices)
    await db.execute("COMMIT")
    await db.execute("PRAGMA secure_delete=OFF")
    await db.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
    if keys:
        log.warning(
            say("the log's secret was changed; `encrypt_before` may go")
            if vault.is_sealing
            else say("the log is no longer encrypted, and what it holds can be read; `encrypt_before` may go")
        )
