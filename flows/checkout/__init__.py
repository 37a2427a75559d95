"""Where scheduled and triggered runs work: a git worktree of their own, and how results return."""
