"""The page on settings, from the model that validates them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from mlservice.settings import PREFIX, Section, Settings
from tools.pages.tables import table

INTRODUCTION = f"""# Settings

`service.toml` says what this service is. For one process, an environment variable overrides any
setting: `{PREFIX}GATEWAY__PORT=8080` replaces `port = 8080` under `[gateway]`, and `{PREFIX}CONFIG`
names another file. An unknown or invalid setting is refused by name when a command starts. An
example:

```toml
[gateway]
port = 8080
deadline_ms = 500
```

Made from `src/mlservice/settings.py`.
"""


def settings_page() -> str:
    """The page on settings: a table for each section."""
    pages = [INTRODUCTION]
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            pages.append(
                f"## [{name}]\n\n{table(('setting', 'default', 'meaning'), _rows(section))}"
            )
    return "\n".join(pages)


def _rows(section: type[Section]) -> Iterator[tuple[str, str, str]]:
    for name, field in section.model_fields.items():
        yield f"`{name}`", _default(field), f"{field.description}{_choices(field.annotation)}"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "(none: it must be given)"
    return f"`{json.dumps(field.default)}`"


def _choices(kind: Any) -> str:
    if get_origin(kind) is not Literal:
        return ""
    return ": " + " or ".join(f"`{choice}`" for choice in get_args(kind))
