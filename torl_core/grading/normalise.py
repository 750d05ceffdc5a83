r"""From the spelling of an answer to tokens: one spelling for what LaTeX, plain text and Unicode write differently.

A token is a number (`12`, `0.5`), one letter (`x`), a command (`\frac`), a symbol (`+`), or a run of words
(`\text:square feet`). Two answers with the same tokens are the same answer. Nothing here computes anything.
"""

from __future__ import annotations

import re
import unicodedata

MAX_CHARS = 2000
MAX_DIGITS = 1000
MAX_DEPTH = 40
WORDS = "\\text:"
"""Prefix of a token that holds words."""

Tokens = tuple[str, ...]

FUNCTIONS = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh arcsinh arccosh arctanh ln log lg exp".split()  # noqa: SIM905
)
_PLAIN_COMMANDS = FUNCTIONS | {"sqrt", "pi", "infty", "cup", "theta", "alpha", "beta", "gamma", "lambda", "phi"}
_PLAIN_ALIASES = {
    "oo": "infty", "infinity": "infty", "inf": "infty", "union": "cup", "asin": "arcsin", "acos": "arccos",
    "atan": "arctan", "deg": "degree", "degree": "degree", "degrees": "degree",
}  # fmt: skip

_UNICODE = str.maketrans(
    {
        "−": "-", "–": "-", "—": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": r"\div ", "π": r"\pi ",
        "√": r"\sqrt ", "∞": r"\infty ", "∪": r"\cup ", "∩": r"\cap ", "≤": r"\leq ", "≥": r"\geq ", "≠": r"\neq ",
        "≈": r"\approx ", "∈": r"\in ", "±": r"\pm ", "∓": r"\mp ", "°": r"\degree ", "º": r"\degree ", "θ": r"\theta ",
        "∅": r"\emptyset ", "ℝ": r"\reals ", "⟨": r"\langle ", "⟩": r"\rangle ", "∖": r"\setminus ", "″": "''",
        "²": "^{2}", "³": "^{3}", "¹": "^{1}", "⁴": "^{4}", "⁵": "^{5}", "⁶": "^{6}", "⁷": "^{7}", "⁸": "^{8}",
        "⁹": "^{9}", "⁰": "^{0}", "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "⅓": r"\frac{1}{3}",
        "⅔": r"\frac{2}{3}", "…": r"\ldots ", "‘": "'", "’": "'", "′": "'", "£": r"\pounds ", "€": r"\euro ",
        "\u00a0": " ", "\u2009": " ", "\u202f": " ", "₀": "_{0}", "₁": "_{1}", "₂": "_{2}", "₃": "_{3}", "₄": "_{4}",
        "₅": "_{5}", "₆": "_{6}", "₇": "_{7}", "₈": "_{8}", "₉": "_{9}",
    }
)  # fmt: skip

