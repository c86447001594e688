"""The text as a reader sees it, whatever characters it is written in.

Sources: Unicode's property Default_Ignorable_Code_Point (UAX #44) for what nobody sees, its table of
confusable characters (UTS #39) for look-alikes of Latin letters.
"""

from __future__ import annotations

import re
import unicodedata

_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_TAGS = re.compile("[\U000e0020-\U000e007e]+")
_TAG_BASE = 0xE0000
# Accents and strokes over letters; vowel signs of other scripts are letters in all but name.
_MARKS = re.compile("[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]")
_MOST_GROWTH, _GROWTH_OF_SHORT = 4, 200
_SPACE = re.compile(r"\s+")
_LOOKS = {
    "a": "аαɑ", "b": "ьƅ", "c": "сᴄⲥ", "d": "ԁ", "e": "еҽꬲє", "f": "ꬵẝք", "g": "ɡցƍᶃ", "h": "һհ",
    "i": "іιıɪɩꙇ", "j": "јϳ", "k": "кκ", "l": "ӏǀ", "m": "м", "n": "ոռп", "o": "оοօᴏⲟσ", "p": "рρⲣ",
    "q": "ԛգ", "r": "гᴦⲅ", "s": "ѕꜱ", "t": "тτ", "u": "υսʋᴜ", "v": "νѵᴠ", "w": "ѡԝաɯᴡ", "x": "хχ",
    "y": "уүγʏყ", "z": "ᴢ",
}  # fmt: skip
_LATIN = {look: letter for letter, looks in _LOOKS.items() for look in looks}
_TABLE = str.maketrans(_LATIN)
_DISGUISED = re.compile(rf"\w*[{''.join(_LATIN)}]\w*")


def plain(text: str) -> str:
    """What a reader sees: look-alikes folded, invisible characters and accents gone, in lower case.

    Text in tag characters, which a model may read and a person does not see, follows behind. Positions are
    not those of the original.
    """
    if text.isascii():
        return _SPACE.sub(" ", text).casefold()
    hidden = "".join(chr(ord(tag) - _TAG_BASE) for run in _TAGS.findall(text) for tag in run)
    shown = unmarked(_INVISIBLE.sub("", text)).casefold()
    folded = _DISGUISED.sub(_as_latin, shown)
    return _SPACE.sub(" ", f"{folded} {hidden.casefold()}" if hidden else folded)


def unmarked(text: str) -> str:
    """The text in one form of each character (NFKC), without accents. Patterns for `plain` go through it."""
    apart = unicodedata.normalize("NFKD", text)
    if len(apart) > _MOST_GROWTH * len(text) + _GROWTH_OF_SHORT:
        # A ligature may stand for eighteen letters: a text made of them is searched as it is.
        folded = unicodedata.normalize("NFC", _MARKS.sub("", unicodedata.normalize("NFD", text)))
    else:
        folded = unicodedata.normalize("NFKC", _MARKS.sub("", apart))
    return folded.replace("ς", "σ")  # as casefold does, which no pattern can go through


def in_place(text: str) -> tuple[str, list[int] | None]:
    """The text with one character for each that is seen, and where each stood; None where nothing moved.

    Full-width forms and the like become ASCII, kinds of blanks a blank; letters stay as they are.
    """
    if text.isascii():
        return text, None
    kept: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        if character.isascii():
            seen = character
        elif _INVISIBLE.match(character):
            continue
        else:
            folded = unicodedata.normalize("NFKC", character)
            seen = folded if len(folded) == 1 and folded.isascii() else character
        kept.append(seen)
        places.append(place)
    return "".join(kept), places


def _as_latin(match: re.Match[str]) -> str:
    """A word of several scripts, or one made of look-alikes alone, in Latin letters; any other as it is."""
    word = match[0]
    disguised = any("a" <= letter <= "z" for letter in word) or all(letter in _LATIN for letter in word)
    return word.translate(_TABLE) if disguised else word
