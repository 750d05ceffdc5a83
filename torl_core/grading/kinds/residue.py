r"""Residues and remainders: `5 \pmod 7`, `x \equiv 5 \pmod 7`, `5 R 2`, `5 remainder 2`."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from torl_core.grading.expression import Call, Expr, parse, symbols
from torl_core.grading.kinds.base import Answer, Kinds
from torl_core.grading.kinds.equation import Assignment
from torl_core.grading.kinds.family import Family, whole_line
from torl_core.grading.kinds.quantity import Quantity
from torl_core.grading.tokens import Tokens, is_number, split
from torl_core.grading.values import evaluate, same_value


@dataclass(frozen=True, slots=True)
class Residue(Answer):
    """`value` modulo `modulus`; the unknown as tokens, none where it is not named."""

    value: Expr
    modulus: Expr
    name: Tokens = ()


@dataclass(frozen=True, slots=True)
class Division(Answer):
    """A quotient with its remainder."""

    quotient: Expr
    remainder: Expr


_MODULO = ("\\pmod", "\\bmod", "\\mod", "~mod", "~modulo", "\\pod")


def read(tokens: Tokens, kinds: Kinds) -> Answer | None:
    if any(token in _MODULO for token in tokens):
        return _residue(tokens)
    for word in ("~remainder", "~rem", "~R", "~r", "R"):
        parts = split(tokens, (word,))
        if len(parts) == 2 and all(part and all(map(is_number, part)) for part in parts):
            return Division(parse(parts[0]), parse(parts[1]))
    return None


def _residue(tokens: Tokens) -> Residue | None:
    at = next(i for i, token in enumerate(tokens) if token in _MODULO)
    value, modulus = tokens[:at], tokens[at + 1 :]
    if value[-1:] == ("(",) and modulus[-1:] == (")",):
        value, modulus = value[:-1], modulus[:-1]
    sides = split(value, ("\\equiv", "="))
    if len(sides) > 2 or not sides[-1] or not modulus:
        return None
    return Residue(parse(sides[-1]), parse(modulus), sides[0] if len(sides) == 2 else ())


def same(gold: Answer, answer: Answer, kinds: Kinds) -> bool | None:
    match gold, answer:
        case Residue(), Residue():
            if gold.name and answer.name and gold.name != answer.name:
                return False
            return same_value(gold.modulus, answer.modulus) and _congruent(gold.value, answer.value, gold.modulus)
        case (Residue(value=value, modulus=modulus), Family() as family) | (
            Family() as family,
            Residue(value=value, modulus=modulus),
        ):
            line = whole_line(family)
            return line is not None and _same_progression(line, value, modulus)
        case (Residue(), Assignment()) | (Assignment(), Residue()):
            return False
        case (Residue(value=a, modulus=m), Quantity(tree=b)) | (Quantity(tree=b), Residue(value=a, modulus=m)):
            return _is_reduced(a, m) and same_value(a, b)
        case Division(), Division():
            return same_value(gold.quotient, answer.quotient) and same_value(gold.remainder, answer.remainder)
    return None


def _is_reduced(value: Expr, modulus: Expr) -> bool:
    """Whether a residue stands for itself: 12 mod 5 is not 12."""
    if symbols(value) or symbols(modulus):
        return True
    found, size = evaluate(value, {}), evaluate(modulus, {})
    return isinstance(found, Fraction) and isinstance(size, Fraction) and 0 <= found < size


def _same_progression(line: tuple[Expr, Expr], value: Expr, modulus: Expr) -> bool:
    """Whether `5k + 2` runs through all that is 2 modulo 5."""
    start, step = line
    same_step = same_value(step, modulus) or same_value(Call("neg", (step,)), modulus)
    return same_step and _congruent(value, start, modulus)


def _congruent(gold: Expr, answer: Expr, modulus: Expr) -> bool:
    quotient = Call("/", (Call("-", (gold, answer)), modulus))
    if symbols(quotient):
        return same_value(gold, answer)
    multiple = evaluate(quotient, {})
    return isinstance(multiple, Fraction) and multiple.denominator == 1
