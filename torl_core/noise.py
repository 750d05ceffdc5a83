"""Libraries warn while they are imported, before their logging is set up; none of that belongs to a run's narration.

vLLM names Triton as unusable on every CPU, and torch a CUDA toolkit without a GPU; Python prints both as they come.
"""

from __future__ import annotations

import logging
import os

VLLM_LEVEL = "VLLM_LOGGING_LEVEL"
"""The variable that says what vLLM logs. What the user has set stands."""


def only_errors() -> None:
    """Have this process print their errors alone. To be called before they are imported."""
    asked = os.environ.get(VLLM_LEVEL, "").upper()
    logging.getLogger("vllm").setLevel(logging.getLevelNamesMapping().get(asked, logging.ERROR))
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
