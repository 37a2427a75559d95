"""Choose what this host follows: the channels of a fleet, or the bundles on its command line."""

import logging
from functools import partial

from slipway.bundle.signing import TrustedKeys
from slipway.host.answer.core import Core
from slipway.host.engine.cores import count_cores
from slipway.host.follow.counts import FollowCounts
from slipway.host.follow.loading import Loader
from slipway.host.follow.memory import Memory
from slipway.host.follow.pinned import Pinned, PinnedParts
from slipway.host.follow.reconcile import Parts, Reconciler
from slipway.host.follow.starting import Running, make_loaded
from slipway.host.process.options import MIB, HostOptions
from slipway.store.objects import Store

log = logging.getLogger(__name__)


def make_follower(
    options: HostOptions, core: Core, running: Running, counts: FollowCounts
) -> Reconciler | Pinned:
    """Put the follower together; raise SlipwayError for keys or a memory that cannot be read."""
    trusted = TrustedKeys.load(options.trusted_keys)
    work = options.work
    store = Store(options.store) if options.store else None
    loader = Loader(
        store,
        trusted,
        options.state,
        work.cores or count_cores(),
        memory_bytes=work.memory_mib * MIB if work.memory_mib else None,
        instances=work.instances,
        cuda_graphs=work.cuda_graphs,
        parts=options.part.count if options.part else 1,
    )
    if store is None:
        return Pinned(
            PinnedParts(
                folders=options.bundles,
                open=loader.open,
                start=partial(make_loaded, running=running),
                core=core,
                counts=counts,
                splits=dict(options.splits),
            )
        )
    _warn_of_missing_keys(options)
    return Reconciler(
        Parts(
            fleet=options.fleet,
            store=store,
            trusted=trusted,
            memory=Memory(options.state),
            loader=loader,
            core=core,
            counts=counts,
            running=running,
            poll_s=options.poll_s,
        )
    )


def _warn_of_missing_keys(options: HostOptions) -> None:
    for role in ("builder", "release"):
        if not (options.trusted_keys / role).is_dir():
            log.warning("no trusted keys: nothing will be served", extra={"role": role})
