"""The key pairs of a local fleet: made on the first run, trusted by its own hosts.

They stand in for an organisation's keys so that the first run needs no account: the
mechanism (bundle signed by a builder, channel by a release key) is the real one.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from slipway.bundle.signing import Role, make_key_pair, trust
from slipway.errors import SlipwayError
from slipway.fleet.inventory import Fleet
from slipway.state import settled

ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True)
class Keys:
    """Where the two private keys lie."""

    builder: Path
    release: Path


def ensure_local_keys(root: Path, fleet: Fleet) -> Keys:
    """Make this checkout's key pairs if they are missing, and let the fleet trust them."""
    folder = settled(root / ".slipway/keys")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for role in ROLES:
        make_key_pair(folder, role)
        trust(folder / f"{role}.pub", fleet.trusted_keys, role)
    return find_keys(root)


def release_key(root: Path) -> Path:
    """Return where this checkout's release key lies, or would: nothing is made."""
    return settled(root / ".slipway/keys/release.key")


def find_keys(root: Path) -> Keys:
    """Return this checkout's private keys; raise SlipwayError when they were never made."""
    folder = settled(root / ".slipway/keys")
    if missing := [role for role in ROLES if not (folder / f"{role}.key").is_file()]:
        raise SlipwayError(
            f"{folder} holds no {' and no '.join(missing)} key: nothing was released from this"
            " checkout yet; `slipway run PIPELINE` makes the keys"
        )
    return Keys(builder=folder / "builder.key", release=folder / "release.key")
