"""What readers of files say when a file is not what it should be."""


class Fault(Exception):
    """A file cannot be read as the config says; who knows which file it is says so in full."""

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.line = line
        """Of the file, from 1."""

    def __str__(self) -> str:
        """Go on with a sentence that named the file."""
        return f", line {self.line}: {self.problem}" if self.line else f": {self.problem}"
