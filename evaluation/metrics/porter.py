"""The Porter stemmer in NLTK's extended variant, which `rouge-score` uses.

Source: M. Porter, An algorithm for suffix stripping, Program 14(3), 1980; the extensions are NLTK's default
mode (short words, irregular forms, "ies"/"ied", "y" after a consonant, "alli", "fulli", "logi"). Words come
lower-cased, as `rouge` passes them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

_IRREGULAR = {
    "skies": "sky",
    "dying": "die",
    "lying": "lie",
    "tying": "tie",
    "innings": "inning",
    "outings": "outing",
    "cannings": "canning",
} | {
    word: word
    for word in ["sky", "news", "inning", "outing", "canning", "howe", "proceed", "exceed", "succeed"]
}

Condition = Callable[[str], bool]
Rules = Sequence[tuple[str, str]]

_STEP_2: Rules = (
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("bli", "ble"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
    ("fulli", "ful"),
)
_STEP_3: Rules = (
    ("icate", "ic"),
    ("ative", ""),
    ("alize", "al"),
    ("iciti", "ic"),
    ("ical", "ic"),
    ("ful", ""),
    ("ness", ""),
)
_STEP_4 = [
    "al",
    "ance",
    "ence",
    "er",
    "ic",
    "able",
    "ible",
    "ant",
    "ement",
    "ment",
    "ent",
    "ion",
    "ou",
    "ism",
    "ate",
    "iti",
    "ous",
    "ive",
    "ize",
]


def stem(word: str) -> str:
    """The stem of a lower-case word.

    >>> [stem(word) for word in ("running", "flies", "dying", "relational", "happy", "enjoy")]
    ['run', 'fli', 'die', 'relat', 'happi', 'enjoy']
    """
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) <= 2:
        return word
    for step in (_plural, _past, _final_y, _step_2, _step_3, _step_4, _final_e):
        word = step(word)
    return word[:-1] if word.endswith("ll") and _measure(word[:-1]) > 1 else word


def _consonants(word: str) -> list[bool]:
    """Per letter, whether it is a consonant; `y` is one at the start and after a vowel."""
    flags: list[bool] = []
    for letter in word:
        after_consonant = bool(flags) and flags[-1]
        flags.append(not after_consonant if letter == "y" else letter not in "aeiou")
    return flags


def _measure(stem: str) -> int:
    """Porter's m: how often a vowel is followed by a consonant."""
    flags = _consonants(stem)
    return sum(not before and after for before, after in itertools.pairwise(flags))


def _has_vowel(stem: str) -> bool:
    return not all(_consonants(stem))


def _ends_short(word: str) -> bool:
    """Porter's *o (consonant, vowel, consonant but w, x, y), and a two-letter word of vowel, consonant."""
    flags = _consonants(word)
    if len(word) == 2:
        return flags == [False, True]
    return flags[-3:] == [True, False, True] and word[-1] not in "wxy"


def _replace_first(word: str, rules: Rules, condition: Condition) -> str:
    """Apply the first rule whose suffix fits; no other is tried if its condition fails."""
    for suffix, replacement in rules:
        if word.endswith(suffix):
            stem = word[: -len(suffix)]
            return stem + replacement if condition(stem) else word
    return word


def _plural(word: str) -> str:
    if word.endswith("ies"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("sses"):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _past(word: str) -> str:
    if word.endswith("ied"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    for suffix in ("ed", "ing"):
        stem = word.removesuffix(suffix)
        if stem != word and _has_vowel(stem):
            return _mend(stem)
    return word


def _mend(stem: str) -> str:
    """Give a stem without -ed or -ing back its e, or take a doubled consonant away."""
    if stem.endswith(("at", "bl", "iz")):
        return stem + "e"
    if len(stem) > 1 and stem[-1] == stem[-2] and _consonants(stem)[-1]:
        return stem if stem[-1] in "lsz" else stem[:-1]
    return stem + "e" if _measure(stem) == 1 and _ends_short(stem) else stem


def _final_y(word: str) -> str:
    stem = word[:-1]
    return stem + "i" if word.endswith("y") and len(stem) > 1 and _consonants(stem)[-1] else word


def _step_2(word: str) -> str:
    if word.endswith("alli") and _measure(word[:-4]) > 0:
        return _step_2(word[:-2])
    if word.endswith("logi"):  # the l belongs to the stem: "geo-l-ogi", so short stems are cut too
        return word[:-1] if _measure(word[:-3]) > 0 else word
    return _replace_first(word, _STEP_2, lambda stem: _measure(stem) > 0)


def _step_3(word: str) -> str:
    return _replace_first(word, _STEP_3, lambda stem: _measure(stem) > 0)


def _step_4(word: str) -> str:
    for suffix in _STEP_4:
        if word.endswith(suffix):
            stem = word[: -len(suffix)]
            cut = _measure(stem) > 1 and (suffix != "ion" or stem.endswith(("s", "t")))
            return stem if cut else word
    return word


def _final_e(word: str) -> str:
    stem = word.removesuffix("e")
    if stem == word:
        return word
    measure = _measure(stem)
    return stem if measure > 1 or (measure == 1 and not _ends_short(stem)) else word
