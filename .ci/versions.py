"""Run the tests on the lowest versions of its dependencies that `pyproject.toml` allows, and on the newest.

    make test-versions                        both, all but slow tests and those in a browser
    python .ci/versions.py lowest --some      as `.ci/run` does: what a version would break first, in a few minutes
    python .ci/versions.py lowest -- -k turn  options of pytest behind --

Each has a virtual environment of its own, `.venv-lowest` and `.venv-newest`.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOWEST, NEWEST = "lowest", "newest"
SHOWN = ("strands-agents", "pymongo", "motor", "anyio")
# What hooks into Strands and the drivers most: events, restoring, drivers, clients, the agents of the playground.
SOME = (
    "tests/unit",
    "tests/contract/test_guardrails.py",
    "tests/contract/test_lifecycle.py",
    "tests/contract/test_messages.py",
    "tests/contract/test_multi_agent.py",
    "tests/facade/test_agents.py",
    "tests/integration/test_client.py",
    "tests/integration/test_command_budget.py",
    "tests/integration/test_hand_appended_messages.py",
    "tests/integration/test_pool.py",
    "tests/integration/test_resume_bidi.py",
    "tests/integration/test_resume_histories.py",
    "tests/integration/test_resume_windows.py",
    "tests/apps/playground/test_chat.py",
)


def lowest_versions(dependencies: Sequence[str]) -> list[str]:
    """Return the dependencies pinned to their lower bounds, such as `motor==3.7`.

    Raises:
        ValueError: A dependency has no lower bound.
    """
    pinned = []
    for dependency in dependencies:
        found = re.match(r"([\w.-]+)\s*>=\s*([\w.]+)", dependency)
        if found is None:
            raise ValueError(f"invalid dependency {dependency!r}: it needs a lower bound, as in name>=1.0")
        pinned.append(f"{found[1]}=={found[2]}")
    return pinned


def install(venv: Path, pinned: Sequence[str]) -> Path:
    """Install the project for its tests, with these versions and else the newest; returns the interpreter."""
    python = venv / "bin" / "python"
    if not python.exists():
        # The project's pip fills it: Debian's Python cannot give an environment a pip of its own.
        run(sys.executable, "-m", "venv", "--clear", "--without-pip", venv)
    wanted = ("--quiet", "--upgrade", "--editable", f"{ROOT}[all,dev]", *pinned)
    uv = (sys.executable, "-m", "uv", "pip", "install", "--compile-bytecode", "--python", python)
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    # As the Makefile does: pip where uv is missing, or does not know the index that pip is set to.
    if subprocess.run([str(part) for part in (*uv, *wanted)], cwd=ROOT, check=False).returncode:
        run(*pip, "install", "--upgrade-strategy", "eager", *wanted)
    run(*pip, "check")
    return python


def run(*command: object) -> None:
    """Run a command to its end.

    Raises:
        SystemExit: It failed.
    """
    done = subprocess.run([str(part) for part in command], cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("versions", nargs="*", choices=[LOWEST, NEWEST], default=[LOWEST, NEWEST])
    parser.add_argument("--some", action="store_true", help="only the tests that a version would break first")
    parser.add_argument("--workers", default="2", help="processes that share the tests")
    known, rest = split(sys.argv[1:])
    options = parser.parse_args(known)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tests = SOME if options.some else ("tests",)
    for name in options.versions:
        print(f"test-versions: installing the {name} versions", flush=True)
        pinned = lowest_versions(project["dependencies"]) if name == LOWEST else []
        python = install(ROOT / f".venv-{name}", pinned)
        show = "from importlib.metadata import version; print('test-versions:', *(f'{p} {version(p)}' for p in %r))"
        run(python, "-c", show % (SHOWN,))
        pytest = (python, "-m", "pytest", "--no-skips", "-q", "-n", options.workers, "--dist", "worksteal")
        run(*pytest, "-m", "not slow and not browser and not clients", *rest, *tests)


def split(arguments: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Return what stands before and behind `--`."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:end], arguments[end + 1 :]


if __name__ == "__main__":
    main()
