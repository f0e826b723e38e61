"""Makes the service's folder a git repository with a first commit on master and develop.

Needs Python and git alone: it runs before anything is installed, from cookiecutter's hook or
by `make init`. A folder that is a repository already is left as it is.
"""

import os
import subprocess
import sys
from pathlib import Path

FALLBACK = {"user.name": "ml-service", "user.email": "ml-service@localhost"}


def main() -> int:
    """Make the repository; returns the exit code."""
    if Path(".git").exists():
        print("this folder is a git repository already: nothing to do")
        return 0
    try:
        _git("init", "--quiet", "--initial-branch=master")
        _git("add", "--all")
        _git(*_identity(), "commit", "--quiet", "--message", "chore: start from the template")
        _git("checkout", "--quiet", "-b", "develop")
    except (OSError, subprocess.CalledProcessError) as error:
        print(
            f"no git repository was made: {error}: run `make init` once git works", file=sys.stderr
        )
        return 1
    print("made a git repository with the branches master and develop")
    return 0


def _git(*arguments: str) -> None:
    """Run git here, whatever repository the caller is in and whatever hooks and signing it has."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    plain = ("-c", "core.hooksPath=/dev/null", "-c", "commit.gpgsign=false")
    subprocess.run(("git", *plain, *arguments), env=environment, check=True)


def _identity() -> list[str]:
    """Options that name a committer where git has none configured."""
    options = []
    for key, value in FALLBACK.items():
        known = subprocess.run(("git", "config", key), capture_output=True, check=False)
        if known.returncode:
            options += ["-c", f"{key}={value}"]
    return options


if __name__ == "__main__":
    sys.exit(main())
