"""Grading: which text is graded (`extract`), what counts as the same answer (`equivalence`), in killable workers (`workers`)."""

from torl_core.grading.extract import last_boxed, prose, prose_of_segments
from torl_core.grading.workers import Grader, open_grader

__all__ = ["Grader", "last_boxed", "open_grader", "prose", "prose_of_segments"]
