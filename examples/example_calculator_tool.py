"""An agent with a calculator: its tool calls are part of the stored conversation.

A first agent computes something and is gone. A second one, built on the same session as another process would do it,
has the calls and their results, and goes on. At the end: what the session has cost, over both.

    python examples/example_calculator_tool.py
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable

from _shared import COLLECTION, DATABASE, chosen_model, heading, new_session_id, run, say
from strands import Agent, tool

from mongodb_session_manager import AsyncMongoDBSessionManager

OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}


def evaluate(node: ast.expr) -> float:
    """Compute a parsed expression; nothing but numbers and arithmetic is accepted."""
    match node:
        case ast.Constant(value=bool()):
            raise ValueError("a truth value is not a number")
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -evaluate(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return OPERATORS[type(op)](evaluate(left), evaluate(right))
    raise ValueError(f"cannot compute {ast.unparse(node)}")


@tool
def calculator(expression: str) -> str:
    """Compute an arithmetic expression.

    Args:
        expression: Numbers with + - * / % and parentheses, such as "(6 + 1) * 7".
    """
    return f"{evaluate(ast.parse(expression, mode='eval').body):g}"


async def ask(manager: AsyncMongoDBSessionManager, *prompts: str) -> Agent:
    """Build an agent on the session and put the prompts to it."""
    agent = Agent(
        model=chosen_model(),
        agent_id="mathematician",
        system_prompt="You are good with numbers. Always use the calculator.",
        tools=[calculator],
        session_manager=manager,
        callback_handler=None,
    )
    say("restored", f"{len(agent.messages)} messages")
    for prompt in prompts:
        say("user", prompt)
        say("agent", await agent.invoke_async(prompt))
    return agent


async def main(uri: str) -> None:
    session_id = new_session_id("calculator")

    def session() -> AsyncMongoDBSessionManager:
        return AsyncMongoDBSessionManager(session_id, uri, database_name=DATABASE, collection_name=COLLECTION)

    heading(f"A new session ({session_id})")
    async with session() as manager:
        await ask(manager, "My name is Grace. What is 6 * 7?", "What is (12 + 8) * 5?", "What is 1 / 0?")

    heading("The same session, another agent")
    async with session() as manager:
        agent = await ask(manager, "What is my name?", "What is 100 - 58?")

        heading("What was stored")
        for message in agent.messages:
            for block in message["content"]:
                if "toolUse" in block:
                    say("call", block["toolUse"]["input"].get("expression"))
                if "toolResult" in block:
                    result = block["toolResult"]
                    say("result", " ".join(part.get("text", "") for part in result["content"]))
        total = await manager.get_metrics_summary()
        for name, calls in total["tool_calls"].items():
            say(name, f"{calls['call_count']:g} calls, of which {calls['error_count']:g} failed")
        say("tokens", f"{total['tokens']['total']} in {total['model_calls']} model calls")


if __name__ == "__main__":
    run(main)
