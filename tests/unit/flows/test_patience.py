import pytest

from flows.patience import patiently
from slipway.errors import GateError, Unavailable


class Step:
    """Fails as it is told, then gives 7."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.calls = list(errors), 0

    def __call__(self) -> int:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return 7


def test_what_did_not_answer_is_asked_again_after_longer_and_longer_pauses():
    step, said, slept = Step(Unavailable("away"), Unavailable("away")), [], []
    assert patiently(step, said.append, (1, 2, 3), slept.append) == 7
    assert slept == [1, 2]
    assert said == ["away; trying again in 1 s", "away; trying again in 2 s"]


def test_what_never_answers_is_given_up_with_its_own_message():
    step = Step(*(Unavailable(f"away {i}") for i in range(3)))
    with pytest.raises(Unavailable, match="away 2"):
        patiently(step, print, (1, 2), lambda _: None)
    assert step.calls == 3


def test_what_would_fail_likewise_is_done_once():
    step = Step(GateError("no"))
    with pytest.raises(GateError):
        patiently(step, print, (1, 2), lambda _: None)
    assert step.calls == 1
