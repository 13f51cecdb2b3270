from __future__ import annotations

import asyncio

from mongodb_session_manager.playground.events import Event, EventLog, as_sse, position
from mongodb_session_manager.web import event_frame


async def _all(log: EventLog, after: int = 0) -> list[Event]:
    return [event async for event in log.follow(after)]


async def test_a_reader_who_is_behind_gets_tokens_joined_and_nothing_twice() -> None:
    log = EventLog()
    for text in ("a", "b", "c"):
        log.add("token", text=text)
    log.add("tool_call", name="t")
    log.add("token", text="d")
    log.close()

    whole = await _all(log)

    assert [(event.number, event.kind) for event in whole] == [(3, "token"), (4, "tool_call"), (5, "token")]
    assert whole[0].data == {"text": "abc"}
    assert (await _all(log, 2))[0].data == {"text": "c"}
    assert await _all(log, 5) == []


async def test_readers_see_each_event_as_it_comes() -> None:
    log, seen = EventLog(), asyncio.Queue[Event]()

    async def read() -> None:
        async for event in log.follow():
            await seen.put(event)

    reader = asyncio.create_task(read())
    for number in range(1, 4):
        log.add("token", text=str(number))
        assert (await seen.get()).number == number
    log.close()
    await reader
    assert seen.empty()


async def test_what_is_kept_is_bounded() -> None:
    log = EventLog(most_chars=10_000)
    for number in range(5_000):
        log.add("token", text=f"{number} ")
    log.add("done")
    log.close()

    kept = await _all(log)

    assert len(kept) <= 10_000 // 100
    assert kept[0].data["text"].endswith("4999 ")
    assert kept[-1].kind == "done"


def test_what_is_sent_is_one_line_whatever_was_said() -> None:
    text = "a\n\nevent: done\ndata: {}\n\r\u2028\u2029é</script>"

    frame = event_frame(as_sse("t", Event(7, "token", {"text": text}))).decode()

    lines = frame.removesuffix("\n\n").split("\n")
    assert sorted(line.partition(":")[0] for line in lines) == ["data", "event", "id"]
    assert "\r" not in frame


def test_a_position_counts_for_its_own_turn_only() -> None:
    assert position("t1", "t1-12") == 12
    for other in (None, "", "t2-12", "t1", "t1-", "t1-x", "t1--1", "12", "t1-²", "t1-" + "9" * 40):
        assert position("t1", other) == 0
