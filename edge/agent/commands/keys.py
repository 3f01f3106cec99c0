"""`yulink keys`: the brain's sealing keys on files."""

import os
from datetime import UTC, datetime
from pathlib import Path

from edge.core.errors import WrongInput
from edge.core.language import say
from uplink.keys import CLASSICAL, HYBRID, PublicKey, make_key, read_private, read_public, write_key


def new(path: Path, *, classical: bool) -> int:
    """Make PATH.key and PATH.pub and say what each is for."""
    private, public = path.with_name(path.name + ".key"), path.with_name(path.name + ".pub")
    key = make_key(CLASSICAL if classical else HYBRID)
    write_key(key, private, public)
    print(_shown(key.public))
    print(say("  {file}: stays with the brain: yulink receive --key {file}", file=private))
    print(say("  {file}: goes to the gateways: uplink: {{seal_to: {file}}}", file=public))
    return 0


def show(path: Path) -> int:
    """Print id and kind of a key file, public or private."""
    try:
        key = read_public(path)
        half = say("public")
    except WrongInput:
        key = read_private(path).public
        half = say("private")
    print(f"{_shown(key)}, {half}")
    return 0


def rotate(path: Path) -> int:
    """Put a new key in the place of an old one, which is kept to open what was sealed to it."""
    private, public = path.with_name(path.name + ".key"), path.with_name(path.name + ".pub")
    old = read_private(private)
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    kept = private.with_name(f"{path.name}-until-{stamp}-{old.public.id}.key")  # of its own, however soon the next
    key = make_key(old.public.kem)
    fresh = (private.with_name(private.name + ".new"), public.with_name(public.name + ".new"))
    write_key(key, *fresh)
    os.link(private, kept)  # at no instant is the old key without a name
    for new_file, file in zip(fresh, (private, public), strict=True):
        os.replace(new_file, file)
    print(_shown(key.public))
    print(say("  1. run the brain with both: yulink receive --key {new} --key {old}", new=private, old=kept))
    print(say("  2. give {file} to every gateway and reload it", file=public))
    print(say("  3. delete {old} when no gateway announces {id} any more", old=kept, id=old.public.id))
    return 0


def _shown(key: PublicKey) -> str:
    return say("key {id}, {kem}", id=key.id, kem=key.kem)
