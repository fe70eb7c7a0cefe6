"""The days that a cell of `exam` can mean: as DICOM, people and spreadsheets write them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from datetime import date, timedelta

_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            *("jan ene gen", "feb fév fev", "mar mär mrz", "apr abr avr", "may mai mag maj", "jun giu juin"),
            *("jul lug juil", "aug ago aoû aou", "sep set", "oct okt ott out", "nov", "dec dez déc dic"),
        ),
        start=1,
    )
    for name in names.split()
}
_TIME = re.compile(r"(?<=\d)(T|\s+)\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?\s*([ap]m)?\s*(Z|[+-]\d{2}:?\d{2})?$", re.IGNORECASE)
_SERIAL = range(20_000, 62_000)
"""Days of a spreadsheet: 1954 to 2069."""
_EPOCHS = (date(1899, 12, 30), date(1904, 1, 1))
_CENTURY = 70  # two digits below it are years from 2000 on


def possible_dates(cell: str) -> set[str]:  # noqa: PLR0911 - one for each way of writing
    """Days as `YYYYMMDD` that a text can mean; none where it is no date.

    `03/02/2021` can mean two, and so can a spreadsheet's number of a day: it counts from 1900, or on old Macs from
    1904.
    """
    text = _TIME.sub("", cell.strip())
    if re.fullmatch(r"\d{5}([.,]\d+)?", text):
        days = int(text[:5])
        return {f"{epoch + timedelta(days):%Y%m%d}" for epoch in _EPOCHS} if days in _SERIAL else set()
    if match := re.fullmatch(r"(\d{4})(\d{2})(\d{2})(\d{6}(\.\d+)?|\.0+)?", text):
        return _days([match.groups()[:3]])
    parts = re.fullmatch(r"([^\W_]+)\.?[\s./_-]+([^\W_]+)[\s.,/_-]+([^\W_]+)", text)
    if parts is None:
        return set()
    first, second, third = (str(_month(part)) if _month(part) else part for part in parts.groups())
    if _month(parts[1]):
        return _days([(third, first, second)])
    if _month(parts[2]):
        return _days([(third, second, first), *([(first, second, third)] if len(first) > 2 else [])])  # noqa: PLR2004
    if len(first) > 2:  # noqa: PLR2004 - a year
        return _days([(first, second, third)])
    orders = [(third, second, first)]
    if "." not in text:  # with points the day stands first
        orders.append((third, first, second))
    if len(third) == 2:  # noqa: PLR2004
        orders.append((first, second, third))
    return _days(orders)


def same_day(exam: str) -> str:
    """The day of a cell in one form where it means one alone, else the cell: for comparing rows."""
    days = possible_dates(exam)
    return next(iter(days)) if len(days) == 1 else exam


def _month(word: str) -> int:
    """Number of a month by its name in any of some languages; 0 for other words."""
    plain = word.casefold()
    return next((_MONTHS[plain[:size]] for size in (4, 3) if plain[:size] in _MONTHS), 0) if not plain.isdigit() else 0


def _days(orders: Sequence[tuple[str, ...]]) -> set[str]:
    days = set()
    for year, month, day in itertools.filterfalse(lambda order: not all(map(str.isdecimal, order)), orders):
        number = int(year) + (0 if len(year) > 2 else 2000 if int(year) < _CENTURY else 1900)  # noqa: PLR2004
        try:
            if 1950 <= number <= 2100:  # noqa: PLR2004 - of an exam
                days.add(f"{date(number, int(month), int(day)):%Y%m%d}")
        except ValueError:
            continue
    return days
