"""One GPU stage at a time on a machine, whichever run or checkout it belongs to.

A global concurrency limit of the Prefect server, named after the machine. Raise it in
Prefect where stages may share the GPUs.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import (
    GlobalConcurrencyLimitCreate,
    GlobalConcurrencyLimitUpdate,
)
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from flows.environment import OWN_API

LEASE_S = 60
"""How long the slot of a killed run stays taken on a Prefect server of the user's."""

NAME = f"slipway-gpu-{os.uname().nodename}"


def make_slot() -> None:
    """Create the limit, as Prefect lets everything pass where it is missing.

    A killed run's slot is given back by a service that Prefect's server runs only when it is
    a standing one. An API of this run's own is used by nobody else, so whatever is taken
    there was left behind.
    """
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(NAME)
            if os.environ.get(OWN_API):
                left = GlobalConcurrencyLimitUpdate(active_slots=0)
                client.update_global_concurrency_limit(NAME, left)
        except ObjectNotFound:
            try:
                limit = GlobalConcurrencyLimitCreate(name=NAME, limit=1)
                client.create_global_concurrency_limit(limit)
            except ObjectAlreadyExists:
                return  # another run was faster


@contextmanager
def slot() -> Iterator[None]:
    """Hold a slot for as long as the block runs; wait for it if need be."""
    with concurrency(NAME, occupy=1, lease_duration=LEASE_S, strict=True):
        yield
