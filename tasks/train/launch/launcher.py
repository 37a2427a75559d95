"""What training asks of whoever starts its processes."""

from pathlib import Path
from typing import Protocol


class TrainingLauncher(Protocol):
    """Start one training and wait for its end."""

    def __call__(self, job: Path, *, processes: int, threads: int) -> int:
        """Run the job in so many processes of so many threads; return the exit code.

        None of them outlives the caller, however that one ends.
        """
