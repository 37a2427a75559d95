import signal
import time

import pytest

from slipway.errors import ConfigError, SlipwayError
from tasks.timeouts import limited, timeout_of


def test_a_stage_has_no_timeout_unless_dvc_yaml_gives_one():
    assert timeout_of("train@flights", {"grace_s": 30}) is None
    assert timeout_of("train@flights", {"timeout_s": 90}) == 90.0


@pytest.mark.parametrize("value", [0, -1, True, "90", [1]])
def test_a_timeout_that_is_none_is_refused(value: object):
    with pytest.raises(ConfigError, match=r"train@flights: meta\.timeout_s must be a number"):
        timeout_of("train@flights", {"timeout_s": value})


def test_what_takes_too_long_is_ended_and_says_so():
    told = r"took longer than its timeout of 0\.05 s"
    with pytest.raises(SlipwayError, match=told), limited(0.05):
        time.sleep(60)


def test_what_is_done_in_time_is_left_alone():
    before = signal.getsignal(signal.SIGALRM)
    with limited(60):
        pass
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is before
