from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongodb_session_manager.models import model_by_name
from mongodb_session_manager.playground.calculator import calculate, shown


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("6 * 7", "42"),
        ("(17.5 + 3) * 12", "246"),
        ("0.1 + 0.2", "0.3"),
        ("-2 ** 2", "-4"),
        ("7 // 2 + 7 % 4", "6"),
        ("2 ** 100", str(2**100)),
        ("sqrt(2) ** 2", "2"),
        ("max(1, 2, 3) - abs(-4)", "-1"),
        ("round(pi, 2)", "3.14"),
        (" 1 ", "1"),
    ],
)
def test_arithmetic_is_right(expression: str, value: str) -> None:
    assert shown(calculate(expression)) == value


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "1 +",
        "1 / 0",
        "10 % 0",
        "sqrt(-1)",
        "(-8) ** 0.5",
        "2 ** 10 ** 10",
        "9 ** 9 ** 9 ** 9",
        "10.0 ** 400",
        "exp(1000)",
        "1 if True else 2",
        "True + 1",
        "'a' * 10",
        "[1] * 10",
        "__import__('os')",
        "(1).__class__",
        "abs.__self__",
        "max(*[1, 2])",
        "round(1, ndigits=2)",
        "max()",
        "pi()",
        "print",
        "x",
        "1; 2",
        "1 == 1",
        "lambda: 1",
        "(" * 400 + "1" + ")" * 400,
        "-" * 450 + "1",
        "1 +" * 300 + "1",
        "\x00",
        "1j",
        "f'{1}'",
    ],
)
def test_what_is_no_arithmetic_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        calculate(expression)


@given(st.text(alphabet="0123456789.+-*/%() episqrtmax,", max_size=60))
def test_no_text_makes_it_fail_in_another_way(expression: str) -> None:
    try:
        value = calculate(expression)
    except ValueError:
        return
    assert isinstance(value, int | float)


@given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9), st.sampled_from("+-*"))
def test_it_agrees_with_python(left: int, right: int, sign: str) -> None:
    expected = {"+": left + right, "-": left - right, "*": left * right}[sign]
    assert calculate(f"({left}) {sign} ({right})") == expected


def test_infinities_stay_readable() -> None:
    assert shown(calculate("1e308 * 10")) == shown(math.inf)


def test_a_model_is_found_by_its_name() -> None:
    assert model_by_name("offline").get_config()["model_id"] == "offline"
    assert model_by_name(" ").get_config()["model_id"] == "offline"
    bedrock = model_by_name("bedrock:us.some-model:0")
    assert bedrock.get_config()["model_id"] == "us.some-model:0"


def test_a_provider_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "strands.models.ollama", None)

    with pytest.raises(ImportError, match=r"pip install 'strands-agents\[ollama\]'"):
        model_by_name("ollama:llama3.1")
