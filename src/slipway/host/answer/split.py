"""Choose the version that answers a call and the one that shadows it, for every transport.

Callers stick: equal keys, else the same caller, else equal request ids lead to the same version
for as long as the candidate is the same. Where a call brings none of these, chance says what the
hash of a made-up id would, and sooner.
"""

from random import random
from typing import Final

from slipway.host.answer.call import Call, Loaded, Serving
from slipway.host.request.refusal import RequestRefused
from slipway.store.split import takes_candidate

NO_STABLE: Final = "this model has no stable version here yet"


def choose(call: Call, serving: Serving) -> Loaded:
    """Choose by what is known before the body is read; leave it to `settle` where that is little.

    Until then the stable version reads the body: its contract is mostly the candidate's too.
    """
    key = call.key if call.key is not None else call.caller.id or call.request_id
    if serving.candidate is None:
        return _assign(call, serving, False)
    if key is not None or serving.stable is None:
        return _assign(call, serving, _takes_candidate(serving, key))
    call.loaded, call.undecided = serving.stable, serving
    return serving.stable


def settle(call: Call) -> bool:
    """Choose by the request's own id, which had to be read; return whether that changed anything.

    Then the message is to be read again: by another contract, or whole, for the shadow.
    """
    serving, call.undecided = call.undecided, None
    assert serving is not None
    chosen = _takes_candidate(serving, call.request_id or None)
    _assign(call, serving, chosen)
    return chosen


def _takes_candidate(serving: Serving, key: str | None) -> bool:
    assert serving.candidate is not None
    if key is None:
        return random() * 100 < serving.percent  # noqa: S311  no secret
    return takes_candidate(serving.candidate.version, key, serving.percent)


def _assign(call: Call, serving: Serving, chosen: bool) -> Loaded:
    loaded = serving.candidate if chosen and serving.mode == "canary" else serving.stable
    if loaded is None:
        raise RequestRefused("not_ready", NO_STABLE)
    call.loaded = loaded
    call.shadow = serving.candidate if chosen and loaded is serving.stable else None
    return loaded