_COMMAND_ALIASES = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "le": "leq", "leqslant": "leq", "ge": "geq", "geqslant": "geq",
    "ne": "neq", "lt": "<", "gt": ">", "varnothing": "emptyset", "empty": "emptyset", "arsinh": "arcsinh",
    "arcosh": "arccosh", "artanh": "arctanh", "dbinom": "binom", "tbinom": "binom", "dots": "ldots", "cdots": "ldots",
    "ast": "cdot", "vert": "|", "lvert": "|", "rvert": "|", "mid": "|", "colon": ":", "lbrace": "{", "rbrace": "}",
    "lbrack": "[", "rbrack": "]", "lparen": "(", "rparen": ")", "dollar": "$", "iff": "Leftrightarrow",
    "R": "reals", "Reals": "reals", "backslash": "setminus", "varphi": "phi", "varepsilon": "epsilon",
    "land": "wedge", "lor": "vee", "textdollar": "$", "percent": "%", "textdegree": "degree", "simeq": "approx",
    "smallsetminus": "setminus", "lbrace ": "{",
}  # fmt: skip
_INVISIBLE = re.compile(
    r"\\(?:left|right|middle|displaystyle|textstyle|scriptstyle|limits|nolimits|[bB]igg?[lrm]?|nonumber|strut|boldsymbol"
    r"|mathbf|mathit|bf|rm|it)(?![a-zA-Z])(?:(?<=left)\s*\.|(?<=right)\s*\.)?|\\phantom\s*(?:\{[^{}]*\}|.)|\\(?:hline|underline)(?![a-zA-Z])"
    r"|\\(?:label|color|textcolor)\s*\{[^{}]*\}"
)
_SPACES = re.compile(r"(?P<row>\\\\)|\\(?:quad|qquad|thinspace|enspace|space|hfill|,|;|:|!|>| |\n)|~|&nbsp;")
_THIN_THOUSANDS = re.compile(
    r"(?<=\d)(?:\{,\s*\}|,?\\[!,;:]\s*|\\ )(?=\d{3}(?!\d))|(?<=\d),\\!(?=\d)|(?<=\d)\{,\}(?=\d)"
)
_TEXT = re.compile(
    r"\\(?:text|mbox|hbox|textrm|textbf|textit|textnormal|mathrm|textsf|texttt|operatorname\*?)\s*\{([^{}]*)\}"
)
_LETTER_UNIT = re.compile(r"[msghL](?:/[msh])?(?:\^?\d)?")
_ROW_GAP = re.compile(r"(\\\\)\s*\[[\d.]+\s*(?:pt|em|ex|mm|cm)\]")
_PHRASE = re.compile(r"[A-Za-z][A-Za-z'-]*(?: +[A-Za-z'-]+)+\.?")
_DEGREE = re.compile(
    r"\^\s*(?:\\circ(?![a-zA-Z])|\{\s*\\circ\s*\}|\\degree|\{\s*\\degree\s*\}|o(?![a-zA-Z]))|\\circ(?![a-zA-Z])"
)
_BLACKBOARD = re.compile(r"\\(?:mathbb|Bbb|mathds)\s*(?:\{\s*R\s*\}|R)")
_UNICODE_ROOT = re.compile(r"√\s*(\d+|[a-zA-Z])")
_TOKEN = re.compile(
    r"\\text:[^\\]*\\|\\begin\s*\{[a-zA-Z]+\*?\}|\\end\s*\{[a-zA-Z]+\*?\}|\\[a-zA-Z]+|\\."
    r"|(?<![\d.,])[1-9]\d{0,2}(?:,\d{3})+(?!\d|,\d)(?:\.\d+)?|\d+\.\d+[eE][+-]?\d{1,3}|\d+[eE][+-]\d{2,3}"
    r"|\d+(?:\.\d+|\.(?=\s*(?:\\(?:overline|bar|dot)|[,)\]])))?|\.\d+|[a-zA-Z]+|\*\*|<=|>=|!=|\S"
)
_CONTROL = {"Cc", "Cf", "Cs", "Co", "Cn"}
_OPEN, _CLOSE = "([{", ")]}"


def refusal(text: str) -> str | None:
    """Why `text` is not looked at any further, or None. Bounds the work of everything behind it; linear time."""
    if len(text) > MAX_CHARS:
        return f"longer than {MAX_CHARS} characters"
    if any(unicodedata.category(c) in _CONTROL and c not in "\n\t\r" for c in text):
        return "control, bidirectional or invisible characters"
    if re.search(rf"\d{{{MAX_DIGITS + 1}}}", text):
        return f"a run of more than {MAX_DIGITS} digits"
    depth = deepest = 0
    for c in text:
        depth += (c in _OPEN) - (c in _CLOSE)
        deepest = max(deepest, depth)
    return f"nested deeper than {MAX_DEPTH}" if deepest > MAX_DEPTH else None


def tokens(text: str) -> Tokens:
    """The tokens of one answer. Total: what has no meaning becomes tokens too."""
    if _PHRASE.fullmatch(text.strip()) and _is_prose(text):
        text = f"\\text{{{text}}}"
    text = _ROW_GAP.sub(r"\1", text)
    text = _UNICODE_ROOT.sub(r"\\sqrt{\1}", text).translate(_UNICODE)
    text = unicodedata.normalize("NFKC", text)
    text = _THIN_THOUSANDS.sub("", text)
    text = _BLACKBOARD.sub(r"\\reals ", text)
    text = _DEGREE.sub(r"\\degree ", text)
    text = _SPACES.sub(lambda match: match.group("row") or " ", text)
    text = _INVISIBLE.sub(" ", text)
    text = re.sub(r"\\\$", r"\\dollars ", text).replace("$", " ")
    text = _TEXT.sub(lambda match: _inline_text(match.group(1)), text)
    found = [name for match in _TOKEN.finditer(text) for name in _canonical(match.group())]
    return _strip(found)


def _is_prose(phrase: str) -> bool:
    """Whether bare words are a sentence rather than plain-text mathematics like `sin x` or `x and y`."""
    words = phrase.strip(" .").split()
    return any(len(word) > 2 for word in words) and not any(
        word in _PLAIN_COMMANDS or word in _PLAIN_ALIASES or word in ("and", "or") for word in words
    )


