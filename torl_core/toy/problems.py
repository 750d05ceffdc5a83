"""The demo's problem family: nine templated kinds, in two splits that share no operands.

Seven kinds are out of a tiny model's reach without a tool and one line of Python with it; two (small sums, the times
table) are within reach, so that there is something to answer without code. Nothing here uses a random generator whose
stream could change: every draw is read off a SHA-256 digest of its key.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

from torl_core.errors import DataError
from torl_core.types import Problem

T = TypeVar("T")

SIZES = {"train": 2048, "test": 512}
"""Problems per split."""

TEST_SHARE = 5
"""One operand tuple in so many belongs to the test split."""


class Draws:
    """Uniform choices decided by `key` alone: the digits of its digest in mixed radix, good for about 200 bits."""

    def __init__(self, *key: object) -> None:
        self._number = int.from_bytes(hashlib.sha256(repr(key).encode()).digest(), "big")

    def choice(self, options: Sequence[T]) -> T:
        self._number, index = divmod(self._number, len(options))
        return options[index]

    def chance(self, percent: int) -> bool:
        return self.choice(range(100)) < percent


@dataclass(frozen=True, slots=True)
class Kind:
    """One family of questions; the format strings take the operands in order.

    `expression` solves it in Python after `setup`; each of `mistakes` runs and prints something else.
    """

    name: str
    operands: tuple[range, ...]
    questions: tuple[str, ...]
    answer: Callable[..., int]
    expression: str
    mistakes: tuple[str, ...]
    setup: str = ""
    naive: str | None = None
    """An expression that solves it for some operands and raises for the others."""


def inverse_or_gcd(a: int, m: int) -> int:
    """a's inverse modulo m, or their greatest common divisor where there is none."""
    divisor = math.gcd(a, m)
    return divisor if divisor > 1 else pow(a, -1, m)


def digit_sum(number: int) -> int:
    return sum(int(digit) for digit in str(number))


def _asked(*phrases: str) -> tuple[str, ...]:
    return tuple(form.format(phrase) for phrase in phrases for form in ("What is {}?", "Compute {}."))


TWO_DIGITS = range(10, 100)

KINDS = (
    Kind(
        name="product",
        operands=(TWO_DIGITS, TWO_DIGITS, TWO_DIGITS),
        questions=_asked("{0} * {1} * {2}"),
        answer=lambda a, b, c: a * b * c,
        expression="{0}*{1}*{2}",
        mistakes=("{0}*{1}+{2}", "{0}+{1}*{2}"),
    ),
    Kind(
        name="boxes",
        operands=(TWO_DIGITS, TWO_DIGITS, TWO_DIGITS),
        questions=("{0} boxes hold {1} pens each and {2} pens are taken out. How many are left?",),
        answer=lambda boxes, pens, taken: boxes * pens - taken,
        expression="{0}*{1}-{2}",
        mistakes=("{0}*{1}+{2}", "{0}+{1}-{2}"),
    ),
    Kind(
        name="power_mod",
        operands=(TWO_DIGITS, TWO_DIGITS, TWO_DIGITS),
        questions=_asked("{0}^{1} mod {2}"),
        answer=lambda a, b, m: pow(a, b, m),
        expression="{0}**{1} % {2}",
        mistakes=("{0}*{1} % {2}", "pow({0}, {2}, {1})"),
    ),
    Kind(
        name="lcm",
        operands=(TWO_DIGITS, TWO_DIGITS),
        questions=_asked("the least common multiple of {0} and {1}"),
        answer=math.lcm,
        expression="math.lcm({0}, {1})",
        mistakes=("math.gcd({0}, {1})", "{0}*{1}"),
        setup="import math\n",
    ),
    Kind(
        name="squares",
        operands=(range(10, 50), range(50, 100)),
        questions=_asked("the sum of the squares from {0} to {1}"),
        answer=lambda first, last: sum(i * i for i in range(first, last + 1)),
        expression="sum(i*i for i in range({0}, {1}+1))",
        mistakes=("sum(i*i for i in range({0}, {1}))", "sum(range({0}, {1}+1))"),
    ),
    Kind(
        name="digit_sum",
        operands=(TWO_DIGITS, range(10, 40)),
        questions=_asked("the sum of the digits of {0}^{1}"),
        answer=lambda a, b: digit_sum(a**b),
        expression="sum(map(int, str({0}**{1})))",
        mistakes=("sum(map(int, str({0}*{1})))", "sum(map(int, str({0}+{1})))"),
    ),
    Kind(
        name="inverse",
        operands=(TWO_DIGITS, TWO_DIGITS),
        questions=tuple(
            f"{question} If there is none, give the greatest common divisor."
            for question in _asked("the inverse of {0} mod {1}")
        ),
        answer=inverse_or_gcd,
        expression="pow({0}, -1, {1}) if math.gcd({0}, {1}) == 1 else math.gcd({0}, {1})",
        mistakes=("math.gcd({0}, {1})",),
        setup="import math\n",
        naive="pow({0}, -1, {1})",
    ),
    Kind(
        name="sum",
        operands=(range(2, 13), range(2, 13)),
        questions=_asked("{0} + {1}", "the sum of {0} and {1}"),
        answer=lambda a, b: a + b,
        expression="{0}+{1}",
        mistakes=("{0}-{1}", "{0}*{1}"),
    ),
    Kind(
        name="times",
        operands=(range(2, 13), range(2, 13)),
        questions=_asked("{0} * {1}", "the product of {0} and {1}"),
        answer=lambda a, b: a * b,
        expression="{0}*{1}",
        mistakes=("{0}+{1}", "{0}**{1}"),
    ),
)


def split_of(kind: str, operands: tuple[int, ...]) -> str:
    """The one split in which this kind may use these operands."""
    return "test" if Draws("split", kind, operands).choice(range(TEST_SHARE)) == 0 else "train"


def draw_operands(kind: Kind, split: str, *key: object) -> tuple[int, ...]:
    """Operands of `split`, uniform among them, decided by `key`."""
    attempt = 0
    while True:
        draws = Draws("operands", kind.name, attempt, *key)
        operands = tuple(draws.choice(options) for options in kind.operands)
        if split_of(kind.name, operands) == split:
            return operands
        attempt += 1


def toy_problems(split: str, n: int | None = None) -> list[Problem]:
    """The first `n` problems of "train" or "test" (None: all), kinds taking turns, no statement twice.

    Raises DataError for another split or more problems than it has.
    """
    if split not in SIZES:
        raise DataError(
            f"toy split {split!r}", f"The toy problems have the splits {', '.join(SIZES)}", "Name one of them"
        )
    if n is not None and not 0 <= n <= SIZES[split]:
        raise DataError(f"{n} toy problems of split {split!r}", f"It has {SIZES[split]}", "Ask for that many or fewer")
    return list(_all_problems(split)[:n])


@cache
def _all_problems(split: str) -> tuple[Problem, ...]:
    streams = [_distinct(kind, split) for kind in KINDS]
    return tuple(next(streams[i % len(KINDS)]) for i in range(SIZES[split]))


def _distinct(kind: Kind, split: str) -> Iterator[Problem]:
    seen: set[str] = set()
    index = 0
    while True:
        operands = draw_operands(kind, split, "problems", index)
        statement = Draws("question", kind.name, index).choice(kind.questions).format(*operands)
        index += 1
        if statement not in seen:
            seen.add(statement)
            yield Problem(
                problem_id=f"toy-{split}-{kind.name}-{len(seen):04d}",
                statement=statement,
                answer=str(kind.answer(*operands)),
                source=f"toy:{split}",
                metadata={"kind": kind.name},
            )
