from __future__ import annotations

import pytest
from botocore.exceptions import ClientError, NoCredentialsError, NoRegionError
from pymongo.errors import AutoReconnect, OperationFailure
from strands.types.exceptions import EventLoopException, ModelThrottledException

from mongodb_session_manager.advice import with_advice
from mongodb_session_manager.playground.failures import described, hint_for, masked


def _client_error(code: str, message: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "ConverseStream")


class NotFoundError(Exception):
    """As OpenAI's client and Ollama's word it."""


@pytest.mark.parametrize(
    ("error", "helps"),
    [
        (NoCredentialsError(), "aws configure"),
        (NoRegionError(), "AWS_REGION"),
        (_client_error("ExpiredTokenException", "The security token included in the request is expired"), "sso login"),
        (_client_error("AccessDeniedException", "You don't have access to the model"), "ask for access"),
        (_client_error("ValidationException", "The provided model identifier is invalid."), "PLAYGROUND_MODEL"),
        (
            _client_error("ValidationException", "Invocation of model ID x with on-demand throughput isn't supported."),
            "inference profile",
        ),
        (_client_error("ThrottlingException", "Too many requests, please wait"), "wait a moment"),
        (ModelThrottledException("slow down"), "wait a moment"),
        (EventLoopException(ModelThrottledException("slow down")), "wait a moment"),
        (NotFoundError("Error code: 404 - The model `gpt-9` does not exist"), "PLAYGROUND_MODEL"),
        (NotFoundError("model 'llama9' not found, try pulling it first"), "ollama pull"),
        (RuntimeError("Error code: 401 - Incorrect API key provided"), "OPENAI_API_KEY"),
        (ConnectionError("Failed to connect to Ollama"), "ollama serve"),
    ],
)
def test_common_errors_come_with_what_usually_helps(error: Exception, helps: str) -> None:
    failure = described(error)

    assert failure.code == "model"
    assert helps in failure.hint
    assert str(error) == failure.message


def test_the_cause_of_an_error_is_looked_at_for_advice() -> None:
    error = RuntimeError("the model failed")
    error.__cause__ = NoCredentialsError()

    assert "aws configure" in hint_for(error)
    assert hint_for(RuntimeError("something else")) == ""


def test_what_the_environment_keeps_secret_is_masked_and_so_are_users_in_addresses() -> None:
    environment = {
        "OPENAI_API_KEY": "sk-abcdefgh",
        "AWS_SECRET_ACCESS_KEY": "sk-abcdefghij",
        "TOKEN": "x",
        "HOME": "/home/me",
    }
    text = "sk-abcdefgh, sk-abcdefghij, x, /home/me, mongodb://me:hunter2@db.example/"

    assert masked(text, environment) == "•••, •••, x, /home/me, mongodb://•••@db.example/"
    assert masked("mongodb+srv://ada:p@ss@db.example/?x", {}) == "mongodb+srv://•••@db.example/?x"
    assert len(masked("x" * 10_000, {})) < 5_000


def test_an_error_of_the_database_shows_no_host() -> None:
    failure = described(AutoReconnect("db.internal:27017: connection closed"))

    assert failure.code == "database"
    assert "db.internal" not in failure.message


def test_an_error_of_the_database_says_what_to_try() -> None:
    refused = OperationFailure("not authorized on chats", 13)
    told = described(EventLoopException(with_advice(refused, "db.example:27017")))

    assert "readWrite" in told.hint
    assert described(OperationFailure("db.internal", 14)).hint == ""
