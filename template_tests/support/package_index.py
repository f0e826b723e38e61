"""A private package index on loopback: PEP 503 pages over a folder of wheels, with a password."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import ssl
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import distribution
from pathlib import Path
from urllib.parse import quote, unquote

USER, PASSWORD = "reader", "pass/word"
_METADATA = "Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"


@dataclass
class PackageIndex:
    """An index that serves the wheels in ``folder`` to who knows the password."""

    folder: Path
    address: str = ""
    served: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def url(self, *, with_password: bool = True) -> str:
        """The address to configure, with the password in it or without."""
        scheme, _, place = self.address.partition("://")
        key = f"{USER}:{quote(PASSWORD, safe='')}@" if with_password else ""
        return f"{scheme}://{key}{place}/simple"

    def page(self, path: str) -> bytes | None:
        """What is found under a path."""
        name = unquote(path).strip("/").removeprefix("simple").strip("/")
        if name.startswith("files/"):
            return (self.folder / name.removeprefix("files/")).read_bytes()
        wheels = [file.name for file in self.folder.glob("*.whl")]
        found = [w for w in wheels if w.split("-")[0].replace("_", "-").lower() == name]
        links = [f'<a href="/files/{wheel}">{wheel}</a>' for wheel in found]
        return "".join(["<!DOCTYPE html><html><body>", *links, "</body></html>"]).encode()

    def add(self, name: str, version: str = "1.0") -> None:
        """Build a wheel of one module."""
        info = f"{name}-{version}.dist-info"
        files = {
            f"{name}.py": f"VERSION = {version!r}\n".encode(),
            f"{info}/METADATA": _METADATA.format(name=name, version=version).encode(),
            f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in files).encode()
        with zipfile.ZipFile(self.folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
            for file, content in files.items():
                wheel.writestr(file, content)

    def add_uv(self) -> None:
        """Pack the uv of this environment into a wheel again."""
        found = distribution("uv")
        tag = next(
            line.removeprefix("Tag: ")
            for line in (found.read_text("WHEEL") or "").splitlines()
            if line.startswith("Tag: ")
        )
        commands = f"uv-{found.version}.data/scripts"
        with zipfile.ZipFile(self.folder / f"uv-{found.version}-{tag}.whl", "w") as wheel:
            names = []
            for file in found.files or []:
                place = Path(str(file.locate()))
                inside = not str(file).startswith("..")
                name = str(file) if inside else f"{commands}/{place.name}"
                if place.suffix == ".pyc" or place.name in {"RECORD", "INSTALLER", "REQUESTED"}:
                    continue
                wheel.write(place, name)
                names.append(name)
            record = f"uv-{found.version}.dist-info/RECORD"
            wheel.writestr(record, "".join(f"{name},,\n" for name in [*names, record]))

    def pins(self) -> str:
        """The lines of a lock file for all that is served."""
        return "".join(map(_pin, sorted(self.folder.glob("*.whl"))))


def _pin(wheel: Path) -> str:
    name, version, _ = wheel.name.split("-", 2)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return f"{name}=={version} \\\n    --hash=sha256:{digest}\n"


@contextlib.contextmanager
def package_index(folder: Path, tls: ssl.SSLContext | None = None) -> Iterator[PackageIndex]:
    """A running index without packages."""
    folder.mkdir(parents=True)
    index = PackageIndex(folder)
    token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.headers.get("Authorization") != f"Basic {token}":
                index.refused.append(self.path)
                self._answer(401, b"who are you?")
                return
            index.served.append(self.path)
            page = index.page(self.path)
            self._answer(200 if page is not None else 404, page or b"")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="packages"')
            kind = "application/octet-stream" if "/files/" in self.path else "text/html"
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815  # http.server's name

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        scheme = "https" if tls else "http"
        index.address = f"{scheme}://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield index
        finally:
            server.shutdown()
            thread.join()
