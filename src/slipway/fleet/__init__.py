"""The fleet: which hosts there are, how they start, and how a version takes over on them.

Decisions (`rollout.plan`, `judge.judge`) are pure; `release` and `rollback` carry them out
by writing channels and watching hosts. Nothing here pushes into a host: hosts pull.
"""
