"""Let `python -m slipway.cli` be the command, for hosts that are started as processes."""

from slipway.cli import main

if __name__ == "__main__":
    main()
