"""Figures and titles as a report shows them."""

from __future__ import annotations

from contracts.interval import Interval

THIN_MINUS = "−"


def in_sentence(title: str) -> str:
    """A title inside a sentence; abbreviations keep their capitals.

    >>> in_sentence("Token F1"), in_sentence("BLEU")
    ('token F1', 'BLEU')
    """
    return title[0].lower() + title[1:] if title[1:2].islower() else title


def article(title: str) -> str:
    """The indefinite article before a title inside a sentence.

    >>> article("accuracy"), article("token F1"), article("F1"), article("ROUGE-1")
    ('an', 'a', 'an', 'a')
    """
    return "an" if title[0] in "aeio" or title.startswith("F1") else "a"


def size(value: float, unit: str) -> str:
    """A value of a metric.

    >>> size(0.41234, "fraction"), size(31.26, "percent"), size(1234.5, "ms")
    ('0.412', '31.3', '1,234 ms')
    """
    if unit == "ms":
        text = f"{abs(value):,.0f} ms" if abs(value) >= 10 else f"{abs(value):.1f} ms"
    elif unit == "percent":
        text = f"{abs(value):.1f}"
    elif unit == "relative":
        text = f"{100 * abs(value):.1f} %"
    elif unit == "perplexity":
        text = f"{abs(value):.2f}"
    else:
        text = f"{abs(value):.3f}"
    return (THIN_MINUS if value < 0 and text.strip("0. %ms") else "") + text


def signed(value: float, unit: str) -> str:
    """A difference, with its sign.

    >>> signed(0.05, "fraction"), signed(-3.0, "percent"), signed(0.0, "fraction")
    ('+0.050', '−3.0', '0.000')
    """
    text = size(value, unit)
    return text if value <= 0 or not text.strip("0. %ms") else "+" + text


def bounds(interval: Interval, unit: str, *, sign: bool = False) -> str:
    """Both ends of an interval, the unit once.

    >>> bounds(Interval(low=90, high=120, level=0.95, method="x"), "ms")
    '90 to 120 ms'
    """
    write = signed if sign else size
    low, high = write(interval.low, unit), write(interval.high, unit)
    suffix = " ms" if unit == "ms" else " %" if unit == "relative" else ""
    return f"{low.removesuffix(suffix)} to {high}"
