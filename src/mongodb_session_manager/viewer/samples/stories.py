"""The invented conversations: what is said, by whom, and what the sessions are labelled with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from strands import tool

from .model import Reply
from .pictures import bar_chart, parcel

METADATA_FIELDS = ("priority", "language", "customer.tier", "score", "vip", "due")
"""Metadata fields that get an index, one of each type at least."""

ENUM_FIELDS = frozenset({"application_name", "priority", "language", "customer.tier"})
"""Fields whose values are offered."""

_MEDIUM, _LARGE = "example-medium-1", "example-large-2"


@dataclass(frozen=True)
class Turn:
    """What a person says to an agent, and what the agent answers; several replies where tools are called."""

    agent: str
    prompt: str | list[Any]
    replies: tuple[Reply, ...]


@dataclass(frozen=True)
class Story:
    """One session.

    Attributes:
        session_id: Its id.
        application: The application that it belongs to.
        age: How long ago it took place.
        agents: System prompts and models of its agents, by agent id.
        turns: What is said.
        metadata: Its labels.
        feedbacks: What people thought of it.
        state: State of the first agent.
    """

    session_id: str
    application: str
    age: timedelta
    agents: Mapping[str, tuple[str, str]]
    turns: tuple[Turn, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    feedbacks: tuple[Mapping[str, Any], ...] = ()
    state: Mapping[str, Any] = field(default_factory=dict)


@tool
def look_up_order(order_id: str) -> dict[str, Any]:
    """Return what is known of an order.

    Args:
        order_id: Number of the order.
    """
    if not order_id.startswith("A-"):
        raise ValueError(f"invalid order_id: it must begin with A-, got {order_id!r}")
    items = [{"sku": "LAMP-02", "name": "Desk lamp", "quantity": 1, "price": 39.9}]
    order = {"order_id": order_id, "status": "delivered", "items": items, "delivered_at": "2026-11-17T10:32:00Z"}
    return {"status": "success", "content": [{"json": order}]}


@tool
def sales_chart(quarter: str) -> dict[str, Any]:
    """Draw the sales of a quarter.

    Args:
        quarter: Such as 2026-Q3.
    """
    picture = {"image": {"format": "png", "source": {"bytes": bar_chart((0.35, 0.55, 0.48, 0.9, 0.72, 0.6))}}}
    return {"status": "success", "content": [{"text": f"Sales of {quarter}, by month and region"}, picture]}


@tool
def calculate(expression: str) -> str:
    """Multiply two numbers.

    Args:
        expression: Such as 12 * 39.9.
    """
    left, _, right = expression.partition("*")
    return f"{float(left) * float(right):.2f}"


TOOLS: tuple[Callable[..., Any], ...] = (look_up_order, sales_chart, calculate)

_SUPPORT = ("You are the support agent of a lamp shop. Be brief and kind.", _MEDIUM)

_REFUND = Story(
    "support-2026-1107",
    "shop",
    timedelta(minutes=12),
    {"support": _SUPPORT},
    (
        Turn(
            "support",
            [
                {"text": "My lamp arrived like this. The order is A-20771."},
                {"image": {"format": "png", "source": {"bytes": parcel()}}},
            ],
            (
                Reply(
                    "Oh no, let me look that up.",
                    calls=(("look_up_order", {"order_id": "A-20771"}),),
                    thought="The parcel is dented at its upper right. I need the order before I offer anything.",
                ),
                Reply(
                    "I am sorry about that. I found your **desk lamp** (order `A-20771`), delivered on 17 November.\n\n"
                    "You can choose:\n\n1. a new lamp, sent today\n2. your money back, **39.90 EUR**\n"
                ),
            ),
        ),
        Turn(
            "support",
            "The money back, please. And what would three new ones cost?",
            (
                Reply(calls=(("calculate", {"expression": "3 * 39.9"}), ("look_up_order", {"order_id": "20771"}))),
                Reply(
                    "Your refund is on its way. Three new lamps:\n\n| | each | sum |\n|---|---|---|\n"
                    "| Desk lamp | 39.90 | 119.70 |\n\nThe second look-up failed, since I left out the `A-`."
                ),
            ),
        ),
    ),
    {
        "priority": "high",
        "language": "en",
        "customer": {"tier": "gold", "since": 2021},
        "score": 4.5,
        "vip": True,
        "due": datetime(2026, 11, 24, 12, tzinfo=UTC),
    },
    ({"rating": "up", "comment": "Solved in two minutes. Thank you!", "channel": "web"},),
    {"refund": {"order": "A-20771", "amount": 39.9}, "steps": ["looked up", "refunded"]},
)

_BLOCKED = Story(
    "support-2026-1093",
    "shop",
    timedelta(hours=3),
    {"support": _SUPPORT},
    (
        Turn("support", "Hello, which card is stored for my account?", (Reply("For your safety I cannot see cards."),)),
        Turn(
            "support",
            "It is 4000 1234 5678 9010, is that the one?",
            (Reply("I cannot take card numbers here.", blocked="[removed: payment card number]"),),
        ),
        Turn("support", "Fine. How do I change it?", (Reply("Under *Account → Payment*, then choose **Replace**."),)),
    ),
    {"priority": "normal", "language": "en", "customer": {"tier": "basic"}, "score": 2, "vip": False},
    ({"rating": "down", "comment": "Why was my message removed?"}, {"rating": "neutral"}),
)

_TEAM = Story(
    "report-q3-review",
    "analytics",
    timedelta(days=1, hours=2),
    {
        "researcher": ("You find numbers.", _LARGE),
        "writer": ("You write short summaries of what the researcher found.", _MEDIUM),
        "critic": ("You find what is wrong with a text.", _MEDIUM),
    },
    (
        Turn(
            "researcher",
            "Get the sales of the third quarter.",
            (
                Reply(calls=(("sales_chart", {"quarter": "2026-Q3"}),)),
                Reply("August was the best month; see the chart."),
            ),
        ),
        Turn(
            "writer",
            "Summarise: August was the best month.",
            (Reply("## Third quarter\n\nSales peaked in **August**.\n\n```python\npeak = max(sales)\n```"),),
        ),
        Turn(
            "critic",
            "What is missing in: Sales peaked in August?",
            (Reply("How much, and compared with what.", thought="A peak without a number says little."),),
        ),
    ),
    {"priority": "low", "language": "en", "score": 3, "report": {"quarter": "2026-Q3", "pages": 2}},
)

_GERMAN = Story(
    "beratung-0815",
    "shop",
    timedelta(days=2),
    {"support": _SUPPORT},
    (
        Turn(
            "support",
            "Welche Lampe passt auf einen kleinen Schreibtisch?",
            (Reply("Die *Klemmleuchte*: sie braucht keinen Platz. 💡"),),
        ),
        Turn("support", "Gibt es sie auch in Schwarz?", (Reply(fails=True),)),
        Turn("support", "Gibt es sie auch in Schwarz?", (Reply("Ja, in Schwarz, Weiß und **Messing**."),)),
    ),
    {"priority": "normal", "language": "de", "customer": {"tier": "gold"}, "score": 5, "vip": True},
    ({"rating": "up"},),
)

_QUESTIONS = (
    "Which bulb does the floor lamp take?",
    "How warm is the light?",
    "Can I dim it?",
    "How long is the cable?",
    "Is there a switch on the cord?",
)
_ANSWERS = (
    "An E27 bulb of at most 60 W, or any LED.",
    "2,700 K, which looks like an old light bulb.",
    "Yes, with the *dimmer* that comes with it.",
    "Two metres and a half.",
    "Yes, about 40 cm from the lamp.",
)
_LONG = Story(
    "workshop-floor-lamp",
    "training",
    timedelta(days=4),
    {"support": _SUPPORT},
    tuple(
        Turn("support", f"{index + 1}. {_QUESTIONS[index % 5]}", (Reply(_ANSWERS[index % 5]),)) for index in range(150)
    ),
    {"priority": "low", "language": "en", "score": 1},
)


def _small_talk(index: int) -> Story:
    priority, tier = ("low", "normal", "high", "urgent")[index % 4], ("basic", "silver", "gold")[index % 3]
    return Story(
        f"chat-{1000 + index}",
        ("shop", "training", "analytics")[index % 3],
        timedelta(days=5 + index, hours=index % 7),
        {"support": _SUPPORT},
        (Turn("support", _QUESTIONS[index % 5], (Reply(_ANSWERS[index % 5]),)),),
        {"priority": priority, "language": ("en", "de", "fr")[index % 3], "customer": {"tier": tier},
         "score": index % 6, "vip": index % 4 == 0},
    )  # fmt: skip


STORIES: tuple[Story, ...] = (_REFUND, _BLOCKED, _TEAM, _GERMAN, _LONG, *(_small_talk(index) for index in range(24)))
