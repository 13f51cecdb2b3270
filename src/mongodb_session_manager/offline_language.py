"""The few English sentences that the offline model understands: pure functions of the messages it is given."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, TypedDict

from strands.types.content import Message, Messages
from strands.types.tools import ToolResult, ToolSpec, ToolUse

METADATA_TOOL = "manage_metadata"

_END = r"(?=,?\s+(?:and|but)\s+(?:i|my)\b|,\s+(?:i|my)\b|[.!;]?$)"
_PLACE = r"([A-Z][\w'-]*(?:\s[A-Z][\w'-]*)*)"
_FACTS = (
    (re.compile(rf"\bmy\s+([\w' -]+?)\s+(?:is|are|as)\s+(.+?){_END}", re.I), None),
    (re.compile(rf"(?i:\bi\s+am|\bi'm|\bcall\s+me)\s+(?i:called\s+)?{_PLACE}"), "name"),
    (re.compile(rf"(?i:\b(?:trip|travel|travell?ing|fly|flying|go|going|moving)\s+to)\s+{_PLACE}"), "destination"),
    (re.compile(rf"(?i:\bi\s+live\s+in)\s+{_PLACE}"), "home"),
)
_ASKED = (
    (re.compile(r"\bmy\s+([\w' -]+?)(?=\s+(?:is|are|and)\b|\s*[?,.!]|\s*$)", re.I), None),
    (re.compile(r"\bwho\s+am\s+i\b", re.I), "name"),
    (re.compile(r"\bwhere\s+(?:am\s+i|do\s+i\s+want\s+to|will\s+i)\s+(?:go|going|fly|travel)", re.I), "destination"),
    (re.compile(r"\bwhere\s+do\s+i\s+live\b", re.I), "home"),
)
_KNOWN = {"destination": "you are going to {}", "home": "you live in {}", "note": "{}"}
_UNKNOWN = {"destination": "where you are going", "home": "where you live"}
_QUESTION = re.compile(r"\b(?:what|what's|which|who|where|tell me|remind me|do you (?:know|remember))\b", re.I)
_REMEMBER = re.compile(r"^(?:\w+,?\s+){0,3}?(?:remember|store|note|save|record)\b(?:\s+that)?\s+(.+?)[.!]?$", re.I)
_FORGET = re.compile(r"\b(?:forget|delete|remove)\s+my\s+([\w' -]+?)(?=[.!?,]|\s*$)", re.I)
_RECALL = re.compile(r"know about me|\b(?:show|get|list|read)\b.*\bmetadata\b|\bwhat\b.*\bstored\b", re.I)
_SUMMARY = re.compile(r"\bsummar(?:y|i[sz]e)\b", re.I)
_ECHO = re.compile(r"\bwhat did i (?:just )?(?:say|ask|tell|write)\b", re.I)
_GREETING = re.compile(r"^(?:hello|hi|hey|good (?:morning|afternoon|evening))\b", re.I)

_ARITHMETIC = re.compile(r"[-(]*\d[\d.]*(?:[ ()]*(?:\*\*|[-+*/%])[ (]*-?\d[\d.]*\)*)+")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_SIGNS = {"multiplied by": "*", "divided by": "/", "times": "*", "plus": "+", "minus": "-"}
_SET = re.compile(r"\bset\s+(?:(?:the|my|state)\s+)*([\w-]+)\s+to\s+(.+?)(?=[.!?]?$)", re.I)
_GET = re.compile(r"\bget\s+(?:(?:the|my|state)\s+)*([\w-]+)", re.I)
_ARGUMENT = re.compile(r"(\w+)\s*=\s*(\"[^\"]*\"|'[^']*'|[^\s,;]+)")


class ToolCall(TypedDict):
    """A tool and its input."""

    name: str
    input: dict[str, Any]


def answer(messages: Messages) -> str:
    """Return the reply to the latest prompt, or to the tool results that came back for it."""
    said = _said(messages)
    prompt = said[-1] if said else ""
    if results := _tool_results(messages):
        outcome = [_outcome(use, result) for use, result in results]
        return " ".join(filter(None, [*outcome, _recalled(messages), _about_facts(prompt, messages)]))
    if _SUMMARY.search(prompt):
        return "\n".join(["The user said:", *(f"- {text}" for text in said[:-1])])
    if _ECHO.search(prompt):
        return f'You said: "{said[-2]}"' if len(said) > 1 else "You have not said anything before that."
    if _RECALL.search(prompt):
        return _recalled(messages) or "I do not know anything about you."
    return _about_facts(prompt, messages) or _small_talk(prompt, len(said))


def facts(messages: Messages) -> dict[str, str]:
    """Return what the user stated, by subject (`name`, `favourite_colour`); the latest statement wins."""
    return {key: value for text in _said(messages) for key, value in _stated(text).items()}


def phrase(key: str, value: Any) -> str:
    """Say a fact to the user, without capital or full stop."""
    return _KNOWN.get(key, f"your {_words(key)} is {{}}").replace("{}", str(value))


def wanted_calls(messages: Messages, tool_specs: list[ToolSpec]) -> list[ToolCall]:
    """Return the tool calls that the latest prompt asks for; none once their results are there."""
    said = _said(messages)
    if not said or _tool_results(messages):
        return []
    calls: list[ToolCall] = []
    for sentence in _sentences(said[-1]):
        for spec in tool_specs:
            arguments = _arguments(spec, sentence)
            if arguments is not None and (call := ToolCall(name=spec["name"], input=arguments)) not in calls:
                calls.append(call)
    return calls


def coerced(value: str, schema: dict[str, Any]) -> Any:
    """Return a value that was read as text in the type its JSON schema asks for."""
    kind = schema.get("type")
    if kind == "boolean":
        return value.lower() in ("true", "yes", "on")
    if kind == "integer" and re.fullmatch(r"-?\d+", value):
        return int(value)
    if kind == "number" and re.fullmatch(r"-?\d+(\.\d+)?", value):
        return float(value)
    return value


def _text(message: Message) -> str:
    return "\n".join(block["text"] for block in message["content"] if block.get("text"))


def _said(messages: Messages) -> list[str]:
    return [text for message in messages if message["role"] == "user" and (text := _text(message).strip())]


def _sentences(text: str) -> list[str]:
    # Sentences are cut, so that no text can make the patterns above take long.
    return [part.strip()[:400] for part in re.split(r"(?<=[.!?])\s+|\n+", text) if part.strip()]


def _key(words: str) -> str:
    return re.sub(r"\W+", "_", words.strip().lower())


def _words(key: str) -> str:
    return key.replace("_", " ")


def _listed(parts: Sequence[str]) -> str:
    text = ", and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]
    return text[:1].upper() + text[1:] + "."


def _stated(text: str) -> dict[str, str]:
    stated: dict[str, str] = {}
    for sentence in _sentences(text):
        if not sentence.endswith("?"):
            for pattern, key in _FACTS:
                for match in pattern.finditer(sentence):
                    stated[key or _key(match[1])] = match[match.lastindex or 1].strip()
    return stated


def _asked(text: str) -> Iterator[str]:
    for sentence in _sentences(text):
        if _QUESTION.search(sentence):
            found = [(match, key) for pattern, key in _ASKED for match in pattern.finditer(sentence)]
            yield from (key or _key(match[1]) for match, key in sorted(found, key=lambda pair: pair[0].start()))


def _recalled(messages: Messages) -> str:
    known = [phrase(key, value) for key, value in facts(messages).items()]
    return f"From this conversation: {_listed(known)}" if known and _RECALL.search(_said(messages)[-1]) else ""


def _about_facts(prompt: str, messages: Messages) -> str:
    known = facts(messages)
    if asked := list(dict.fromkeys(_asked(prompt))):
        unknown = "I do not know {}".format
        return _listed(
            [
                phrase(key, known[key]) if key in known else unknown(_UNKNOWN.get(key, f"your {_words(key)}"))
                for key in asked
            ]
        )
    stated = [phrase(key, value) for key, value in _stated(prompt).items()]
    return f"Thank you. {_listed(stated)}" if stated and not _tool_results(messages) else ""


def _small_talk(prompt: str, count: int) -> str:
    if _GREETING.search(prompt):
        return "Hello! I am a model that works offline. Tell me something about you, and ask me about it later."
    return f"I have {count} message{'' if count == 1 else 's'} from you in front of me, and no answer to the last one."


def _arguments(spec: ToolSpec, sentence: str) -> dict[str, Any] | None:
    """Input for the tool if the sentence asks for it, else None."""
    name = spec["name"]
    properties: dict[str, Any] = spec["inputSchema"].get("json", {}).get("properties", {})
    keys, words = list(properties), name.split("_")
    if name == METADATA_TOOL:
        return _metadata_arguments(sentence)
    if re.search(rf"\b{re.escape(name)}\b", sentence):
        given = {key: value.rstrip(".!?").strip("\"'") for key, value in _ARGUMENT.findall(sentence)}
        return {key: coerced(value, properties[key]) for key, value in given.items() if key in properties}
    if "calc" in name and keys and (expression := _expression(sentence)):
        return {"expression" if "expression" in keys else keys[0]: expression}
    if words[0] == "set" and (match := _SET.search(sentence)) and (len(keys) == 2 or match[1] in words):
        values = match.groups() if len(keys) == 2 else match.groups()[1:]
        return {key: coerced(value, properties[key]) for key, value in zip(keys, values, strict=False)}
    if words[0] == "get" and (match := _GET.search(sentence)) and (len(keys) == 1 or match[1] in words):
        return dict.fromkeys(keys[:1], match[1])
    return None


def _metadata_arguments(sentence: str) -> dict[str, Any] | None:
    if match := _FORGET.search(sentence):
        return {"action": "delete", "keys": [_key(match[1])]}
    if _RECALL.search(sentence):
        return {"action": "get"}
    if not sentence.endswith("?") and (match := _REMEMBER.match(sentence)):
        return {"action": "update", "metadata": _stated(match[1]) or {"note": match[1]}}
    return None


def _expression(sentence: str) -> str | None:
    for words, sign in _SIGNS.items():
        sentence = re.sub(rf"\s{words}\s", f" {sign} ", sentence)
    match = _ARITHMETIC.search(_DATE.sub("", sentence))
    return match[0].strip() if match else None


def _tool_results(messages: Messages) -> list[tuple[ToolUse | None, ToolResult]]:
    """The results in the last message, each with the call it answers."""
    blocks = [block for message in messages for block in message["content"]]
    uses = {block["toolUse"]["toolUseId"]: block["toolUse"] for block in blocks if "toolUse" in block}
    last = messages[-1]["content"] if messages else []
    return [
        (uses.get(block["toolResult"]["toolUseId"]), block["toolResult"]) for block in last if "toolResult" in block
    ]


def _outcome(use: ToolUse | None, result: ToolResult) -> str:
    """Say what a tool answered."""
    name = use["name"] if use else "The tool"
    given: dict[str, Any] = use["input"] if use and isinstance(use["input"], dict) else {}
    text = " ".join(str(part["text"] if "text" in part else part.get("json", "")) for part in result["content"])
    if result.get("status") == "error" or text.startswith("Error"):
        return f"{name} did not work: {text}"
    if name == METADATA_TOOL and given.get("action") == "update":
        return "I have stored it: " + _listed([phrase(key, value) for key, value in given["metadata"].items()])
    if name == METADATA_TOOL and given.get("action") == "get":
        return f"Stored in the session: {text.partition(': ')[2] or 'nothing'}."
    if name == METADATA_TOOL and given.get("action") == "delete":
        return f"I have forgotten {', '.join('your ' + _words(key) for key in given['keys'])}."
    if "calc" in name:
        return f"{next(iter(given.values()), 'The result')} = {text.removeprefix('Result: ')}"
    return f"{name} answered: {text}"
