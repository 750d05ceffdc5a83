"""Capital letters run together, `ACD`: the name of a figure, initials, a product of variables, or several choices."""

from __future__ import annotations

from torl_core.grading.expression import Symbol, is_figure, parse
from torl_core.grading.kinds.base import Answer, Kinds, OneOf, no_say
from torl_core.grading.kinds.bracket import Group
from torl_core.grading.kinds.choice import LETTERS
from torl_core.grading.kinds.quantity import Quantity
from torl_core.grading.kinds.words import Words
from torl_core.grading.tokens import WORD, Tokens


def read(tokens: Tokens, kinds: Kinds) -> Answer | None:
    run = "".join(token.removeprefix(WORD) for token in tokens)
    apart = len(tokens) > 1 and all(len(token) == 1 and token.isupper() for token in tokens)
    if not apart and not (len(tokens) == 1 and is_figure(tokens[0])):
        return None
    found: list[Answer] = [Quantity(parse(tokens)), Words((run.casefold(),))]
    if all(c in LETTERS for c in run) and list(run) == sorted(set(run)):
        found.append(Group("list", tuple(Quantity(Symbol(c)) for c in run)))
    return OneOf(tuple(found))


same = no_say
