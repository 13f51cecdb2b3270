"""What importing the package takes, beside what its users import anyway: Strands, and Motor's asyncio client.

Each import is a process of its own, with compiled modules as an installed package has them; the least CPU time of all
rounds counts. `make test-versions` leaves environments in which the lowest and the newest versions can be compared:

    make bench-import
    .venv-lowest/bin/python benchmarks/imports.py
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from importlib.metadata import version

from _measure import rotated
from _report import Aim, aims_table

FLOOR, PACKAGE, EVERY_NAME = "strands + motor.motor_asyncio", "this package", "this package, every public name"
STATEMENTS = {
    "nothing": "pass",
    FLOOR: "import strands, motor.motor_asyncio",
    PACKAGE: "import mongodb_session_manager",
    EVERY_NAME: "import mongodb_session_manager as package; [getattr(package, name) for name in package.__all__]",
}


def seconds(statement: str, environment: dict[str, str]) -> float:
    """Return the CPU time of a process that runs a statement."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", statement], check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help="processes for each import")
    rounds = parser.parse_args().rounds
    names = ("strands-agents", "motor", "pymongo")
    print(", ".join(f"{name} {version(name)}" for name in names), f"| Python {sys.version.split()[0]}")
    found: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    with tempfile.TemporaryDirectory() as compiled:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for number in range(rounds + 1):
            for name in rotated(list(STATEMENTS), number):
                taken = seconds(STATEMENTS[name], environment)
                if number:  # the first round compiles
                    found[name].append(taken)
    least = {name: 1000 * min(taken) for name, taken in found.items()}
    for name, taken_ms in least.items():
        print(f"{name:34}{taken_ms:6.0f} ms  {taken_ms / least[FLOOR]:.2f} x")
    print(aims_table([Aim(PACKAGE, least[PACKAGE] / least[FLOOR], 1.2)]))


if __name__ == "__main__":
    main()
