"""Numbers between two bounds as a grammar: each in one way of writing, with an end. Pure."""

from __future__ import annotations

import math

LARGEST = 10**15 - 1
"""A bound this far away is none."""
DECIMALS = 6
"""Digits after the point at most."""
MULTIPLE_DIGITS = 9
"""Digits of a number of which it matters what divides it."""


def whole_numbers(low: int, high: int) -> str:
    """The whole numbers from `low` to `high`, both included, without leading zeros. Needs low ≤ high."""
    parts = []
    if low < 0:
        parts.append(f'"-" ({_naturals(max(1, -high), -low)})')
    if high >= 0:
        parts.append(_naturals(max(0, low), high))
    return " | ".join(parts)


def numbers(low: float, high: float) -> str:
    """The numbers from `low` to `high` with up to DECIMALS digits after the point. Needs low ≤ high."""
    parts = []
    if low < 0:
        parts.append(f'"-" ({_decimals(max(0.0, -high), -low)})')
    if high >= 0:
        parts.append(_decimals(max(0.0, low), high))
    return " | ".join(parts)


def multiples(step: int, prefix: str, low: int) -> list[tuple[str, str]]:
    """Rules for the whole numbers that `step` divides; `<prefix>-0` is where to begin.

    They are positive from a `low` of 1 on, not negative from one of 0 on, and of either sign below.
    One rule for each remainder that the digits so far leave, and for each number of digits that may follow.
    """
    rules: list[tuple[str, str]] = []
    endable = {0}  # remainders from which a number can still end
    for left in range(MULTIPLE_DIGITS):
        reaching = set()
        for remainder in range(step):
            choices = ['""'] if remainder == 0 else []
            choices += [
                f'"{digit}" {prefix}-{left - 1}-{follows}'
                for digit in range(10 if left else 0)
                if (follows := (10 * remainder + digit) % step) in endable
            ]
            if choices:
                reaching.add(remainder)
                rules.append((f"{prefix}-{left}-{remainder}", " | ".join(choices)))
        endable = reaching
    last = MULTIPLE_DIGITS - 1
    first = [f'"{d}" {prefix}-{last}-{d % step}' for d in range(1, 10) if d % step in endable]
    sign, zero = '"-"? ' if low < 0 else "", '"0" | ' if low < 1 else ""
    return [(f"{prefix}-0", f"{zero}{sign}({' | '.join(first)})"), *rules]


def _naturals(low: int, high: int) -> str:
    """From 0 up, cut where the number of digits changes."""
    parts = []
    if low < 2 and set(str(high)) == {"9"}:
        whole = f"[1-9] [0-9]{{0,{len(str(high)) - 1}}}"
        return whole if low else f'"0" | {whole}'
    for digits in range(len(str(low)), len(str(high)) + 1):
        first = max(low, 10 ** (digits - 1) if digits > 1 else 0)
        last = min(high, 10**digits - 1)
        parts.append(_same_length(str(first), str(last)))
    return " | ".join(parts)


def _same_length(low: str, high: str) -> str:
    """Digit strings between two of one length, leading zeros and all."""
    if not low:
        return '""'
    if set(low) == {"0"} and set(high) == {"9"}:
        return _digits(len(low))
    first, last = low[0], high[0]
    if first == last:
        rest = _same_length(low[1:], high[1:])
        return f'"{first}"' if rest == '""' else f'"{first}" ({rest})'
    nines, zeros = "9" * (len(low) - 1), "0" * (len(low) - 1)
    from_digit, to_digit = int(first), int(last)
    parts = []
    if low[1:] != zeros:
        parts.append(f'"{first}" ({_same_length(low[1:], nines)})')
        from_digit += 1
    end = []
    if high[1:] != nines:
        end.append(f'"{last}" ({_same_length(zeros, high[1:])})')
        to_digit -= 1
    if from_digit <= to_digit:
        middle = f"[{from_digit}-{to_digit}]" if from_digit < to_digit else f'"{from_digit}"'
        parts.append(f"{middle} {_digits(len(low) - 1)}" if len(low) > 1 else middle)
    return " | ".join(parts + end)


def _digits(count: int) -> str:
    return "[0-9]" if count == 1 else f"[0-9]{{{count}}}"


def _decimals(low: float, high: float) -> str:
    """Non-negative numbers: those with a whole part between the bounds, and the ends beside them."""
    scale = 10**DECIMALS
    least, most = math.ceil(round(low * scale, 3)), math.floor(round(high * scale, 3))
    least = min(least, most)
    if most == LARGEST * scale:  # as good as no bound: a short rule
        most += scale - 1
    (first, first_rest), (last, last_rest) = divmod(least, scale), divmod(most, scale)
    if first == last:
        return _with_fraction(first, first_rest, last_rest)
    parts, end = [], []
    if first_rest:
        parts.append(_with_fraction(first, first_rest, scale - 1))
        first += 1
    if last_rest < scale - 1:
        end.append(_with_fraction(last, 0, last_rest))
        last -= 1
    if first <= last:
        parts.append(f'({_naturals(first, last)}) ("." [0-9]{{1,{DECIMALS}}})?')
    return " | ".join(parts + end)


def _with_fraction(whole: int, low: int, high: int) -> str:
    """One whole part with millionths from `low` to `high`."""
    if low == 0 and high == 0:
        return f'"{whole}"'
    fraction = f'"." ({_same_length(f"{low:0{DECIMALS}}", f"{high:0{DECIMALS}}")})'
    return f'"{whole}" ({fraction})?' if low == 0 else f'"{whole}" {fraction}'
