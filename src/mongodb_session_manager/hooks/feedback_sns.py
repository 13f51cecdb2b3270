"""Feedback, told to an Amazon SNS topic per rating."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..runtime import Outcome
from . import aws_clients
from .notifying import NotifyingHook, check_size
from .payloads import accepted_text, fifo_attributes, one_line, timestamp
from .stored import StoredSession

OFF = "none"
"""In place of a topic: feedback with this rating is sent to no topic."""

RATINGS = {"up": "positive", "down": "negative"}
NEUTRAL = "neutral"

MAX_SUBJECT = 99
"""Characters of a subject. SNS asks for less than 100."""

MAX_BYTES = 256 * 1024
"""SNS's limit for a message."""

_ARN = re.compile(r"arn:[^:\s]+:sns:(?P<region>[^:\s]+):[^:\s]*:[^:\s]+")
_VARIABLES = ("session_id", "rating", "timestamp")


def is_feedback_sns_hook_available() -> bool:
    """Tell whether what `FeedbackSNSHook` needs is installed (the extra `aws`)."""
    return aws_clients.is_available()


@dataclass(frozen=True, slots=True)
class _Route:
    topic_arn: str
    region_name: str
    subject_prefix: str
    body_prefix: str


@dataclass(frozen=True, slots=True)
class _Message:
    route: _Route
    subject: str
    prefix: str
    text: str
    attributes: dict[str, dict[str, str]]
    fifo: dict[str, str]
    stored: StoredSession


class FeedbackSNSHook(NotifyingHook[_Message]):
    """A feedback hook that publishes each feedback to the SNS topic of its rating, once it is stored.

    Ratings are `up` ("positive"), `down` ("negative"), and everything else ("neutral"). A message has the subject
    `<prefix>Virtual Agents Feedback <rating> on session <session_id>`; a body with the session's viewer password, its
    id and the comment; and the attributes `session_id` and `rating`.
    A FIFO topic gets the session as its message group.

    Use it with `feedback_hook=`. It never delays or fails `add_feedback`; see `NotifyingHook`.
    """

    _name: ClassVar[str] = "feedback-sns"
    _actions: ClassVar[frozenset[str]] = frozenset({"add"})

    def __init__(
        self,
        topic_arn_good: str | None = None,
        topic_arn_bad: str | None = None,
        topic_arn_neutral: str | None = None,
        topic_arn: str | None = None,
        subject_prefix_good: str | None = None,
        subject_prefix_bad: str | None = None,
        subject_prefix_neutral: str | None = None,
        body_prefix_good: str | None = None,
        body_prefix_bad: str | None = None,
        body_prefix_neutral: str | None = None,
        include_viewer_password: bool = True,
        *,
        session: Any = None,
        endpoint_url: str | None = None,
        region_name: str | None = None,
    ) -> None:
        """Take the topics; nothing is sent.

        Args:
            topic_arn_good: Topic of positive feedback; "none" switches it off.
            topic_arn_bad: Topic of negative feedback; likewise.
            topic_arn_neutral: Topic of all other feedback; likewise.
            topic_arn: Topic of every rating that has none of its own.
            subject_prefix_good: Put before the subject of positive feedback. `{session_id}`, `{rating}` and
                `{timestamp}` are replaced.
            subject_prefix_bad: The same for negative feedback.
            subject_prefix_neutral: The same for all other feedback.
            body_prefix_good: Put before the body of positive feedback, with the same variables.
            body_prefix_bad: The same for negative feedback.
            body_prefix_neutral: The same for all other feedback.
            include_viewer_password: Whether the body holds the session's viewer password; "N/A" stands there otherwise.
            session: An `aioboto3.Session` to make the client with; None for one with AWS's usual settings.
            endpoint_url: Address of the service, for another than AWS's own.
            region_name: Region; None takes each topic's own.

        Raises:
            ImportError: The extra `aws` is not installed.
            TypeError: A topic, a prefix, the address or the region is no text, or the session none of aioboto3.
            ValueError: No topic at all, something that is not the ARN of a topic, or a prefix with an unknown variable.
        """
        aws_clients.require(type(self).__name__)
        aws_clients.check_session(session)
        aws_clients.check_texts(topic_arn=topic_arn, endpoint_url=endpoint_url, region_name=region_name)
        super().__init__()
        self._include_viewer_password = include_viewer_password
        self._session, self._endpoint_url = session, endpoint_url
        self._routes: dict[str, _Route] = {}
        if not any((topic_arn_good, topic_arn_bad, topic_arn_neutral, topic_arn)):
            raise ValueError('invalid topic_arn: at least one topic must be given; "none" switches a rating off')
        for rating, suffix, topic, subject_prefix, body_prefix in (
            ("positive", "good", topic_arn_good, subject_prefix_good, body_prefix_good),
            ("negative", "bad", topic_arn_bad, subject_prefix_bad, body_prefix_bad),
            (NEUTRAL, "neutral", topic_arn_neutral, subject_prefix_neutral, body_prefix_neutral),
        ):
            aws_clients.check_texts(
                **{
                    f"topic_arn_{suffix}": topic,
                    f"subject_prefix_{suffix}": subject_prefix,
                    f"body_prefix_{suffix}": body_prefix,
                }
            )
            _check_template(f"subject_prefix_{suffix}", subject_prefix)
            _check_template(f"body_prefix_{suffix}", body_prefix)
            arn = topic or topic_arn
            if arn is None or arn.lower() == OFF:
                continue
            region = _region(f"topic_arn_{suffix}" if topic else "topic_arn", arn)
            self._routes[rating] = _Route(arn, region_name or region, subject_prefix or "", body_prefix or "")

    def _prepare(self, action: str, session_id: str, value: Any, stored: StoredSession) -> tuple[_Message, int] | None:
        rating = _rating(value)
        route = self._routes.get(rating)
        if route is None:
            return None
        variables = {"session_id": session_id, "rating": rating, "timestamp": timestamp()}
        subject = f"{route.subject_prefix.format(**variables)}Virtual Agents Feedback {rating} on session {session_id}"
        comment = value.get("comment")
        text = f"\n\nSession: {session_id}\n\n{'' if comment is None else comment}"
        attributes = {
            name: {"DataType": "String", "StringValue": accepted_text(variables[name])}
            for name in ("session_id", "rating")
        }
        prefix = route.body_prefix.format(**variables)
        fifo = fifo_attributes(session_id) if route.topic_arn.endswith(".fifo") else {}
        parts = _Message(route, one_line(subject, MAX_SUBJECT), prefix, text, attributes, fifo, stored)
        return parts, len(text)

    async def _send(self, messages: Sequence[_Message]) -> Sequence[Outcome]:
        [message] = messages
        password = await message.stored.viewer_password() if self._include_viewer_password else None
        body = accepted_text(f"{message.prefix}Password: {password or 'N/A'}{message.text}")
        check_size(len(body.encode()), MAX_BYTES, "SNS")
        address = aws_clients.Address("sns", self._session, message.route.region_name, self._endpoint_url)
        async with aws_clients.borrowed(address) as client:
            await client.publish(
                TopicArn=message.route.topic_arn,
                Subject=message.subject,
                Message=body,
                MessageAttributes=message.attributes,
                **message.fifo,
            )
        return [None]


