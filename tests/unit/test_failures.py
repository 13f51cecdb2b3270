from __future__ import annotations

import pytest
from pymongo.errors import AutoReconnect
from strands.types.exceptions import EventLoopException

from mongodb_session_manager import LeaseLostError, SessionNotFoundError
from mongodb_session_manager.session.failures import is_of_the_store, original

OF_THE_STORE = [AutoReconnect("away"), SessionNotFoundError("s-1"), LeaseLostError("taken over")]
OTHERS = [None, ValueError("no"), KeyboardInterrupt()]


@pytest.mark.parametrize("error", [*OF_THE_STORE, *OTHERS], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_an_error_is_told_through_what_strands_wraps_it_in(error: BaseException | None, depth: int) -> None:
    wrapped = error
    for _ in range(depth if isinstance(error, Exception) else 0):
        wrapped = EventLoopException(wrapped)  # type: ignore[arg-type]

    assert original(wrapped) is error
    assert is_of_the_store(wrapped) == (error in OF_THE_STORE)
