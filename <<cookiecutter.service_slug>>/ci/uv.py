"""Runs uv with the pip configuration of your organisation, which uv itself does not read.

    python ci/uv.py install .venv requirements/dev.lock   make .venv hold what the lock pins
    python ci/uv.py run .venv pip compile ...             run the uv of .venv

pip is asked for its configuration (files and PIP_* variables alike), and uv is told the same by
UV_* variables. A UV_* variable that is set already stays as it is. `install` needs nothing but
Python: pip installs the uv that the lock pins, and uv installs the rest.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

OLDEST, TOO_NEW = (3, 11), (3, 14)
SECTIONS = ("global", "install", ":env:")  # as pip ranks them: the last one wins
READY = ".ready"


def main() -> int:
    """Read the command line and act; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, add_help=False)
    verbs = parser.add_subparsers(dest="verb", required=True)
    install_verb = verbs.add_parser("install")
    install_verb.add_argument("venv", type=Path)
    install_verb.add_argument("lock", type=Path)
    install_verb.add_argument("--editable", type=Path, help="a project to install as well")
    run_verb = verbs.add_parser("run")
    run_verb.add_argument("venv", type=Path)
    run_verb.add_argument("arguments", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    try:
        if given.verb == "install":
            install(given.venv, given.lock, given.editable)
        else:
            _call(_bin(given.venv) / "uv", *given.arguments, environ=uv_environ(given.venv))
    except subprocess.CalledProcessError as error:
        return int(error.returncode)
    return 0


def install(venv: Path, lock: Path, editable: Path | None) -> None:
    """Make ``venv`` hold exactly what ``lock`` pins, and the project in ``editable``.

    What is there already stays. A first installation that broke off begins from nothing.
    """
    _check_python()
    python = _bin(venv) / "python"
    finished = venv / READY
    if not (finished.exists() and _same_python(python)):
        _call(sys.executable, "-m", "venv", "--clear", venv)
    finished.unlink(missing_ok=True)
    _install_uv(python, lock)
    uv, environ = _bin(venv) / "uv", uv_environ(venv)
    # Hashes say what a package holds, so it does not matter which index has it.
    environ.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    sync = ("pip", "sync", "--quiet", "--require-hashes", "--python", python, lock)
    _call(uv, *sync, environ=environ)
    if editable:
        plain = ("--quiet", "--no-deps", "--no-build-isolation", "--python", python)
        _call(uv, "pip", "install", *plain, "--editable", editable, environ=environ)
    finished.touch()


def uv_environ(venv: Path) -> dict[str, str]:
    """The environment for uv: ours, and what pip is configured to do."""
    pip = pip_options(_bin(venv) / "python")
    told = {
        "UV_DEFAULT_INDEX": pip.get("index-url"),
        "UV_INDEX": _words(pip.get("extra-index-url")),
        "UV_NO_INDEX": "true" if _is_yes(pip.get("no-index", "")) else None,
        "UV_FIND_LINKS": ",".join(filter(_is_there, pip.get("find-links", "").split())),
        "UV_INSECURE_HOST": _words(pip.get("trusted-host")),
        "UV_HTTP_TIMEOUT": pip.get("timeout") or pip.get("default-timeout"),
        "UV_HTTP_RETRIES": pip.get("retries"),
        "UV_KEYRING_PROVIDER": _keyring(pip.get("keyring-provider")),
        "SSL_CERT_FILE": pip.get("cert") or _request_certificates(),
        "SSL_CLIENT_CERT": pip.get("client-cert"),
        "HTTP_PROXY": pip.get("proxy"),
        "HTTPS_PROXY": pip.get("proxy"),
    }
    ours = {name: value for name, value in os.environ.items() if name.startswith("UV_") and value}
    return {**os.environ, **{name: value for name, value in told.items() if value}, **ours}


def pip_options(python: Path) -> dict[str, str]:
    """What pip is configured to do when it installs, by the names of its options.

    `pip config list` knows all files, PIP_CONFIG_FILE and PIP_* variables; `pip config get` does
    not.
    """
    command = (python, "-m", "pip", "config", "list")
    listed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    found: dict[str, str] = {}
    for section in SECTIONS:
        pattern = rf"^{re.escape(section)}\.([\w-]+)=(.+)$"
        for name, value in re.findall(pattern, listed, re.MULTILINE):
            found[name] = str(ast.literal_eval(value))
    return found


def _install_uv(python: Path, lock: Path) -> None:
    """Install the uv that the lock pins, by pip, unless it is there."""
    pinned = re.search(r"^uv==(\S+)(?:[^\n]*\\\n)*[^\n]*$", lock.read_text("utf-8"), re.MULTILINE)
    if pinned is None:
        raise SystemExit(f"{lock} has no uv: add it to the requirements, and run `make lock`")
    uv = python.with_name("uv")
    if uv.exists():
        shown = subprocess.run((uv, "--version"), capture_output=True, text=True, check=False)
        if shown.stdout.split()[1:2] == [pinned[1]]:
            return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "uv.txt"
        file.write_text(pinned[0], "utf-8")
        plain = ("--quiet", "--disable-pip-version-check", "--require-hashes", "--no-deps")
        _call(python, "-m", "pip", "install", *plain, "--requirement", file)


def _check_python() -> None:
    if not OLDEST <= sys.version_info[:2] < TOO_NEW:
        version = ".".join(map(str, sys.version_info[:2]))
        raise SystemExit(
            f"PYTHON={sys.executable} is Python {version}: 3.11, 3.12 or 3.13 is needed, "
            "name one by make PYTHON=python3.12"
        )


def _same_python(python: Path) -> bool:
    """Whether a venv's Python runs, has pip, and has our version."""
    code = "import pip, sys; print(*sys.version_info[:2])"
    try:
        shown = subprocess.run((python, "-c", code), capture_output=True, text=True, check=False)
    except OSError:
        return False
    return shown.stdout.split() == [str(part) for part in sys.version_info[:2]]


def _bin(venv: Path) -> Path:
    return venv.absolute() / "bin"


def _words(value: str | None) -> str | None:
    return " ".join(value.split()) if value else None


def _is_yes(value: str) -> bool:
    return value.lower() in {"1", "true", "yes", "on", "y", "t"}


def _is_there(place: str) -> bool:
    """Whether uv can look for packages in a place; pip passes over a folder that is missing."""
    return "://" in place or Path(place).exists()


def _keyring(provider: str | None) -> str | None:
    """Uv can ask for a password by the command `keyring` alone."""
    return "subprocess" if provider in {"import", "subprocess"} else None


def _request_certificates() -> str | None:
    """What pip trusts if it has no `cert` and there is no SSL_CERT_FILE, which uv reads itself."""
    if os.environ.get("SSL_CERT_FILE"):
        return None
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")


def _call(*command: str | Path, environ: dict[str, str] | None = None) -> None:
    subprocess.run(command, env=environ, check=True)


if __name__ == "__main__":
    sys.exit(main())
