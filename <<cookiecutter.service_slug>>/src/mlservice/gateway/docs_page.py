"""Serves GET /docs: Swagger UI on the OpenAPI document, without requests to other hosts.

FastAPI's own page loads its files from a CDN. Here they come from the package fastapi-swagger,
which ships the official Swagger UI (1.9 MB, no further dependencies). The page's security policy
makes the browser refuse all other hosts. URLs are relative, so the page also works behind a proxy
that adds a prefix.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from html import escape
from importlib.resources import files

from fastapi import FastAPI, HTTPException, Response

DOCS_PATH = "/docs"
_ASSETS = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}
_SCRIPT = """SwaggerUIBundle({
  url: "openapi.json", dom_id: "#page", validatorUrl: null, deepLinking: true,
  defaultModelsExpandDepth: 0, defaultModelExpandDepth: 5, displayRequestDuration: true,
});"""
_POLICY = "; ".join(
    [
        "default-src 'none'",
        f"script-src 'self' 'sha256-{b64encode(sha256(_SCRIPT.encode()).digest()).decode()}'",
        "style-src 'self' 'unsafe-inline'",  # Swagger UI sets styles on its elements
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
_DAY = "max-age=86400"


def add_docs(app: FastAPI, title: str) -> None:
    """Serve the page and its files from ``app``."""
    page = _page(title)

    @app.get(DOCS_PATH, include_in_schema=False)
    async def docs() -> Response:
        return Response(page, media_type="text/html", headers={"content-security-policy": _POLICY})

    @app.get(f"{DOCS_PATH}/{{name}}", include_in_schema=False)
    def asset(name: str) -> Response:
        if name not in _ASSETS:
            raise HTTPException(404)
        content = files("fastapi_swagger.resources").joinpath(name).read_bytes()
        return Response(content, media_type=_ASSETS[name], headers={"cache-control": _DAY})


def _page(title: str) -> str:
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="icon" href="docs/favicon-32x32.png">
</head>
<body>
<div id="page"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script>{_SCRIPT}</script>
</body>
</html>
"""
