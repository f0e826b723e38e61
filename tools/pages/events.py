"""The page on events, from their schemas in src/mlservice/events/schemas."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.pages.tables import table

INTRODUCTION = """# Events

Why did a user get this response, and was it worth anything? Metrics cannot say, because they forget
the single request. Events keep it: one JSON line for each prediction, exposure and reward, in files
below `[events] folder`. As an example, the requests that each version answered:

```sh
cat .mlservice/events/*.jsonl | jq -r 'select(.event == "prediction") | .version' | sort | uniq -c
```

Readers ignore fields that they do not know: a later version may add some. A change that would break
readers gets a new schema, with a greater number in its file name.

Made from `src/mlservice/events/schemas/`.
"""


def events_page(folder: Path) -> str:
    """The page on the events whose schemas lie in ``folder``."""
    pages = [INTRODUCTION]
    for path in sorted(folder.glob("*.schema.json")):
        schema = json.loads(path.read_text("utf-8"))
        name = path.name.removesuffix(".schema.json")
        fields = table(("field", "type", "required", "meaning"), _rows(schema))
        pages.append(f"## {name}\n\n{schema['title']}.\n\n{fields}")
    return "\n".join(pages)


def _rows(schema: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    for name, field in schema["properties"].items():
        required = "yes" if name in schema["required"] else "no"
        yield f"`{name}`", _type(field), required, field.get("description", "")


def _type(field: dict[str, Any]) -> str:
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return " or ".join(f"`{json.dumps(choice)}`" for choice in field["enum"])
    kinds = field.get("type", "any")
    words = " or ".join(kinds) if isinstance(kinds, list) else kinds
    return f"{words} ({field['format']})" if "format" in field else words
