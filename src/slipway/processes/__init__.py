"""Processes of this machine: how one is named, and how nothing of a tree of them is left over."""
