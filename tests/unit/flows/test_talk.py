import errno
import os

import pytest

from flows.talk import failed
from slipway.errors import ConfigError, SlipwayError


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (SlipwayError("no version"), 1, "slipway: no version"),
        (ConfigError("dvc.yaml", ["x"]), 2, "slipway: dvc.yaml has 1 problem"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS), "/p/run.lock"), 1, "/p/run.lock: Read-on"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 1, "No space left"),
    ],
)
def test_a_command_says_why_it_failed_and_what_to_do(capsys, error, code, said):
    assert failed(error) == code
    assert said in capsys.readouterr().err


def test_a_defect_keeps_its_traceback():
    with pytest.raises(OSError, match="Bad file descriptor"):
        failed(OSError(errno.EBADF, os.strerror(errno.EBADF)))