def _inline_text(content: str) -> str:
    """Mathematics that was merely set upright stays mathematics; words become one token, ended by a backslash."""
    content = content.replace("\\", " ").strip()
    mathematics = not re.search(r"[a-zA-Z]{2}", content) and not _LETTER_UNIT.fullmatch(content)
    return f" {content} " if mathematics else f" {WORDS}{content}\\"


def _canonical(lexeme: str) -> list[str]:
    if lexeme.startswith(WORDS):
        return _words(lexeme[len(WORDS) : -1])
    if lexeme.startswith("\\begin") or lexeme.startswith("\\end"):
        return [re.sub(r"[\s*]", "", lexeme)]
    if lexeme.startswith("\\") and lexeme[1:].isalpha():
        name = _COMMAND_ALIASES.get(lexeme[1:], lexeme[1:])
        return [name if not name[0].isalpha() else f"\\{name}"]
    if lexeme.isascii() and lexeme.isalpha():
        return _letters(lexeme)
    return [
        {"**": "^", "<=": "\\leq", ">=": "\\geq", "!=": "\\neq", "*": "\\cdot", "\\%": "%", "\\|": "\\|"}.get(
            lexeme, lexeme
        )
    ]


def _letters(run: str) -> list[str]:
    """A run of plain letters: a name with a meaning, a word, or a product of variables."""
    name = _PLAIN_ALIASES.get(run, _PLAIN_ALIASES.get(run.lower(), run) if len(run) > 2 else run)
    if name in _PLAIN_COMMANDS or name == "degree":
        return [f"\\{name}"]
    if run in ("and", "or") or len(run) > 3 or run in _SHORT_WORDS:
        return _words(run)
    return list(run)


_SHORT_WORDS = frozenset(
    "cm mm km kg mg mL ml ft in mph hr hrs min sec mi lb lbs oz yd sq cu no nan NaN None yes Yes No".split()  # noqa: SIM905
)


_PHRASES = {
    "infinity": "\\infty", "degree": "\\degree", "degrees": "\\degree", "percent": "%", "per cent": "%",
    "all real numbers": "\\reals", "all reals": "\\reals", "real numbers": "\\reals", "empty set": "\\emptyset",
    "the empty set": "\\emptyset",
}  # fmt: skip


def _words(content: str) -> list[str]:
    """Tokens of a text: `and`, `or` and punctuation separate; what stands between is one token, in lower case."""
    out: list[str] = []
    for part in re.findall(r"[,;:]|\band\b|\bor\b|\d+(?:\.\d+)?|(?:(?!\band\b|\bor\b)[^,;:\d])+", content):
        word = " ".join(part.split()).strip(". ")
        if part.strip() in ("and", "or"):
            out.append(WORDS + part.strip())
        elif re.fullmatch(r"\(?[A-Z]\)?", word):
            out += list(word)
        elif word.casefold() in _PHRASES:
            out.append(_PHRASES[word.casefold()])
        elif word.isascii() and word in FUNCTIONS | {"sqrt", "pi"}:
            out.append(f"\\{word}")
        elif re.fullmatch(r"[,;:\d.]+", word):
            out.append(word)
        elif word:
            out.append(WORDS + word.casefold())
    return out


def _strip(found: list[str]) -> Tokens:
    """Without closing punctuation and without braces or a box around the whole."""
    changed = True
    while changed and found:
        changed = True
        if found[-1] in (".", ",", ";", "\\", "\\\\") or (found[-1] == ":" and len(found) > 1):
            found = found[:-1]
        elif found[0] in ("\\boxed", "\\fbox", "\\approx", "="):
            found = found[1:]
        elif found[0] == "{" and closing(found, 0) == len(found) - 1:
            found = found[1:-1]
        else:
            changed = False
    return _unbrace(found)


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
    if before and before[-1] in ("\\frac", "\\binom"):
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


def closing(found: list[str] | Tokens, start: int) -> int:
    """Index of the bracket that closes the one at `start`, by kind-blind depth; -1 when there is none."""
    depth = 0
    for i in range(start, len(found)):
        depth += (found[i] in OPENING) - (found[i] in CLOSING)
        if depth == 0:
            return i
    return -1


OPENING = frozenset(["(", "[", "{", "\\{", "\\langle", "\\lfloor", "\\lceil"])
CLOSING = frozenset([")", "]", "}", "\\}", "\\rangle", "\\rfloor", "\\rceil"])
