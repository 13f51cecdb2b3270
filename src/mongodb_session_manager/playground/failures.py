"""What went wrong in a turn, in the words of the model's provider, and what usually helps.

The playground answers only this machine, so the reader is the developer: the error's own text is shown. What
this process knows to be secret is masked all the same, since screenshots are passed on.
"""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pymongo.errors import PyMongoError
from strands.types.exceptions import EventLoopException

from mongodb_session_manager import LeaseUnavailableError, SessionNotFoundError

from ..advice import told
from .agents import AgentError

LONGEST = 4_000
_SECRET_NAMES = re.compile(r"KEY|SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|CONNECTION_STRING|_URI$", re.I)
_SHORTEST_SECRET = 8
_USER_IN_ADDRESS = re.compile(r"(\w+://)[^\s/]*@")


@dataclass(frozen=True)
class Failure:
    """A failed turn, for the person who tries the agent.

    Attributes:
        code: `busy`, `deleted`, `database`, `agent`, `nothing_to_answer` or `model`.
        message: What happened.
        kind: The error's class, empty where it says nothing.
        hint: What usually helps; empty when there is no advice.
    """

    code: str
    message: str
    kind: str = ""
    hint: str = ""


class NothingToAnswerError(Exception):
    """The conversation ends with a reply, so there is nothing to answer."""


def described(error: BaseException) -> Failure:
    """Return what the user should know."""
    match error:
        case LeaseUnavailableError():
            return Failure("busy", "This conversation is answering another message; try again when it is done.")
        case SessionNotFoundError():
            return Failure("deleted", "This conversation was deleted meanwhile.")
        case NothingToAnswerError():
            return Failure("nothing_to_answer", "The conversation ends with a reply: there is no message to answer.")
        case PyMongoError():
            # The text of a driver's error names hosts and users; the advice names hosts only.
            kind = type(error).__name__
            return Failure("database", f"MongoDB did not take the message ({kind}).", kind, told(error))
        case AgentError():
            cause = error.__cause__ or error
            place = _place(cause, error.folder)
            text = f"{error}{place}" if cause is error else f"{error}: {type(cause).__name__}: {cause}{place}"
            return Failure("agent", masked(text), type(cause).__name__, error.hint)
        case EventLoopException():
            return described(error.original_exception)
    text = masked(str(error).strip()) or "it says nothing more"
    return Failure("model", text, type(error).__name__, hint_for(error))


def hint_for(error: BaseException) -> str:
    """Return what usually helps against an error of a model's provider, empty for one that is not known."""
    said = " | ".join(f"{type(one).__name__} {one}" for one in _chain(error))
    return next((hint for pattern, hint in _HINTS if pattern.search(said)), "")


def masked(text: str, environment: Mapping[str, str] | None = None) -> str:
    """Return a text without values that the environment keeps under a secret's name, and without users in addresses."""
    environment = os.environ if environment is None else environment
    secrets = (
        value for name, value in environment.items() if _SECRET_NAMES.search(name) and len(value) >= _SHORTEST_SECRET
    )
    for value in sorted(secrets, key=len, reverse=True):
        text = text.replace(value, "•••")
    text = _USER_IN_ADDRESS.sub(r"\1•••@", text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or following.__context__


def _place(error: BaseException, folder: Path | None) -> str:
    """Say where in the user's own files an error came from."""
    if folder is None or isinstance(error, SyntaxError):
        return ""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(folder)
    ]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


_HINTS = [
    (re.compile(pattern, re.I | re.S), hint)
    for pattern, hint in (
        (
            r"NoCredentials|Unable to locate credentials|PartialCredentials",
            "AWS finds no credentials: run `aws configure` or `aws sso login`, or set AWS_PROFILE, "
            "then start the playground again.",
        ),
        (r"ExpiredToken|token .*expired|SSOTokenLoad", "The AWS credentials have expired: run `aws sso login` again."),
        (
            r"NoRegion|must specify a region",
            "No AWS region is set: set AWS_REGION to one where Bedrock has the model.",
        ),
        (
            r"on-demand throughput",
            "This model is reached through an inference profile: put its region's prefix before the model id, "
            "such as `us.` or `eu.`.",
        ),
        (
            r"AccessDenied|not authorized|don't have access|PermissionDenied|permission_error|\b403\b",
            "The credentials may not use this model: ask for access to it in the provider's console "
            "(Bedrock: Model access), and allow `bedrock:InvokeModelWithResponseStream`.",
        ),
        (
            r"AuthenticationError|invalid.?api.?key|incorrect api key|api_key client option"
            r"|Could not resolve authentication"
            r"|UnrecognizedClient|InvalidSignature|\b401\b",
            "The key is missing or wrong: set the provider's key (OPENAI_API_KEY, ANTHROPIC_API_KEY, or the AWS "
            "credentials), then start the playground again.",
        ),
        (
            r"model.{0,80}(not found|does not exist|identifier is invalid)|ResourceNotFound|model_not_found|\b404\b",
            "The provider does not know this model: check the id after the colon in PLAYGROUND_MODEL, and the region; "
            "with Ollama run `ollama pull` first.",
        ),
        (
            r"Throttl|RateLimit|rate.?limit|Too many requests|quota|Overloaded|\b429\b|\b529\b",
            "The provider limits how often it is asked: wait a moment and try again, or ask for a higher quota.",
        ),
        (
            r"ContextWindowOverflow|context.?(length|window)|too many tokens|input is too long",
            "The conversation is longer than the model takes: branch from an earlier message, "
            "or give the agent a conversation manager.",
        ),
        (
            r"MaxTokensReached",
            "The reply reached the model's limit of output tokens: raise `max_tokens` of the model.",
        ),
        (
            r"ConnectError|APIConnection|EndpointConnection|Connection refused|Failed to connect"
            r"|Name or service not known",
            "The provider cannot be reached: is this machine online, and with Ollama, does `ollama serve` run?",
        ),
        (
            r"temperature",
            "Set the temperature of this conversation back to the model's own, under its settings.",
        ),
        (
            r"(image|document).{0,60}(not support|unsupported|invalid)|does not support.{0,60}(image|document)",
            "This model does not take such a file: choose one that does, or send the message without it.",
        ),
        (r"Timeout|timed out", "The provider took too long: try again."),
    )
]
