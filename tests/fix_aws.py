"""AWS for the tests: moto's server, and a server of our own that answers as badly as it is told."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import aioboto3
import boto3  # type: ignore[import-untyped]
import pytest
from moto.apigatewaymanagementapi.models import apigatewaymanagementapi_backends
from moto.server import ThreadedMotoServer

REGION = "eu-west-1"
ACCOUNT = "123456789012"  # moto's own
ACCESS_KEY = "AKIA-SYNTHETIC-7f3a"
SECRET_KEY = "synthetic-secret-9c1e"


def credentials() -> dict[str, str]:
    return {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY}


def aws_session(region: str | None = REGION) -> Any:
    """Return an aioboto3 session that needs no environment."""
    return aioboto3.Session(**credentials(), region_name=region)


class Moto:
    """Moto's server, looked at from the receiving end.

    Attributes:
        url: Where it listens.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.sns = boto3.client("sns", region_name=REGION, endpoint_url=url, **credentials())
        self.sqs = boto3.client("sqs", region_name=REGION, endpoint_url=url, **credentials())

    def queue(self, *, fifo: bool = False) -> str:
        """Make a queue and return its URL."""
        name = f"q-{uuid4().hex[:12]}"
        attributes = {"FifoQueue": "true"} if fifo else {}
        url: str = self.sqs.create_queue(QueueName=name + ".fifo" * fifo, Attributes=attributes)["QueueUrl"]
        return url

    def topic(self, *, fifo: bool = False) -> tuple[str, str]:
        """Make a topic, and a queue that gets what is published to it; returns its ARN and the queue's URL."""
        name = f"t-{uuid4().hex[:12]}"
        attributes = {"FifoTopic": "true"} if fifo else {}
        arn: str = self.sns.create_topic(Name=name + ".fifo" * fifo, Attributes=attributes)["TopicArn"]
        queue = self.queue(fifo=fifo)
        queue_arn = self.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        self.sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=queue_arn)
        return arn, queue

    def received(self, queue: str) -> list[dict[str, Any]]:
        """Take all messages out of a queue, in its order."""
        messages: list[dict[str, Any]] = []
        while batch := self.sqs.receive_message(
            QueueUrl=queue, MaxNumberOfMessages=10, AttributeNames=["All"], MessageAttributeNames=["All"]
        ).get("Messages"):
            messages += batch
            for message in batch:
                self.sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return messages

    def changes(self, queue: str) -> list[dict[str, Any]]:
        """Take all messages out of a queue, and return their JSON bodies."""
        return [json.loads(message["Body"]) for message in self.received(queue)]

    def published(self, queue: str) -> list[dict[str, Any]]:
        """Return what SNS delivered to a queue: `Subject`, `Message`, `MessageAttributes`."""
        return self.changes(queue)

    def pushed(self, connection_id: str) -> list[dict[str, Any]]:
        """Return what was pushed to a WebSocket connection."""
        # Its API tells of a connection, not of what it got.
        backend = apigatewaymanagementapi_backends[ACCOUNT][REGION]
        text = backend.get_connection(connection_id).data.decode()
        decoder, found = json.JSONDecoder(), []
        while text:
            change, end = decoder.raw_decode(text)
            found.append(change)
            text = text[end:]
        return found


@pytest.fixture(scope="session")
def moto() -> Iterator[Moto]:
    """SNS, SQS and the API Gateway management API, on a port of their own."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield Moto(f"http://{host}:{port}")
    finally:
        server.stop()


class StubService:
    """A server that takes every request and gives them all the same answer, or none.

    Attributes:
        url: Where it listens.
        status: What it answers; None for never, until `release()`.
        error: The code of the error that it answers with.
        asked: Set when a request has come.
        requests: Path and body of each request, in order.
    """

    def __init__(self) -> None:
        self.status: int | None = 200
        self.error = "InternalFailure"
        self.asked = threading.Event()
        self.requests: list[tuple[str, bytes]] = []
        self._released = threading.Event()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                service.requests.append((self.path, body))
                service.asked.set()
                if service.status is None:
                    service._released.wait()
                    self.close_connection = True
                    return
                content_type, body = _in_xml(service) if body.startswith(b"Action=") else _in_json(service)
                self.send_response(service.status)
                self.send_header("Content-Type", content_type)
                if service.status != 200:
                    self.send_header("x-amzn-ErrorType", service.error)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="stub-service")
        self._thread.start()

    def answer(self, status: int | None, error: str = "InternalFailure") -> None:
        """Answer so from now on."""
        self.status, self.error = status, error

    def stop(self) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _in_json(service: StubService) -> tuple[str, bytes]:
    answer = {} if service.status == 200 else {"message": "synthetic", "__type": service.error}
    return "application/json", json.dumps(answer).encode()


def _in_xml(service: StubService) -> tuple[str, bytes]:
    """Answer as SNS does."""
    if service.status == 200:
        answer = "<PublishResponse><PublishResult><MessageId>m-1</MessageId></PublishResult></PublishResponse>"
    else:
        answer = (
            f"<ErrorResponse><Error><Code>{service.error}</Code><Message>synthetic</Message></Error></ErrorResponse>"
        )
    return "text/xml", answer.encode()


@pytest.fixture
def stub_service() -> Iterator[StubService]:
    service = StubService()
    try:
        yield service
    finally:
        service.stop()
