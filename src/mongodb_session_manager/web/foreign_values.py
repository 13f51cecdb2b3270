"""What the apps make of values that other tools stored and that Python cannot read."""

from __future__ import annotations

from typing import Any

from bson.codec_options import CodecOptions, DatetimeConversion

ANY_VALUE: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO, unicode_decode_error_handler="replace"
)
"""Reads dates beyond Python's range, and text that is no UTF-8: one value must not keep a list from being shown."""
