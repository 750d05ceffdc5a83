"""Starts processes and ties them to their parent: none outlives it, however it ends."""

from torl_core.launch.local import start, tied

__all__ = ["start", "tied"]
