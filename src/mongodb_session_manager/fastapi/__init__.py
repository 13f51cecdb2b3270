"""Sessions in FastAPI and Starlette applications: one object for the life of the application, a manager per request.

```python
sessions = Sessions("mongodb://localhost:27017/", database_name="my_app", collection_name="sessions")
app = FastAPI(lifespan=sessions.lifespan, exception_handlers=sessions.exception_handlers)


@app.post("/chat/{session_id}")
async def chat(
    turn: Annotated[SessionTurn, Depends(sessions.turn)], message: Annotated[str, Body(embed=True)]
) -> StreamingResponse:
    agent = Agent(agent_id="support", session_manager=turn.manager, callback_handler=None)
    return await streamed(turn.stream(agent, message))
```
"""

from .sessions import Sessions
from .streaming import streamed
from .turn import SessionTurn

__all__ = ["SessionTurn", "Sessions", "streamed"]
