"""OpenTelemetry for the session managers of this process (extra `otel`), switched on with `instrument()`.

Spans for opening, writing, sealing and restoring sessions, below the span that is current, which in a turn is one of
Strands' own. They hold ids, counts and bytes, and of an error its class: nothing of what a session holds. The id of the
trace is stored with each answer of a model, where the trace is sampled.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from . import tracing
from ._version import __version__
from .extras import needs

with needs("otel"):
    from opentelemetry import context, trace

__all__ = ["instrument", "uninstrument"]

_SCOPE = "mongodb_session_manager"
_COMMANDS = f"{_SCOPE}.command.count"


def instrument(tracer_provider: trace.TracerProvider | None = None) -> None:
    """Trace all session managers of this process from now on; calling it again replaces the provider.

    Args:
        tracer_provider: Makes the spans; None for the global provider, which may be set later.
    """
    tracing.active = _OpenTelemetry(trace.get_tracer(_SCOPE, __version__, tracer_provider))


def uninstrument() -> None:
    """Trace nothing from now on."""
    tracing.active = None


class _Span:
    """A span while its work is done; knows how many commands that sent."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self.commands = 0

    def note(self, fact: tracing.Fact, value: str | int) -> None:
        self._span.set_attribute(fact, _printable(value) if isinstance(value, str) else value)

    def fail(self, error: BaseException) -> None:
        # Not `record_exception`: an error's text may name what a session holds, and so may a traceback.
        self._span.set_attribute("error.type", type(error).__qualname__)
        if isinstance(code := getattr(error, "code", None), int):
            self._span.set_attribute("db.response.status_code", str(code))
        self._span.set_status(trace.StatusCode.ERROR)


class _OpenTelemetry:
    """Traces with OpenTelemetry."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer
        self._working: ContextVar[_Span | None] = ContextVar(f"{_SCOPE}_span", default=None)

    @contextmanager
    def span(
        self, work: tracing.Work, session_id: str, database: str, collection: str, *, origin: object = None
    ) -> Iterator[_Span]:
        attributes = {
            "gen_ai.conversation.id": _printable(session_id),
            "db.system.name": "mongodb",
            "db.namespace": database,
            "db.collection.name": collection,
        }
        # Not of the kind CLIENT: that is for single commands, which an instrumentation of PyMongo traces below it.
        parent = origin if isinstance(origin, context.Context) else None
        span = self._tracer.start_span(work, parent, attributes=attributes, links=_elsewhere(parent))
        working = _Span(span)
        token = self._working.set(working)
        try:
            with trace.use_span(span, record_exception=False, set_status_on_exception=False):
                yield working
        except BaseException as error:
            working.fail(error)
            raise
        finally:
            self._working.reset(token)
            span.set_attribute(_COMMANDS, working.commands)
            span.end()

    def here(self) -> object:
        return context.get_current()

    def trace_id(self, agent: object) -> str | None:
        # The agent's own, since a generator that is dropped is finished in another context. Not every kind has one.
        own = getattr(agent, "trace_span", None)
        span = own if isinstance(own, trace.Span) else trace.get_current_span()
        found = span.get_span_context()
        return trace.format_trace_id(found.trace_id) if found.is_valid and found.trace_flags.sampled else None

    def count_command(self) -> None:
        if (working := self._working.get()) is not None:
            working.commands += 1


def _elsewhere(parent: context.Context | None) -> list[trace.Link]:
    """Return a link to what is at work now, where a span gets another parent: one flush sends what another left."""
    here = trace.get_current_span().get_span_context()
    if parent is None or not here.is_valid or here == trace.get_current_span(parent).get_span_context():
        return []
    return [trace.Link(here)]


def _printable(text: str) -> str:
    """Return text that can be exported: a lone surrogate would lose all the spans that are exported with it."""
    return text.encode("utf-8", "backslashreplace").decode()
