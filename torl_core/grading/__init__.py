"""Which text is graded (`extract`), what is the same answer (`equivalence`), in killable processes (`workers`)."""

from torl_core.grading.equivalence import unmatchable
from torl_core.grading.extract import last_boxed, prose, prose_of_segments
from torl_core.grading.workers import Grader, open_grader

VERSION = "2"
"""Raise it with every change that may judge a response differently. Evaluations are then made again, and a campaign
that began with another version goes on only when its `reward.grader` is changed."""

__all__ = ["VERSION", "Grader", "last_boxed", "open_grader", "prose", "prose_of_segments", "unmatchable"]
