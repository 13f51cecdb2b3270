"""Where the agent of a turn comes from: the playground's own, or one that the user wrote."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from strands import Agent
from strands.models.model import Model

from mongodb_session_manager import AsyncMongoDBSessionManager

from ..models import takes_temperature
from .agent import AGENT_ID, build_agent

_ADDRESS = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_INSTALLED = frozenset(("site-packages", "dist-packages"))
_OWN_PACKAGE = __name__.partition(".")[0]


class AgentError(Exception):
    """The user's agent cannot be had; the cause is the error of their own code, when there is one.

    Attributes:
        folder: Where their code is.
        hint: What usually helps.
    """

    def __init__(self, message: str, *, folder: Path | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.folder = folder
        self.hint = hint


class Agents(Protocol):
    """Where the agent of a turn comes from.

    Attributes:
        name: What answers, for people.
        agent_id: The agent's id where it is known before one was built.
        last_id: The id of the agent that was built last, None before the first.
        takes_temperature: Whether a conversation may choose one; True where only a built agent can tell.
    """

    name: str
    agent_id: str | None
    last_id: str | None
    takes_temperature: bool

    async def build(self, manager: AsyncMongoDBSessionManager) -> Agent:
        """Return the agent on an opened session, restored to where the conversation stopped."""
        ...


class OwnModelAgents:
    """The playground's agent, on a model."""

    def __init__(self, model: Model) -> None:
        """Answer with this model."""
        self.name = str(model.get_config().get("model_id", type(model).__name__))
        self.agent_id: str | None = AGENT_ID
        self.last_id: str | None = AGENT_ID
        self.takes_temperature = takes_temperature(model)
        self._model = model

    async def build(self, manager: AsyncMongoDBSessionManager) -> Agent:
        """Return the playground's agent."""
        return build_agent(manager, self._model)


class UserAgents:
    """What a function of the user's returns, called with the session manager for each turn.

    With `reload`, their code is read again before a turn when one of its files has changed: every module that was
    loaded from the folder of theirs, what is installed left out. A turn that runs keeps the code that it began with.
    """

    def __init__(self, address: str, *, reload: bool = False) -> None:
        """Load the function.

        Args:
            address: `package.module:function`; the current folder is searched first.
            reload: Load it again when its code has changed.

        Raises:
            AgentError: It cannot be loaded. With `reload` only an address of another form is refused at once: what is
                wrong with the code may be put right while the playground runs.
        """
        if not _ADDRESS.fullmatch(address):
            raise AgentError(f"invalid agent {address!r}: give package.module:function")
        self.name = address
        self.agent_id: str | None = None
        self.last_id: str | None = None
        self.takes_temperature = True
        self._module, _, self._name = address.partition(":")
        self._reload = reload
        self._seen: dict[str, tuple[int, int] | None] = {}
        self._folder: Path | None = None
        self._function: Callable[..., Any] | None = None
        if (here := str(Path.cwd())) not in sys.path and "" not in sys.path:
            sys.path.insert(0, here)
        try:
            self._load()
        except AgentError:
            if not reload:
                raise

    async def build(self, manager: AsyncMongoDBSessionManager) -> Agent:
        """Return what the function makes of a session manager.

        Raises:
            AgentError: Their code fails, or returns something else than an agent on this session manager.
        """
        if self._reload and (self._function is None or self._has_changed()):
            await asyncio.to_thread(self._load)
        assert self._function is not None
        call = f"{self.name}(session_manager)"
        try:
            made = self._function(manager)
            agent = await made if inspect.isawaitable(made) else made
        except Exception as error:
            raise AgentError(f"{call} failed", folder=self._folder) from error
        if not isinstance(agent, Agent):
            hint = "Return a strands.Agent."
            raise AgentError(f"{call} returned {type(agent).__name__}, not an Agent", folder=self._folder, hint=hint)
        if getattr(agent, "_session_manager", None) is not manager:
            hint = "Pass the function's argument on: Agent(session_manager=session_manager, ...)."
            message = f"{call} returned an agent that is not on the session manager which it was given"
            raise AgentError(message, folder=self._folder, hint=hint)
        self.last_id = agent.agent_id
        return agent

    def _load(self) -> None:
        self._function = None
        try:
            if self._reload:
                self._forget_modules()
            self._folder = _folder_of(self._module) or self._folder
            module = importlib.import_module(self._module)
        except Exception as error:
            hint = ""
            if isinstance(error, ModuleNotFoundError) and error.name == self._module.partition(".")[0]:
                hint = "Start the playground in the folder that holds the module, or install the package."
            raise AgentError(f"{self._module} cannot be imported", folder=self._folder, hint=hint) from error
        finally:
            self._seen = {name: _stamp(name) for name in self._files()}
        function = getattr(module, self._name, None)
        if not callable(function):
            what = "is not a function" if hasattr(module, self._name) else f"is not in {self._module}"
            raise AgentError(f"{self._name} {what}", folder=self._folder)
        self._function = function

    def _has_changed(self) -> bool:
        return any(_stamp(name) != stamp for name, stamp in self._seen.items())

    def _forget_modules(self) -> None:
        # Compiled files are told apart by whole seconds and size, which an editor that is quick may match.
        sys.dont_write_bytecode = True
        importlib.invalidate_caches()
        for name, module in list(sys.modules.items()):
            if self._is_theirs(name, module):
                del sys.modules[name]

    def _files(self) -> list[str]:
        found = [str(module.__file__) for name, module in list(sys.modules.items()) if self._is_theirs(name, module)]
        # A module that cannot be imported is not among them.
        return [*found, *self._seen]

    def _is_theirs(self, name: str, module: ModuleType) -> bool:
        file = getattr(module, "__file__", None)
        if self._folder is None or not isinstance(file, str) or name.partition(".")[0] in (_OWN_PACKAGE, "__main__"):
            return False
        path = Path(file)
        return path.is_relative_to(self._folder) and not _INSTALLED.intersection(path.parts)


def _folder_of(name: str) -> Path | None:
    """Return the folder in which a module's topmost package lies; None when there is none of that name."""
    spec = importlib.util.find_spec(name.partition(".")[0])
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).parent
    return Path(spec.origin).parent if spec.origin and spec.has_location else None


def _stamp(file: str) -> tuple[int, int] | None:
    try:
        found = Path(file).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
