"""Problems from files, folders, Hugging Face datasets and the demo's generator, by one path.

`location` finds a source's files, `reading` makes rows of their bytes, `columns` and `gold` make a problem of a row,
and `loading` does it for all sources of a campaign. Rows that cannot be used are never dropped in silence: each is
listed with its file, its line and the reason. docs/problems.md says what a source may be.
"""

from infra.problems.loading import Loaded, contents_digest, label_of, load_problems
from infra.problems.rows import Rejected
from infra.problems.stored import get_problems, put_problems, put_rejected

__all__ = [
    "Loaded",
    "Rejected",
    "contents_digest",
    "get_problems",
    "label_of",
    "load_problems",
    "put_problems",
    "put_rejected",
]
