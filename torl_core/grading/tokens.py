r"""From the spelling of an answer to tokens: one spelling for what LaTeX and plain text write differently.

A token is a number (`12`, `0.5`), one letter (`x`), a command (`\frac`), a symbol (`+`), or a word (`~feet`: upright
text, or bare letters that cannot be a product). Two answers with the same tokens are the same answer. Nothing here
computes anything, and nothing with a meaning is dropped: what no kind of answer explains makes an answer unreadable.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

from torl_core.grading import characters
from torl_core.grading.measures import unit

MAX_CHARS = 2000
MAX_DIGITS = 1000
MAX_DEPTH = 40
WORD = "~"
"""Prefix of a token that is a word."""

Tokens = tuple[str, ...]


def vocabulary(words: str, prefix: str = "") -> frozenset[str]:
    """The words of a text; `prefix` makes tokens of them."""
    return frozenset(prefix + word for word in words.split())


FUNCTIONS = vocabulary(
    """
    sin cos tan cot sec csc arcsin arccos arctan arccot arcsec arccsc sinh cosh tanh arcsinh arccosh arctanh ln
    log lg exp cis sgn
    """
)
NUMBER_SETS = frozenset(["\\reals", "\\integers", "\\naturals", "\\rationals", "\\complexes"])
OPENING = frozenset(["(", "[", "{", "\\{", "\\langle", "\\lfloor", "\\lceil"])
CLOSING = frozenset([")", "]", "}", "\\}", "\\rangle", "\\rfloor", "\\rceil"])

_PLAIN = {
    **{name: f"\\{name}" for name in (*FUNCTIONS, "sqrt", "pi", "infty", "cup", "theta", "alpha", "beta", "gamma",
                                       "lambda", "phi", "omega", "sigma", "delta", "mu", "binom", "gcd", "lcm")},
    "oo": "\\infty", "infinity": "\\infty", "inf": "\\infty", "union": "\\cup", "asin": "\\arcsin", "acos": "\\arccos",
    "atan": "\\arctan", "acot": "\\arccot", "arsinh": "\\arcsinh", "arcosh": "\\arccosh", "artanh": "\\arctanh",
    "asinh": "\\arcsinh", "acosh": "\\arccosh", "atanh": "\\arctanh", "deg": "\\degree", "degree": "\\degree",
    "degrees": "\\degree", "percent": "%",
}  # fmt: skip
"""Names that mean the same in plain text as the command."""

_COMMANDS = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "nicefrac": "frac", "sfrac": "frac", "le": "leq", "ge": "geq",
    "leqslant": "leq", "geqslant": "geq", "leqq": "leq", "geqq": "geq", "ne": "neq", "lt": "<", "gt": ">",
    "varnothing": "emptyset", "empty": "emptyset", "arsinh": "arcsinh", "arcosh": "arccosh", "artanh": "arctanh",
    "dbinom": "binom", "tbinom": "binom", "dots": "ldots", "cdots": "ldots", "dotsc": "ldots", "dotsb": "ldots",
    "ast": "cdot", "vert": "|", "lvert": "|", "rvert": "|", "mid": "|", "colon": ":", "lbrace": "\\{", "rbrace": "\\}",
    "lbrack": "[", "rbrack": "]", "lparen": "(", "rparen": ")", "dollar": "dollars", "textdollar": "dollars",
    "iff": "Leftrightarrow", "implies": "Rightarrow", "Longrightarrow": "Rightarrow", "rightarrow": "to",
    "longrightarrow": "to", "R": "reals", "Reals": "reals", "Z": "integers", "N": "naturals", "Q": "rationals",
    "backslash": "setminus", "smallsetminus": "setminus", "varphi": "phi", "varepsilon": "epsilon", "vartheta": "theta",
    "land": "wedge", "lor": "vee", "lnot": "neg", "percent": "%", "textdegree": "degree", "simeq": "approx",
    "doteq": "approx", "overrightarrow": "vec", "overline": "bar", "widehat": "hat", "widetilde": "tilde",
    "measuredangle": "angle", "sphericalangle": "angle", "bigtriangleup": "triangle", "vartriangle": "triangle",
    "lVert": "|", "rVert": "|", "textcent": "cents", "cent": "cents", "euros": "euro", "arcctg": "arccot", "tg": "tan",
    "ctg": "cot", "arctg": "arctan", "Re": "Re", "owns": "ni",
}  # fmt: skip

_SIZES = re.compile(
    r"\\(?:left|right|middle|displaystyle|textstyle|scriptstyle|scriptscriptstyle|limits|nolimits|[bB]igg?[lrm]?"
    r"|nonumber|notag|strut|bf|rm|it|sf|tt|tiny|scriptsize|footnotesize|small|normalsize|large|Large|LARGE|huge|Huge"
    r"|centering|hline|underline|ensuremath|mathopen|mathclose|mathrel|mathbin|mathord|blacksquare|square|qed|Box"
    r"|mathstrut|null|boxed|fbox|QED)(?![a-zA-Z])(?:(?<=left)\s*\.|(?<=right)\s*\.)?"
    r"|\\[hv]?phantom\s*(?:\{[^{}]*\}|.)|\\(?:label|tag\*?|color|textcolor|hspace\*?|vspace\*?)\s*\{[^{}]*\}"
)
_SPACES = re.compile(r"(?P<row>\\\\)|\\(?:quad|qquad|thinspace|enspace|space|hfill|,|;|:|!|>| |\n)|~|&nbsp;")
_THOUSANDS = re.compile(r"(?<=\d)(?:\{,\s*\}|,?\\[!,;:]\s*|\\ )(?=\d{3}(?!\d))|(?<=\d),\\!(?=\d)|(?<=\d)\{,\}(?=\d)")
_ROW_GAP = re.compile(r"(\\\\)\s*\[[\d.]+\s*(?:pt|em|ex|mm|cm)\]")
_LINE_BREAK = re.compile(r"\\\\\s*&?\s*(?=([=+\-<>*/]|\\(?:leq?|geq?|cdot|times|cup|cap)(?![a-zA-Z])|$)?)")
_OPEN_PLUS_MINUS = re.compile(r"(?<=\s)\+-(?=\s)")
_PERIOD = re.compile(r"(?<=\d\.)\((\d+)\)(?![\w^])")
_SLANTED = re.compile(r"\^\s*\{(\w+)\}\s*/\s*_\s*\{(\w+)\}")
_MARKDOWN = re.compile(r"\s*\*\*([^*]+)\*\*\s*")
_FRENCH = re.compile(
    r"(?:(?<=\\cup)|^|(?<=\\in))(\s*)(\\left)?([\[\]])([^\[\]()]*,[^\[\]()]*?)(\\right)?([\[\]])(?=\s*(?:$|\\cup))"
)
_DEGREE = re.compile(
    r"\^\s*(?:\\circ(?![a-zA-Z])|\{\s*\\circ\s*\}|\\degree|\{\s*\\degree\s*\}|\\text\{o\}|o(?![a-zA-Z]))"
    r"|\\circ(?![a-zA-Z])"
)
_PRIME = re.compile(r"\^\s*(?:\\prime(?![a-zA-Z])|\{((?:\s*\\prime(?![a-zA-Z]))+)\s*\})")
_SETS = re.compile(
    r"\\(?:(?:mathbb|Bbb|mathds)(?:\s*\{\s*([RZNQC])\s*\}|\s*([RZNQC])(?![a-zA-Z]))|mathbf\s*\{\s*([RZNQ])\s*\})"
)
_SET_NAMES = {"R": r"\reals ", "Z": r"\integers ", "N": r"\naturals ", "Q": r"\rationals ", "C": r"\complexes "}
_INFIX = re.compile(r"(?:\{|^)([^{}]*)\\(over|choose)(?![a-zA-Z])([^{}]*)(?:\}|$)")
_CHOOSE_BELOW = re.compile(r"C_\s*(?:\{(\d+)\}|(\d))\s*\^\s*(?:\{(\d+)\}|(\d))")
_ORDINAL = re.compile(
    r"(?<=\d)\s*\^\s*(?:\{\s*)?(?:\\(?:text|mathrm|rm|textrm)\s*\{\s*)?(?:st|nd|rd|th)(?:\s*\}){0,2}(?![a-zA-Z])"
)
_TYPEFACES = re.compile(
    r"\\(?:mathrm|mathbf|mathit|mathsf|mathtt|mathcal|boldsymbol|bm|text|textbf|textit|textrm|mbox)(?=\s*\{)"
)
_CHOOSE = re.compile(r"(?:\{\s*\}\s*)?[\^_]\s*(?:\{(\w+)\}|(\w))\s*C\s*_\s*(?:\{(\w+)\}|(\w))|(?<!\w)(\d+)C(\d+)(?!\w)")
_UPRIGHT = re.compile(
    r"\\(?:text|mbox|hbox|textrm|textbf|textit|textnormal|textsf|texttt|textsc|textup|emph)\s*\{((?:[^{}]|\{[^{}]*\})*)\}"
)
_LETTERS = re.compile(
    r"\\(mathrm|mathbf|mathit|mathsf|mathtt|mathcal|mathnormal|boldsymbol|bm|operatorname\*?)(?![a-zA-Z])\s*"
    r"(?:\{([^{}]*)\}|([a-zA-Z]))"
)
BACKSLASH = "\\"
_MARK = "\ue000"
_TEXT_WORD = re.compile(r"\\[a-zA-Z]+|[^\W\d_\ue000]+(?:['-][^\W\d_]+)*")
_HALF_DAY = re.compile(r"(?<![a-zA-Z])([ap])\.\s?m\.?(?![a-zA-Z])", re.IGNORECASE)
_DELIMITERS = re.compile(r"(?<!\\)\\[()\[\]]")
_TIMES_LETTER = re.compile(r"(?<=\d)\s*[xX]\s*(?=10\s*\^)")
_TOKEN = re.compile(
    r"\ue000[^\W\d_]+(?:['-][^\W\d_]+)*|\\begin\s*\{[a-zA-Z]+\*?\}|\\end\s*\{[a-zA-Z]+\*?\}|\\[a-zA-Z]+|\\."
    r"|(?<![\d.,])[1-9]\d{0,2}(?:,\d{3})+(?!\d|,\d)(?:\.\d+)?|\d+(?:\.\d+)?[eE][+-]?\d{1,3}(?![\w.])"
    r"|\d+(?:\.\d+|\.(?=\s*(?:\\(?:overline|bar|dot)|[,)\]])))?|\.\d+"
    r"|[^\W\d_\x00-\x7f]+|[a-z]{3,}(?:-[a-z]{3,})+|[a-zA-Z]{3,}'s(?![a-z])|[a-zA-Z]+|\*\*|\.\.\.+|<=|>=|(?<![\d)}])!=|=>|\+/-|\S"
)
_SYMBOLS = {
    "**": "^", "<=": "\\leq", ">=": "\\geq", "!=": "\\neq", "*": "\\cdot", "\\%": "%", "\\$": "\\dollars",
    "=>": "\\Rightarrow", "...": "\\ldots", "....": "\\ldots", "+/-": "\\pm", "\\|": "|", "\\_": "_",
    "\\&": "\\wedge", "\\#": "#",
}  # fmt: skip
_NEGATED = {
    "=": "\\neq", "\\in": "\\notin", "\\equiv": "\\nequiv", "\\subset": "\\nsubset", "\\subseteq": "\\nsubseteq",
    "\\parallel": "\\nparallel", "\\leq": ">", "\\geq": "<", "<": "\\geq", ">": "\\leq", "|": "\\nmid",
    "\\perp": "\\nperp", "\\sim": "\\nsim", "\\cong": "\\ncong",
}  # fmt: skip
_PHRASES: tuple[tuple[Tokens, Tokens], ...] = tuple(
    (tuple(WORD + word for word in phrase.split()), tuple(sign.split()))
    for phrase, sign in (
        ("the set of all real numbers", "\\reals"), ("set of all real numbers", "\\reals"),
        ("the set of real numbers", "\\reals"), ("all real numbers", "\\reals"), ("all reals", "\\reals"),
        ("real numbers", "\\reals"), ("all integers", "\\integers"), ("the integers", "\\integers"),
        ("integers", "\\integers"), ("all rational numbers", "\\rationals"), ("rational numbers", "\\rationals"),
        ("all natural numbers", "\\naturals"), ("natural numbers", "\\naturals"),
        ("all complex numbers", "\\complexes"), ("complex numbers", "\\complexes"),
        ("all nonnegative real numbers", "\\reals _ \\geq 0"), ("all positive real numbers", "\\reals ^ +"),
        ("all nonnegative reals", "\\reals _ \\geq 0"), ("all positive reals", "\\reals ^ +"),
        ("all negative real numbers", "\\reals _ < 0"), ("positive real numbers", "\\reals ^ +"),
        ("the empty set", "\\emptyset"), ("empty set", "\\emptyset"), ("per cent", "%"), ("percent", "%"),
        ("is an integer", "\\in \\integers"), ("are integers", "\\in \\integers"), ("plus or minus", "\\pm"),
        ("positive infinity", "\\infty"), ("degrees", "\\degree"), ("degree", "\\degree"),
    )
)  # fmt: skip
_SHORT_WORDS = vocabulary(
    """
    cm mm km kg mg mL ml ft mph kph hr hrs min mins max sec secs lb lbs oz yd yds sq cu cc mi usd USD no No NO
    yes Yes YES none None nan NaN of to is if and or for all any per the not one two six ten odd sum are has was
    but day days DNE via let set
    """
)
_WORDS_BESIDE_WORDS = vocabulary(
    """
    a an as at be by do go he in it me my on so up us we
    """
)
_SUFFIXES = frozenset(["st", "nd", "rd", "th"])
_UNIT_LETTERS = frozenset("msghkLlNJWVAKCFtTy")
_DIFFERENTIALS = frozenset(f"d{letter}" for letter in "xyztuvrs")
_PREFIXED = re.compile(r"[xyz]?(?:(?:sin|cos|tan|ln|log)[xyznAB])+")
_PREFIXED_PART = re.compile(r"(sin|cos|tan|ln|log)|([a-zA-Z])")


def refusal(text: str) -> str | None:
    """Why `text` is not looked at any further, or None. Bounds the work of everything behind it; linear time."""
    if len(text) > MAX_CHARS:
        return f"longer than {MAX_CHARS} characters"
    if not text.isascii() and any(_hidden(c) for c in text):
        return "control, bidirectional or invisible characters"
    if not text.isprintable() and any(ord(c) < 32 and c not in "\n\t\r" for c in text):
        return "control characters"
    if re.search(rf"\d{{{MAX_DIGITS + 1}}}", text):
        return f"a run of more than {MAX_DIGITS} digits"
    depth = deepest = 0
    for c in text:
        depth += (c in "([{") - (c in ")]}")
        deepest = max(deepest, depth)
    return f"nested deeper than {MAX_DEPTH}" if deepest > MAX_DEPTH else None


def _hidden(c: str) -> bool:
    return unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Cn"} and c not in "\n\t\r"


def tokens(text: str, bold_is_vector: bool = False) -> Tokens:
    r"""The tokens of one answer. Total: what has no meaning becomes tokens too.

    `bold_is_vector` reads `\mathbf{a}` as `\vec{a}`; without it bold is only a typeface.
    """
    text = _unified(characters.latex(text.replace(_MARK, " ")))
    for _ in range(4):  # typefaces lie inside one another
        text = _LETTERS.sub(lambda match: _typeface(match, bold_is_vector), text)
        text, changed = _UPRIGHT.subn(lambda match: _upright(match.group(1)), text)
        if not changed:
            break
    text = _TYPEFACES.sub(" ", text).replace("$", " ")
    found = [token for match in _TOKEN.finditer(text) for token in _canonical(match)]
    return _strip(_in_context(_negations(_sign_in_parentheses(_phrases(found)))))


def _unified(text: str) -> str:
    """One spelling of what LaTeX has several commands for; typefaces apart."""
    text = _MARKDOWN.sub(r"\1", text).replace("{}", " ")
    text = _FRENCH.sub(_half_open, text)
    text = _ROW_GAP.sub(r"\1", text).replace("Q.E.D.", " ").replace("Q.E.D", " ")
    text = _HALF_DAY.sub(lambda match: f"{match.group(1)}m", text)
    text = _THOUSANDS.sub("", text)
    text = _SETS.sub(lambda match: _SET_NAMES[match.group(1) or match.group(2) or match.group(3)], text)
    text = _DEGREE.sub(r"\\degree ", text)
    text = _PRIME.sub(lambda match: "'" * (match.group(1) or "\\prime").count("\\prime"), text)
    text = _SPACES.sub(lambda match: match.group("row") or " ", text)
    text = _SIZES.sub(" ", text)
    text = _INFIX.sub(
        lambda m: rf"\{'frac' if m.group(2) == 'over' else 'binom'}{{{m.group(1)}}}{{{m.group(3)}}}", text
    )
    text = _CHOOSE.sub(lambda m: rf"\binom{{{m[1] or m[2] or m[5]}}}{{{m[3] or m[4] or m[6]}}}", text)
    text = _CHOOSE_BELOW.sub(lambda m: rf"\binom{{{m[1] or m[2]}}}{{{m[3] or m[4]}}}", text)
    text = _ORDINAL.sub("th ", text)
    if "\\begin" not in text:
        text = _LINE_BREAK.sub(lambda match: " " if match.group(1) else " , ", text)
    text = _OPEN_PLUS_MINUS.sub(r"\\pm ", _PERIOD.sub(r"\\overline{\1}", text))
    text = _SLANTED.sub(r"\\frac{\1}{\2}", text)
    text = _TIMES_LETTER.sub(r"\\times ", text)
    return _DELIMITERS.sub(" ", text.replace("\\$", "\\dollars "))


def _half_open(match: re.Match[str]) -> str:
    """`]0, 1[` as `(0, 1)`: a bracket that is turned away leaves its end out."""
    low, high = match.group(3), match.group(6)
    return f"{match.group(1)}{'[' if low == '[' else '('}{match.group(4)}{']' if high == ']' else ')'}"


def _typeface(match: re.Match[str], bold_is_vector: bool) -> str:
    """Letters in another typeface: a unit, a function or a word where they spell one, else the letters themselves."""
    face, content = match.group(1), (match.group(2) if match.group(2) is not None else match.group(3)).strip()
    if bold_is_vector and face in ("mathbf", "boldsymbol", "bm") and re.fullmatch(r"[a-zA-Z]", content):
        return rf"\vec{{{content}}}"
    if face in ("mathcal", "mathnormal") or not content.isalpha():
        return rf"\text{{{content}}}" if re.search(r"[a-zA-Z]{2}", content) else f" {content} "
    if content in FUNCTIONS:
        return rf"\{content} "
    measured = match.string[: match.start()].rstrip()[-1:] in tuple("0123456789}") and unit(
        (WORD + content.casefold(),)
    )
    if len(content) != 2 or content in _SHORT_WORDS or measured or face.startswith("operatorname"):
        return rf"\text{{{content}}}"
    return f" {content} "


def _upright(content: str) -> str:
    """Upright text: its words are marked, and what else stands in it (numbers, signs) stays mathematics."""
    return f" {_TEXT_WORD.sub(lambda m: m.group() if m.group()[0] == BACKSLASH else f' {_MARK}{m.group()} ', content)} "


def _canonical(match: re.Match[str]) -> Iterator[str]:
    lexeme = match.group()
    if lexeme[0] == _MARK:
        yield _word(lexeme[1:])
    elif lexeme.startswith(("\\begin", "\\end")):
        yield re.sub(r"[\s*]", "", lexeme)
    elif lexeme[0] == "\\" and lexeme[1:].isalpha():
        name = _COMMANDS.get(lexeme[1:], lexeme[1:])
        yield f"\\{name}" if name[0].isalpha() else name
    elif lexeme[0].isalpha() and not lexeme.isascii():
        yield WORD + lexeme
    elif "-" in lexeme[1:] and lexeme[0].isalpha() and any(map(_PREFIXED.fullmatch, lexeme.split("-"))):
        first, *rest = lexeme.split("-")
        yield from _letters(first, False, False, False)
        for part in rest:
            yield from ("-", *_letters(part, False, False, False))
    elif lexeme[0].isalpha():
        before, behind = match.string[: match.start()], match.string[match.end() :]
        yield from _letters(lexeme, before[-1:].isdigit(), before.rstrip()[-1:].isdigit(), behind[:1] == "(")
    else:
        yield _SYMBOLS.get(lexeme, lexeme)


def _word(word: str) -> str:
    """The token of a word in upright text."""
    if word in _SUFFIXES:
        return WORD + "th"
    if word in ("and", "or"):
        return WORD + word
    return _PLAIN.get(word, WORD + word) if word not in ("sec", "deg") else WORD + word


def _letters(run: str, touches_digit: bool, follows_number: bool, before_bracket: bool) -> Iterator[str]:
    """A run of plain letters: a name with a meaning, a word, or a product of variables."""
    if touches_digit and run in _SUFFIXES:
        yield WORD + "th"
    elif run in ("max", "min") and before_bracket:
        yield f"\\{run}"
    elif follows_number and run.lower() in ("sec", "in", "am", "pm"):
        yield WORD + run
    elif (
        name := _PLAIN.get(run) or (_PLAIN.get(run.lower()) if len(run) > 2 else None)
    ) and run.lower() not in FUNCTIONS - {run}:
        yield name
    elif run in _SHORT_WORDS or _is_word(run):
        prefixed = _PREFIXED.fullmatch(run)
        if prefixed:
            yield from (f"\\{name}" if name else letter for name, letter in _PREFIXED_PART.findall(run))
        else:
            yield WORD + run
    elif len(run) == 3 and run.endswith("pi"):
        yield from (run[0], "\\pi")
    elif run[-2:] in _DIFFERENTIALS and len(run) in (2, 3):
        yield from (*run[:-2], run[-2:])
    else:
        yield from run


def _is_word(run: str) -> bool:
    """Whether a run of letters is a word or the name of a figure (`SAS`, `Ted`), not a product of variables."""
    if len(run) > 3 or "-" in run or "'" in run or _PREFIXED.fullmatch(run):
        return True
    if len(run) < 3:
        return False
    ordered = "".join(sorted(run)) == run
    return run[0].isupper() or (any(c in "aeiou" for c in run) and not ordered)


def _phrases(found: list[str]) -> list[str]:
    """Words that name what a sign names become that sign."""
    if not any(token[0] == WORD for token in found):
        return found
    out: list[str] = []
    at = 0
    while at < len(found):
        for phrase, signs in _PHRASES:
            if signs[0] in NUMBER_SETS and out and (is_number(out[-1]) or is_word(out[-1])):
                continue  # `7 distinct integers` are no set
            if tuple(token.casefold() for token in found[at : at + len(phrase)]) == phrase:
                out += signs
                at += len(phrase)
                break
        else:
            out.append(found[at])
            at += 1
    return out


def _sign_in_parentheses(found: list[str]) -> list[str]:
    """`45 (degrees)` as `45 degrees`."""
    for i in range(len(found) - 2):
        if found[i] == "(" and found[i + 1] in ("\\degree", "%") and found[i + 2] == ")":
            return [*found[:i], found[i + 1], *found[i + 3 :]]
    return found


def _negations(found: list[str]) -> list[str]:
    r"""`\not` and the relation behind it as one relation; in front of anything else it stays, and is unreadable."""
    while "\\not" in found[:-1]:
        at = found.index("\\not")
        following = found[at + 1]
        found = [*found[:at], _NEGATED.get(following, f"\\not{following}"), *found[at + 2 :]]
    return found


def _in_context(found: list[str]) -> list[str]:
    """Single upright letters are units behind a quantity, else letters; small words beside words are words."""
    out: list[str] = []
    for i, token in enumerate(found):
        before = out[-1] if out else ""
        after = found[i + 1] if i + 1 < len(found) else ""
        if before == "(" and after == ")" and i + 2 == len(found) and len(out) == 2 and is_number(out[0]):
            out.append(WORD + token if token in _UNIT_LETTERS else token)  # 250 (g)
        elif token in "aA" and not i and len(after) > 2 and after[0] == WORD and unit((after.casefold(),)) is None:
            out.append(WORD + token)  # `a square`
        elif len(token) == 2 and token[0] == WORD:
            beside = len(after) > 2 and after[0] == WORD and after not in (WORD + "and", WORD + "or")
            out.append(token if _may_be_unit(token[1], out) or (token[1] in "aA" and beside) else token[1])
        else:
            out.append(token)
    return _small_words(out)


def _may_be_unit(letter: str, before: list[str]) -> bool:
    last = before[-1] if before else ""
    if last[:1] == WORD:  # the second unit of `5 kg m`, but not the letter of `Plan A`
        return letter in _UNIT_LETTERS and last not in (WORD + "and", WORD + "or") and is_number(before[0])
    return letter in _UNIT_LETTERS and (
        last[-1:].isdigit() or last in ("}", "{", "\\frac", "\\degree", ")", "/", "\\mu", "\\cdot")
    )


def _small_words(found: list[str]) -> list[str]:
    """`in`, `at`, `by` and the like, lexed as letters, where a word stands on either side."""
    out: list[str] = []
    at = 0
    while at < len(found):
        pair = "".join(found[at : at + 2])
        beside = any(len(token) > 2 and token[0] == WORD for token in (out[-1:] + found[at + 2 : at + 3]))
        if pair in _WORDS_BESIDE_WORDS and len(found[at]) == 1 and beside:
            out.append(WORD + pair)
            at += 2
        else:
            out.append(found[at])
            at += 1
    return out


def _strip(found: list[str]) -> Tokens:
    """Without closing punctuation and without braces or a box around the whole."""
    changed = True
    while changed and found:
        changed = True
        if found[-1] in (".", ",", ";", "\\", "\\\\") or (found[-1] == ":" and len(found) > 1):
            found = found[:-1]
        elif found[0] in ("\\approx", "=", "\\therefore", "."):
            found = found[1:]
        elif (found[0] == "{" and closing(found, 0) == len(found) - 1 and not is_bare_set(found)) or (
            found[0] == found[-1] == '"' and len(found) > 1
        ):
            found = found[1:-1]
        else:
            changed = False
    return _unbrace(found)


def is_bare_set(found: Sequence[str]) -> bool:
    """`{1, 2}` and `{x | x > 1}`, whose braces TeX does not show but the writer meant."""
    depth = 0
    outside = set()
    for token in found:
        depth += (token in OPENING) - (token in CLOSING)
        if depth == 1:
            outside.add(token)
    builder = "|" in outside or (":" in outside and not is_number(found[1]))
    return builder or ("," in outside and "=" not in outside)


def _unbrace(found: list[str]) -> Tokens:
    r"""Without braces around a single token where TeX needs none: `x^{2}` is `x^2`, but `\frac{12}{5}` keeps them."""
    out: list[str] = []
    for i, token in enumerate(found):
        inner = i >= 2 and found[i - 2] == "{" and token == "}" and found[i - 1] not in "{}"
        if inner and len(out) >= 2 and out[-2] == "{":
            single = out.pop()
            out.pop()
            digits = single[0].isdigit() and len(single) > 1
            out += ["{", single, "}"] if digits and _takes_one_digit(out) else [single]
        else:
            out.append(token)
    return tuple(out)


def _takes_one_digit(before: list[str]) -> bool:
    r"""True where TeX would read only the first digit of a bare number: the arguments of `\frac` and `\binom`."""
    if before and (before[-1] in ("\\frac", "\\binom") or before[-2:] == ["\\log", "_"]):
        return True
    start = _group_start(before)
    return start > 0 and before[start - 1] in ("\\frac", "\\binom")


def _group_start(before: list[str]) -> int:
    if not before:
        return -1
    if before[-1] != "}":
        return len(before) - 1
    depth = 0
    for i in range(len(before) - 1, -1, -1):
        depth += (before[i] == "}") - (before[i] == "{")
        if depth == 0:
            return i
    return -1


def closing(found: Sequence[str], start: int) -> int:
    """Index of the bracket that closes the one at `start`, by kind-blind depth; -1 when there is none."""
    depth = 0
    for i in range(start, len(found)):
        depth += (found[i] in OPENING) - (found[i] in CLOSING)
        if depth == 0:
            return i
    return -1


def is_word(token: str) -> bool:
    return len(token) > 1 and token[0] == WORD


def is_number(token: str) -> bool:
    return token[:1].isdigit() or (token[:1] == "." and len(token) > 1)


def split(found: Tokens, separators: tuple[str, ...]) -> list[Tokens]:
    """The parts between top-level separators; the whole alone where there are none."""
    parts: list[Tokens] = []
    depth = start = 0
    for i, token in enumerate(found):
        depth += (token in OPENING or token.startswith("\\begin{")) - (token in CLOSING or token.startswith("\\end{"))
        if depth == 0 and token in separators:
            parts.append(found[start:i])
            start = i + 1
    return [*parts, found[start:]]
