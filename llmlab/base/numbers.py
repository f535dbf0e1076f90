"""Numbers as people read them: as many digits as they deserve, a dash where there is none."""

from __future__ import annotations

import dataclasses
import math

MISSING = "–"  # shown where there is no value; never a NaN
_P_LEVELS = (0.01, 0.05, 0.1)  # what p values are usually held against
ROUNDING = 1e-12  # of a number: less is no difference
_MOST_DECIMALS = 6  # smaller numbers are said by their power of ten


@dataclasses.dataclass(frozen=True, slots=True)
class Interval:
    """A value with its interval, shown as `0.71 [0.66, 0.76]` with the digits that its width deserves."""

    value: float | None
    low: float | None = None
    high: float | None = None
    unit: str = ""  # "%" scales by 100

    def __str__(self) -> str:
        if self.value is None or math.isnan(self.value):
            return MISSING
        scale = 100.0 if self.unit == "%" else 1.0
        if self.low is None or self.high is None or math.isnan(self.low) or math.isnan(self.high):
            return number(self.value * scale) + self.unit
        close = self.high - self.low < ROUNDING * max(abs(self.low), abs(self.high))
        if close or self.low == self.value == self.high:  # nothing varies
            return "{0}{1} [{0}, {0}]".format(number(self.value * scale), self.unit)
        width = self.high * scale - self.low * scale  # is shown with two significant digits
        digits = max(0, 1 - math.floor(math.log10(width))) if 0 < width < math.inf else 3
        texts = [_rounded(bound * scale, digits) for bound in (self.value, self.low, self.high)]
        return f"{texts[0]}{self.unit} [{texts[1]}, {texts[2]}]"


def p_text(p_value: float | None) -> str:
    """A p value with three decimals, and below 0.001 said to be that; a dash where there is none.

    One that rounding would put on a level that p is held against has the digits that tell it from that level.

    >>> p_text(0.0364), p_text(1e-45), p_text(0.0503), p_text(0.04996)
    ('0.036', '< 0.001', '0.0503', '0.04996')
    """
    if p_value is None:
        return MISSING
    digits = 3
    while round(p_value, digits) in _P_LEVELS and p_value not in _P_LEVELS and digits < 15:
        digits += 1
    return "< 0.001" if p_value < 0.001 else f"{p_value:.{digits}f}"


def number(value: object, significant: int = 4) -> str:
    """A number with so many significant digits, thousands grouped; a dash where there is none.

    >>> number(1234567.0), number(0.03056), number(float("nan"))
    ('1,234,567', '0.03056', '–')
    """
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    amount = float(value)  # type: ignore[arg-type]  # Decimal and numpy scalars too
    if math.isnan(amount):
        return MISSING
    if math.isinf(amount):
        return "∞" if amount > 0 else "-∞"
    if amount == 0:
        return "0"
    if abs(amount) >= 1000:
        return f"{amount:,.0f}"
    return f"{amount:.{significant}g}" if abs(amount) >= 1e-4 else f"{amount:.2e}"


def with_unit(shown: str, unit: str) -> str:
    """A number that is written already with its unit behind it, which is singular where the number reads 1.

    >>> with_unit("1", " points"), with_unit("1.0", " points"), with_unit("1", " s"), with_unit("-1", " tokens")
    ('1 point', '1.0 points', '1 s', '-1 token')
    """
    is_one = shown.lstrip("-") == "1" and len(unit.strip()) > 1 and unit.endswith("s")
    return shown + (unit[:-1] if is_one else unit)


def _rounded(value: float, digits: int) -> str:
    """The value to so many decimals; one that is too small for that many is said by its power of ten.

    >>> _rounded(0.0306, 3), _rounded(3.06e-07, 9), _rounded(-1e-9, 8)
    ('0.031', '3.06e-07', '0')
    """
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if digits > _MOST_DECIMALS and abs(value) < 10.0 ** (2 - _MOST_DECIMALS):
        n_decimals = digits + math.floor(math.log10(abs(value))) if value else -1
        return f"{value:.{n_decimals}e}" if n_decimals >= 0 else "0"
    text = f"{value:,.{min(digits, 15)}f}"
    return text.lstrip("-") if float(text.replace(",", "")) == 0 else text


def counted(count: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "case"), counted(1200, "case"), counted(2, "category")
    ('1 case', '1,200 cases', '2 categories')
    """
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun[:-1]}ies" if noun.endswith("ry") else f"{count:,} {noun}s"


def rounded_count(count: float) -> str:
    """A count with two significant digits, for "about so many": 237 becomes 240.

    >>> rounded_count(237.2)
    '240'
    """
    digits = max(0, math.floor(math.log10(max(count, 1))) - 1)
    return f"{round(math.ceil(count), -digits):,}"


def more_cases(count: float) -> str:
    """A count of further cases, rounded.

    >>> more_cases(1), more_cases(237)
    ('1 more case', '240 more cases')
    """
    return f"{rounded_count(count)} more {'case' if count <= 1 else 'cases'}"
