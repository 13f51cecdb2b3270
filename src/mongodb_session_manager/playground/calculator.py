"""Arithmetic on text that a model wrote: parsed, walked and bounded, never evaluated as code."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

Number: TypeAlias = int | float

LONGEST_EXPRESSION = 500
_ALLOWED = "invalid expression: only numbers, + - * / // % **, parentheses and simple functions are allowed"
_DEEPEST = 60
# Big enough for any question a person asks, small enough that no product or power takes long.
_MOST_BITS = 2_000
# More than either kind of number has; Python computes 10 to the power of what rounding is asked for.
_MOST_PLACES = 700

_BINARY: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_UNARY: dict[type[ast.unaryop], Callable[[Number], Number]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_FUNCTIONS: dict[str, Callable[..., Number]] = {
    "abs": abs,
    "ceil": math.ceil,
    "cos": math.cos,
    "exp": math.exp,
    "floor": math.floor,
    "log": math.log,
    "log10": math.log10,
    "max": max,
    "min": min,
    "round": round,
    "sin": math.sin,
    "sqrt": math.sqrt,
    "tan": math.tan,
}
_CONSTANTS: dict[str, Number] = {"e": math.e, "pi": math.pi, "tau": math.tau}
_arithmetic = re.compile(
    rf"""
    \b(?: {"|".join((*_FUNCTIONS, *_CONSTANTS))} | 0x[0-9a-f]+ )\b
    | \b[0-9]+\.(?![\w.])
    | (?: \b[0-9][0-9_]*\.?[0-9]* | \.[0-9]+ ) (?:e[+-]?[0-9]+)? \b
    | [-+*/%(),\s]
    """,
    re.ASCII | re.IGNORECASE | re.VERBOSE,
)


def calculate(expression: str) -> Number:
    """Return the value of an arithmetic expression such as `(2 + 3) * 4 ** 2` or `sqrt(2) * pi`.

    Args:
        expression: Numbers, `+ - * / // % **`, parentheses, and the functions and constants of a pocket calculator.

    Raises:
        ValueError: It is no such expression, has no value, or its value is too large; the message says which.
    """
    if len(expression) > LONGEST_EXPRESSION:
        raise ValueError(
            f"invalid expression: it must have at most {LONGEST_EXPRESSION} characters, got {len(expression)}"
        )
    # Before Python's parser sees it, which warns of odd texts, and quotes them.
    if _arithmetic.sub("", expression):
        raise ValueError(_ALLOWED)
    try:
        tree = ast.parse(expression.strip(), mode="eval")
        return _value(tree.body, _DEEPEST)
    except (SyntaxError, RecursionError, MemoryError):
        raise ValueError("invalid expression: it must be arithmetic") from None
    except (ArithmeticError, TypeError) as error:
        raise ValueError(f"invalid expression: it has no value: {error}") from None


def shown(value: Number) -> str:
    """Return a value as people write it: 246 for 246.0, 0.3 for what adding 0.1 and 0.2 gives."""
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _value(node: ast.expr, depth: int) -> Number:
    if depth == 0:
        raise ValueError("invalid expression: it is nested too deeply")
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return _bounded(number)
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in _UNARY:
            return _UNARY[type(sign)](_value(operand, depth - 1))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _BINARY:
            first, second = _value(left, depth - 1), _value(right, depth - 1)
            if isinstance(sign, ast.Pow):
                _check_power(first, second)
            return _bounded(_BINARY[type(sign)](first, second))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            given = [_value(argument, depth - 1) for argument in arguments]
            if name == "round":
                _check_places(given[1:])
            return _bounded(_FUNCTIONS[name](*given))
    raise ValueError(_ALLOWED)


def _check_power(base: Number, exponent: Number) -> None:
    """Refuse a power of integers before it is computed: Python's have no limit."""
    whole = isinstance(base, int) and isinstance(exponent, int) and abs(base) > 1
    if whole and abs(exponent) * int(base).bit_length() > _MOST_BITS:
        raise ValueError("invalid expression: the result is too large")


def _check_places(places: Sequence[Number]) -> None:
    """Refuse a rounding before it is computed: of an integer it takes a power of ten as large as is asked for."""
    if any(isinstance(place, int) and abs(place) > _MOST_PLACES for place in places):
        raise ValueError(f"invalid expression: a number can be rounded to {_MOST_PLACES} places at most")


def _bounded(value: object) -> Number:
    if not isinstance(value, int | float):
        raise ValueError("invalid expression: the result is not a real number")
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        raise ValueError("invalid expression: the result is too large")
    return value