def create_feedback_sns_hook(
    topic_arn_good: str | None = None,
    topic_arn_bad: str | None = None,
    topic_arn_neutral: str | None = None,
    topic_arn: str | None = None,
    subject_prefix_good: str | None = None,
    subject_prefix_bad: str | None = None,
    subject_prefix_neutral: str | None = None,
    body_prefix_good: str | None = None,
    body_prefix_bad: str | None = None,
    body_prefix_neutral: str | None = None,
    include_viewer_password: bool = True,
    *,
    session: Any = None,
    endpoint_url: str | None = None,
    region_name: str | None = None,
) -> FeedbackSNSHook:
    """Return a `FeedbackSNSHook`, for `feedback_hook=`; the arguments and errors are those of the class."""
    return FeedbackSNSHook(
        topic_arn_good,
        topic_arn_bad,
        topic_arn_neutral,
        topic_arn,
        subject_prefix_good,
        subject_prefix_bad,
        subject_prefix_neutral,
        body_prefix_good,
        body_prefix_bad,
        body_prefix_neutral,
        include_viewer_password,
        session=session,
        endpoint_url=endpoint_url,
        region_name=region_name,
    )


def _rating(feedback: Mapping[str, Any]) -> str:
    rating = feedback.get("rating")
    return RATINGS.get(rating, NEUTRAL) if isinstance(rating, str) else NEUTRAL


def _region(name: str, arn: str) -> str:
    found = _ARN.fullmatch(arn)
    if found is None:
        raise ValueError(
            f'invalid {name}: it must be the ARN of a topic, such as "arn:aws:sns:eu-west-1:123456789012:feedback", '
            f'or "{OFF}", which switches a rating off; got {arn!r}'
        )
    return found["region"]


_is_wide = re.compile(r"\d{4}").search
"""Tells of a format specification whether it asks for thousands of characters."""


def _check_template(name: str, template: str | None) -> None:
    try:
        fields = [parsed[1:3] for parsed in string.Formatter().parse(template or "") if parsed[1] is not None]
        unknown = [variable for variable, _ in fields if variable not in _VARIABLES]
        is_wide = any(_is_wide(spec or "") for _, spec in fields)
        if not unknown and not is_wide:
            (template or "").format(**dict.fromkeys(_VARIABLES, "x"))
    except (ValueError, IndexError, KeyError, AttributeError) as error:
        raise ValueError(f"invalid {name}: it is a broken template ({error}): {template!r}") from None
    if is_wide:
        raise ValueError(f"invalid {name}: a width has at most three digits: {template!r}")
    if unknown:
        known = ", ".join(f"{{{variable}}}" for variable in _VARIABLES)
        raise ValueError(
            f"invalid {name}: it has the unknown variable {{{unknown[0]}}}; known are {known}: {template!r}"
        )
