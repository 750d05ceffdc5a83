r"""Relations and operations of sets, statements and figures: `A \cap B`, `AB \parallel CD`, `p \to q`, `x \in A`."""

from __future__ import annotations

from dataclasses import dataclass

from torl_core.grading.kinds.base import Answer, Kinds, parts_of
from torl_core.grading.kinds.bracket import same_in_any_order, same_in_order
from torl_core.grading.tokens import Tokens, split


@dataclass(frozen=True, slots=True)
class Infix(Answer):
    op: str
    parts: tuple[Answer, ...]


_LOOSEST_FIRST = (
    "\\Leftrightarrow", "\\leftrightarrow", "\\to", "\\equiv", "\\nequiv", "\\parallel", "\\nparallel", "\\perp",
    "\\nperp", "\\cong", "\\ncong", "\\sim", "\\nsim", "\\subset", "\\subseteq", "\\supset", "\\supseteq", "\\nsubset",
    "\\nsubseteq", "\\in", "\\notin", "\\ni", "\\cup", "\\setminus", "\\cap", "\\oplus", "\\circ",
)  # fmt: skip
_COMMUTE = frozenset(
    ["\\Leftrightarrow", "\\leftrightarrow", "\\equiv", "\\parallel", "\\nparallel", "\\perp", "\\nperp", "\\cong",
     "\\ncong", "\\cup", "\\cap", "\\oplus"]
)  # fmt: skip
_MIRRORED = {"\\supset": "\\subset", "\\supseteq": "\\subseteq", "\\ni": "\\in"}


def read(tokens: Tokens, kinds: Kinds) -> Answer | None:
    for op in _LOOSEST_FIRST:
        parts = split(tokens, (op,))
        if len(parts) > 1 and all(parts):
            answers = tuple(kinds.read(part) for part in parts_of(parts))
            return Infix(_MIRRORED.get(op, op), answers[::-1] if op in _MIRRORED else answers)
    if tokens[0] == "\\neg" and len(tokens) > 1:
        return Infix("\\neg", (kinds.read(tokens[1:]),))
    return None


def same(gold: Answer, answer: Answer, kinds: Kinds) -> bool | None:
    if not (isinstance(gold, Infix) and isinstance(answer, Infix)):
        return False if isinstance(gold, Infix) or isinstance(answer, Infix) else None
    if gold.op != answer.op:
        return False
    compare = same_in_any_order if gold.op in _COMMUTE else same_in_order
    return compare(gold.parts, answer.parts, kinds)
