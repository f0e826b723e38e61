"""Holds the platform's imports to the contracts that every service gets, where the platform lies.

The contracts stand in the service's pyproject.toml alone. Those that name the owner's package are
left out here, because there is none before a service is rendered.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SERVICE = ROOT / "<<cookiecutter.service_slug>>"
CONTRACT = "[[tool.importlinter.contracts]]\n"
OWNER = "<<cookiecutter.__package_name>>"


def check(source: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Check the package ``mlservice`` below ``source``; the configuration goes to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "imports.toml"
    config.write_text(contracts((SERVICE / "pyproject.toml").read_text("utf-8")), "utf-8")
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    return subprocess.run(
        [*command, str(config)],
        env={"PYTHONPATH": str(source), "COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=False,
    )


def contracts(pyproject: str) -> str:
    """The part of a service's pyproject.toml that concerns import-linter and the platform."""
    _, *found = pyproject.split(CONTRACT)
    bodies = [text.partition("\n[tool.")[0] for text in found]
    kept = [CONTRACT + body for body in bodies if OWNER not in body]
    return "\n".join(['[tool.importlinter]\nroot_packages = ["mlservice"]\n', *kept])


if __name__ == "__main__":
    result = check(SERVICE / "src", ROOT / ".cache")
    if result.returncode:
        print(result.stdout + result.stderr)
    sys.exit(result.returncode)
