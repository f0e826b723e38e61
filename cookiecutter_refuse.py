"""Lets cookiecutter refuse an answer before it writes anything, with one plain message.

cookiecutter has no validators, and its hooks run after it has made a folder, which a slug
such as ``../x`` would put outside the output folder. The rules themselves stand in
copier.yml; cookiecutter.json, made from it, passes their messages to the filter of this file.
"""

from cookiecutter.exceptions import FailedHookException
from jinja2 import Environment
from jinja2.ext import Extension


class Refuse(Extension):
    """Adds the filter ``refuse``, which stops cookiecutter where its input is not empty."""

    def __init__(self, environment: Environment) -> None:
        """Register the filter."""
        super().__init__(environment)
        environment.filters["refuse"] = _refuse


def _refuse(message: str) -> str:
    if message.strip():
        raise FailedHookException(message.strip())
    return ""
