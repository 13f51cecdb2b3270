"""AWS for the examples: moto's server in this process, an endpoint of yours, or your account.

    (nothing set)          moto, with invented credentials; needs: pip install 'moto[server]'
    AWS_ENDPOINT_URL       this endpoint, such as LocalStack's
    EXAMPLE_AWS=account    the account of your AWS settings (AWS_PROFILE, AWS_REGION, ...)

Topics and queues are made for the run and deleted after it.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

try:
    import aioboto3
except ImportError:
    sys.exit("this example needs the extra aws; from the folder of the clone: pip install '.[aws]'")

ENDPOINT = "AWS_ENDPOINT_URL"
REGION = "eu-west-1"
MOST_READS = 30


@dataclass(frozen=True)
class Aws:
    """Where AWS is: what the library's hooks take as `session=` and `endpoint_url=`."""

    session: Any
    endpoint_url: str | None

    def client(self, service: str) -> Any:
        """Return a client to look at the other end with, to be used with `async with`."""
        return self.session.client(service, endpoint_url=self.endpoint_url)


@contextmanager
def aws() -> Iterator[Aws]:
    """Give AWS, for as long as the block."""
    if os.environ.get(ENDPOINT) or os.environ.get("EXAMPLE_AWS") == "account":
        yield Aws(aioboto3.Session(), os.environ.get(ENDPOINT))
        return
    with moto() as place:
        yield place


@contextmanager
def moto() -> Iterator[Aws]:
    """Give moto's server in this process, for as long as the block."""
    try:
        from moto.server import ThreadedMotoServer
    except ImportError:
        sys.exit(f"this example needs an AWS endpoint: pip install 'moto[server]', or set {ENDPOINT}")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        session = aioboto3.Session(aws_access_key_id="example", aws_secret_access_key="example", region_name=REGION)
        yield Aws(session, f"http://{host}:{port}")
    finally:
        server.stop()


@asynccontextmanager
async def queue(aws: Aws, about: str) -> AsyncIterator[str]:
    """Make a queue and give its URL."""
    async with aws.client("sqs") as sqs:
        url = (await sqs.create_queue(QueueName=f"example-{about}-{uuid.uuid4().hex[:8]}"))["QueueUrl"]
        try:
            yield url
        finally:
            await sqs.delete_queue(QueueUrl=url)


@asynccontextmanager
async def topic(aws: Aws, about: str, subscriber_url: str) -> AsyncIterator[str]:
    """Make a topic to which a queue subscribes, and give its ARN."""
    async with aws.client("sns") as sns, aws.client("sqs") as sqs:
        arn = (await sns.create_topic(Name=f"example-{about}-{uuid.uuid4().hex[:8]}"))["TopicArn"]
        try:
            found = await sqs.get_queue_attributes(QueueUrl=subscriber_url, AttributeNames=["QueueArn"])
            queue_arn = found["Attributes"]["QueueArn"]
            may_send = {
                "Effect": "Allow",
                "Principal": {"Service": "sns.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": queue_arn,
                "Condition": {"ArnEquals": {"aws:SourceArn": arn}},
            }
            policy = json.dumps({"Version": "2012-10-17", "Statement": [may_send]})
            await sqs.set_queue_attributes(QueueUrl=subscriber_url, Attributes={"Policy": policy})
            await sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=queue_arn)
            yield arn
        finally:
            await sns.delete_topic(TopicArn=arn)


async def received(aws: Aws, queue_url: str, expected: int) -> list[dict[str, Any]]:
    """Read messages from a queue until as many as expected are there, and return their JSON bodies."""
    bodies: list[dict[str, Any]] = []
    async with aws.client("sqs") as sqs:
        for _ in range(MOST_READS):
            if len(bodies) >= expected:
                break
            answer = await sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
            for message in answer.get("Messages", []):
                bodies.append(json.loads(message["Body"]))
                await sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
    return bodies
