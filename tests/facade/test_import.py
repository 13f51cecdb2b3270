"""What importing the package brings along."""

from __future__ import annotations

import subprocess
import sys

import pytest

import mongodb_session_manager as package

AWS_HOOKS = ("feedback_sns", "metadata_sqs", "metadata_websocket")


def test_hooks_for_aws_are_imported_when_one_of_their_names_is_asked_for() -> None:
    program = f"""
import sys
import mongodb_session_manager as package
modules = [f"mongodb_session_manager.hooks.{{name}}" for name in {AWS_HOOKS!r}]
assert not set(modules) & set(sys.modules)
assert set(package.__all__) <= set(dir(package))
assert package.FeedbackSNSHook is package.FeedbackSNSHook
assert [name in sys.modules for name in modules] == [True, False, False]
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_name_that_the_package_has_not_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="module 'mongodb_session_manager' has no attribute 'Sessions'"):
        getattr(package, "Sessions")  # noqa: B009 -- not a name that mypy knows
