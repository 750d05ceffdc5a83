r"""Unicode as LaTeX: one spelling for the signs, superscripts, fractions and marks that answers write as characters."""

from __future__ import annotations

import html
import re
import unicodedata

_SIGNS = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ",
    "•": r"\cdot ", "÷": r"\div ", "⁄": "/", "∕": "/", "∛": r"\sqrt[3] ", "∜": r"\sqrt[4] ", "∞": r"\infty ",
    "∪": r"\cup ", "∩": r"\cap ", "≤": r"\leq ", "≥": r"\geq ", "⩽": r"\leq ", "⩾": r"\geq ", "≠": r"\neq ",
    "≈": r"\approx ", "∼": r"\sim ", "≅": r"\cong ", "≡": r"\equiv ", "∈": r"\in ", "∉": r"\notin ", "⊂": r"\subset ",
    "⊆": r"\subseteq ", "⊃": r"\supset ", "⊇": r"\supseteq ", "∥": r"\parallel ", "⊥": r"\perp ", "∠": r"\angle ",
    "△": r"\triangle ", "±": r"\pm ", "∓": r"\mp ", "°": r"\degree ", "º": r"\degree ",
    "℃": r"\degree C", "℉": r"\degree F", "∅": r"\emptyset ", "ℝ": r"\reals ", "ℤ": r"\integers ", "ℕ": r"\naturals ",
    "ℚ": r"\rationals ", "ℂ": r"\complexes ", "⟨": r"\langle ", "⟩": r"\rangle ", "〈": r"\langle ", "〉": r"\rangle ",
    "∖": r"\setminus ", "∣": "|", "¬": r"\neg ", "∧": r"\wedge ", "∨": r"\vee ", "→": r"\to ", "⇒": r"\Rightarrow ",
    "⇔": r"\Leftrightarrow ", "↔": r"\leftrightarrow ", "∀": r"\forall ", "∃": r"\exists ", "∴": r"\therefore ",
    "∂": r"\partial ", "∑": r"\sum ", "∏": r"\prod ", "∫": r"\int ", "…": r"\ldots ", "⋯": r"\ldots ", "⌊": r"\lfloor ",
    "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ", "‘": "'", "’": "'", "′": "'", "″": "''", "‴": "'''", "“": '"',
    "”": '"', "£": r"\pounds ", "€": r"\euro ", "¥": r"\yen ", "₹": r"\rupee ", "¢": r"\cents ", "、": ",", "。": ".",
    "∶": ":",
    "ℓ": r"\ell ", "\u2009": r"\,", "\u202f": r"\,", "或": r"\text{ or }", "且": r"\text{ and }", "和": r"\text{ and }",
    "µ": r"\mu ", "ı": "i", "■": "", "□": "", "∎": "", "✓": "",
}  # fmt: skip
_GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "εϵ", "zeta": "ζ", "eta": "η", "theta": "θϑ",
    "iota": "ι", "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ", "pi": "π", "rho": "ρ", "sigma": "σς",
    "tau": "τ", "upsilon": "υ", "phi": "φϕ", "chi": "χ", "psi": "ψ", "omega": "ω", "Gamma": "Γ", "Delta": "Δ∆",
    "Theta": "Θ", "Lambda": "Λ", "Xi": "Ξ", "Pi": "Π", "Sigma": "Σ", "Phi": "Φ", "Psi": "Ψ", "Omega": "Ω\u2126",
}  # fmt: skip
_SIGNS |= {letter: rf"\{name} " for name, letters in _GREEK.items() for letter in letters}
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")


def _decomposed(kind: str) -> dict[str, str]:
    """Characters whose compatibility decomposition is of this kind, such as `<super>`, and what they stand for."""
    found = {}
    for code in (*range(0x80, 0x2190), *range(0x2460, 0x24FF)):
        name, _, parts = unicodedata.decomposition(chr(code)).partition(" ")
        if name == kind:
            found[chr(code)] = "".join(chr(int(part, 16)) for part in parts.split())
    return found


_RAISED = {c: text for c, text in _decomposed("<super>").items() if c not in "ªº™℠"}
_LOWERED = _decomposed("<sub>")
_FRACTIONS = {c: text.split("⁄") for c, text in _decomposed("<fraction>").items() if not text.endswith("⁄")}
_CIRCLED = {c: text for c, text in _decomposed("<circle>").items() if text.isdigit()}
_RUN_RAISED = re.compile(f"[{re.escape(''.join(_RAISED))}]+")
_RUN_LOWERED = re.compile(f"[{re.escape(''.join(_LOWERED))}]+")
_RUN_CIRCLED = re.compile(f"[{''.join(_CIRCLED)}]+")
_ROOT = re.compile(r"√\s*(\d+(?:\.\d+)?|[a-zA-Z])?")
_TABLE = str.maketrans(_SIGNS | {c: rf"\frac{{{top}}}{{{bottom}}}" for c, (top, bottom) in _FRACTIONS.items()})


def visible(text: str) -> str:
    """`text` without zero-width, directional and other invisible characters, which answer sheets pick up on the web."""
    return _INVISIBLE.sub("", text)


def latex(text: str) -> str:
    """`text` with its Unicode signs as LaTeX; what has no LaTeX here is brought to its compatible form (NFKC)."""
    if "&" in text:
        text = html.unescape(text)
    if text.isascii():
        return text
    text = _RUN_RAISED.sub(lambda run: f"^{{{''.join(_RAISED[c] for c in run.group())}}}", text)
    text = _RUN_LOWERED.sub(lambda run: f"_{{{''.join(_LOWERED[c] for c in run.group())}}}", text)
    text = _RUN_CIRCLED.sub(lambda run: " " + ",".join(_CIRCLED[c] for c in run.group()) + " ", text)
    text = _ROOT.sub(lambda root: rf"\sqrt{{{root.group(1)}}}" if root.group(1) else r"\sqrt ", text)
    return unicodedata.normalize("NFKC", text.translate(_TABLE)).translate(_TABLE)
