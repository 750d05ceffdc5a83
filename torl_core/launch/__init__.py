"""Starts processes, and ties them and temporary files to their parent: none outlives it, however it ends."""

from torl_core.launch.local import start, tied
from torl_core.launch.scratch import use_scratch

__all__ = ["start", "tied", "use_scratch"]
