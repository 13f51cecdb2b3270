"""Feedback that is checked before it is stored, and told to the people who care.

Two hooks, one inside the other: the first asks for a comment with a thumbs down, the second publishes what was stored
to an SNS topic per rating. Here a queue subscribes to each topic, as a mailbox or a chat channel would, so that the
example can show what arrived. Publishing happens in the background; closing the manager waits for it.

    python examples/example_feedback_hook.py

The topics are in moto's server, which the example starts, unless AWS_ENDPOINT_URL or EXAMPLE_AWS=account is set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from _aws import Aws, aws, queue, received, topic
from _shared import COLLECTION, DATABASE, chosen_model, heading, new_session_id, run, say
from strands import Agent

from mongodb_session_manager import AsyncMongoDBSessionManager, create_feedback_sns_hook


def require_comment(original_func: Callable[..., Any], action: str, session_id: str, **kwargs: Any) -> Any:
    feedback = kwargs["feedback"]
    if feedback.get("rating") == "down" and not feedback.get("comment"):
        raise ValueError("please say what was wrong")
    return original_func(feedback)


async def tell(uri: str, session_id: str, notify: Any) -> None:
    async with AsyncMongoDBSessionManager(
        session_id,
        uri,
        database_name=DATABASE,
        collection_name=COLLECTION,
        feedback_hook=[require_comment, notify],
    ) as manager:
        agent = Agent(model=chosen_model(), agent_id="guide", session_manager=manager, callback_handler=None)

        heading(f"A conversation and what its user thinks of it ({session_id})")
        for prompt, feedback in (
            ("My name is Ada and I live in Turin.", {"rating": "up", "comment": "Quick!"}),
            ("Where do I live?", {"rating": None, "comment": "Fine"}),
            ("What should I see there?", {"rating": "down"}),
            ("", {"rating": "down", "comment": "It never told me what to see."}),
        ):
            if prompt:
                say("user", prompt)
                say("agent", await agent.invoke_async(prompt))
            try:
                await manager.add_feedback(feedback)
                say("feedback", feedback)
            except ValueError as error:
                say("refused", f"{feedback}, {error}")

    heading("What is stored, and what became of the notifications")
    say("feedbacks", len(await stored_feedbacks(uri, session_id)))
    say("counters", notify.counters)


async def stored_feedbacks(uri: str, session_id: str) -> list[dict[str, Any]]:
    async with AsyncMongoDBSessionManager(
        session_id, uri, database_name=DATABASE, collection_name=COLLECTION
    ) as manager:
        return await manager.get_feedbacks()


async def story(uri: str, aws: Aws) -> None:
    async with (
        queue(aws, "fans") as fans,
        queue(aws, "support") as support,
        topic(aws, "good", fans) as good,
        topic(aws, "bad", support) as bad,
    ):
        notify = create_feedback_sns_hook(
            topic_arn_good=good,
            topic_arn_bad=bad,
            topic_arn_neutral="none",
            subject_prefix_bad="[look into it] ",
            body_prefix_bad="A user was not happy, at {timestamp}.\n\n",
            include_viewer_password=False,
            session=aws.session,
            endpoint_url=aws.endpoint_url,
        )
        await tell(uri, new_session_id("feedback"), notify)

        for who, mailbox in (("the fans", fans), ("support", support)):
            heading(f"What {who} received")
            for notification in await received(aws, mailbox, expected=1):
                say("subject", notification["Subject"])
                for line in filter(None, notification["Message"].splitlines()):
                    say("", line)


async def main(uri: str) -> None:
    with aws() as place:
        await story(uri, place)


if __name__ == "__main__":
    run(main)
