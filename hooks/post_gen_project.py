"""Finishes what cookiecutter rendered: the answers that copier needs, and a git repository.

Runs under cookiecutter's own Python in the new folder. What it does beyond rendering, a copier
user does by `make init`.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

CONTEXT: dict[str, Any] = json.loads(r"""<< cookiecutter | jsonify >>""")
ANSWERS = Path(".copier-answers.yml")


def main() -> int:
    """Write the answers, then let the service's own script make the repository."""
    for folder in Path().rglob("__pycache__"):
        shutil.rmtree(folder)
    template = _absolute(CONTEXT["_template"])
    commit = _commit(_absolute(CONTEXT["_repo_dir"]))
    answers = {key: value for key, value in CONTEXT.items() if not key.startswith("_")}
    if commit:
        answers["_commit"] = commit
    else:
        print(
            f"warning: {template} is not a git repository that can be read, so its version is "
            "unknown and `make upgrade` will not work: start from a git address instead",
            file=sys.stderr,
        )
    answers["_src_path"] = template
    text = yaml.safe_dump(answers, indent=4, allow_unicode=True, default_flow_style=False)
    with ANSWERS.open("a", encoding="utf-8") as file:
        file.write(text)
    code = subprocess.run([sys.executable, "ci/init_repo.py"], check=False).returncode
    if code == 0 and _wants_registering():
        _register()
    return code


def _wants_registering() -> bool:
    answer = CONTEXT["register_on_create"]
    named = all(os.environ.get(name) for name in ("NOMAD_ADDR", "CONSUL_HTTP_ADDR"))
    return answer == "yes" or (answer == "auto" and named)


def _register() -> None:
    """Do what a copier user does by hand; the finished repository stays whatever comes of it."""
    folder = shlex.quote(str(Path.cwd()))
    environment = {"PYTHON": sys.executable, **os.environ}
    if subprocess.run(["make", "register"], env=environment, check=False).returncode:
        print(
            "The service is complete, but not all of it is registered on the cluster: see above. "
            f"Repeat it with: make -C {folder} register",
            file=sys.stderr,
        )


def _absolute(path: str) -> str:
    """A template in a folder by its full path: copier could not find it again by another."""
    caller = Path(os.environ.get("PWD", "."))
    found = caller / Path(path).expanduser()
    return str(found.resolve()) if found.exists() else path


def _commit(folder: str) -> str:
    """The template's version as copier writes it: its tag, or the commit."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ("git", "-C", folder, "describe", "--tags", "--always")
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return result.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
