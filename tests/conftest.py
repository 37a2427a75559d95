"""What every test relies on, wherever it is started from."""

import signal

pytest_plugins = ["tests.support.costs", "tests.support.pace"]

# A shell has what it starts in the background ignore Ctrl-C, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
