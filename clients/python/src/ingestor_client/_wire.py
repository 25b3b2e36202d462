"""The few parts of the protobuf wire format that rows and columns are written with.

A packed field of sfixed64 or fixed32 is a length and a little-endian array, so that a column that already is one goes
out without any work per row.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable

VARINT = 0
FIXED64 = 1
LENGTH_DELIMITED = 2


_ONE_BYTE = [bytes([value]) for value in range(128)]


def varint(value: int) -> bytes:
    """The base-128 encoding of a value that is not negative."""
    if value <= 0x7F:
        return _ONE_BYTE[value]
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def tag(number: int, wire_type: int) -> bytes:
    """What stands before the content of any field."""
    return varint(number << 3 | wire_type)


def prefix(number: int, length: int) -> bytes:
    """The tag and the length that stand before the content of a field of bytes, text, message or packed numbers."""
    return tag(number, LENGTH_DELIMITED) + varint(length)


def field(number: int, content: bytes | memoryview) -> list[bytes | memoryview]:
    """The field's pieces, to be joined; nothing where content is empty."""
    return [prefix(number, len(content)), content] if len(content) else []


def fixed64(values: Iterable[int]) -> bytes:
    """A little-endian array of signed 64-bit integers."""
    return _little_endian(values if isinstance(values, array) and values.typecode == "q" else array("q", values))


def fixed32(values: Iterable[int]) -> bytes:
    """A little-endian array of unsigned 32-bit integers."""
    return _little_endian(array("I", values))


def _little_endian(numbers: array[int]) -> bytes:
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()
