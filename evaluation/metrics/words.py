"""What counts as a word: what blanks set apart, and each character where a script sets no blanks.

Characters stand for words in Chinese, Japanese, Thai and the like, as in MLQA's evaluation (Lewis et al.
2020, "mixed segmentation"). Texts without such characters have the published scripts' words, to the letter.
"""

from __future__ import annotations

import re
import unicodedata

from contracts.scripts import UNSPACED

_ONE = UNSPACED.pattern
_MIXED = re.compile(rf"{_ONE}|(?:(?!{_ONE})\S)+")
# Letters and their signs from Greek on, without Latin: rouge-score knows ASCII only and drops all others.
_OTHER = (
    "[\u0370-\u0dff\u0f00-\u0fff\u10a0-\u177f\u1800-\u1cff\u1f00-\u1fff\u2c80-\u2cff\ua640-\ua69f\ua8e0-\ua8ff"
    "\uac00-\ud7ff\ufb13-\ufdfb\ufe70-\ufefc]"
)
_ROUGE = re.compile(rf"[a-z0-9]+|{_ONE}|{_OTHER}+")


def words(text: str) -> list[str]:
    """The words of a normalised text.

    >>> words("the 北京 2008 olympics")
    ['the', '北', '京', '2008', 'olympics']
    """
    return _MIXED.findall(text) if UNSPACED.search(text) else text.split()


def rouge_words(text: str) -> list[str]:
    """ROUGE's words: ASCII letters and digits as rouge-score has them, and words of scripts that it drops.

    >>> rouge_words("Naïve cats, кошки и 猫")
    ['na', 've', 'cats', 'кошки', 'и', '猫']
    """
    return _ROUGE.findall(text.lower())


def without_punctuation(text: str) -> str:
    """The text without marks of any script, where it has characters that stand for words."""
    if not UNSPACED.search(text):
        return text
    return "".join(" " if unicodedata.category(one)[0] == "P" else one for one in text)
