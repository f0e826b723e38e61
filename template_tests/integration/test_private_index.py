"""`make setup` and `make lock` obey pip's configuration: a private index that asks for a password.

Nothing here may come from any other index, so the index holds uv too.
"""

from __future__ import annotations

import os
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from template_tests.support.package_index import PackageIndex, package_index
from template_tests.support.toy_service import SERVICE

SCRIPT = SERVICE / "ci" / "uv.py"
NOBODY = "http://127.0.0.1:9/simple"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PackageIndex]:
    with package_index(tmp_path_factory.mktemp("index") / "wheels") as running:
        running.add_uv()
        running.add("apple")
        running.add("pear")
        yield running


@pytest.fixture(scope="module")
def bare(index: PackageIndex, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose venv holds pip and uv, installed from nothing by the user's pip.conf."""
    folder = tmp_path_factory.mktemp("bare")
    environ = unconfigured(folder)
    place = folder / "home" / ".config" / "pip" / "pip.conf"
    place.parent.mkdir(parents=True)
    place.write_text(f"[global]\nindex-url = {index.url()}\n", "utf-8")
    result = install(folder, only(index, "uv"), environ)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture
def prepared(bare: Path, tmp_path: Path) -> Path:
    """A copy of that venv, in which nothing is configured."""
    shutil.copytree(bare / "venv", tmp_path / "venv", symlinks=True, copy_function=os.link)
    (tmp_path / "venv" / ".ready").unlink()
    (tmp_path / "venv" / ".ready").touch()
    return tmp_path


@pytest.fixture
def plain(tmp_path: Path) -> dict[str, str]:
    return unconfigured(tmp_path)


def unconfigured(folder: Path) -> dict[str, str]:
    """An environment in which neither pip nor uv is configured, with empty caches."""
    kept = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
    return {
        **kept,
        "HOME": str(folder / "home"),
        "PIP_CACHE_DIR": str(folder / "pip"),
        "UV_CACHE_DIR": str(folder / "uv"),
        "UV_HTTP_RETRIES": "0",
        "PIP_RETRIES": "0",
    }


def only(index: PackageIndex, *names: str) -> str:
    """The lines of a lock file for some packages."""
    pins = re.findall(r"[^\n]+\n    --hash[^\n]+\n", index.pins())
    return "".join(pin for pin in pins if pin.split("==")[0] in names)


def install(folder: Path, lock: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    (folder / "some.lock").write_text(lock, "utf-8")
    return uv(folder, environ, "install", "venv", "some.lock")


def uv(folder: Path, environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def has(folder: Path, *modules: str) -> bool:
    code = "".join(f"import {module}\n" for module in modules)
    command = [str(folder / "venv" / "bin" / "python"), "-c", code]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def pip_conf(folder: Path, environ: dict[str, str], text: str) -> dict[str, str]:
    """The environment with a pip.conf that PIP_CONFIG_FILE names."""
    (folder / "pip.conf").write_text(text, "utf-8")
    return {**environ, "PIP_CONFIG_FILE": str(folder / "pip.conf")}


def test_uv_itself_comes_from_the_index_that_pip_is_told_of(
    index: PackageIndex, bare: Path
) -> None:
    assert (bare / "venv" / "bin" / "uv").exists()
    assert any("/files/uv-" in path for path in index.served)


@pytest.mark.parametrize("way", ["PIP_INDEX_URL", "PIP_CONFIG_FILE", "the user's pip.conf"])
def test_everything_comes_from_the_index_that_pip_is_told_of(
    index: PackageIndex, prepared: Path, plain: dict[str, str], way: str
) -> None:
    conf = f"[global]\nindex-url = {index.url()}\n"
    environ = plain
    if way == "PIP_INDEX_URL":
        environ = {**plain, "PIP_INDEX_URL": index.url()}
    elif way == "PIP_CONFIG_FILE":
        environ = pip_conf(prepared, plain, conf)
    else:
        place = prepared / "home" / ".config" / "pip" / "pip.conf"
        place.parent.mkdir(parents=True)
        place.write_text(conf, "utf-8")
    before = len(index.served)
    result = install(prepared, index.pins(), environ)
    assert result.returncode == 0, result.stderr
    assert has(prepared, "apple", "pear")
    fetched = {path.split("/")[-1].split("-")[0] for path in index.served[before:]}
    assert {"apple", "pear"} <= fetched


def test_a_second_installation_fetches_only_what_changed_and_takes_away_what_is_gone(
    index: PackageIndex, prepared: Path, plain: dict[str, str]
) -> None:
    environ = {**plain, "PIP_INDEX_URL": index.url()}
    pins, without_pear = index.pins(), only(index, "apple", "uv")
    assert install(prepared, without_pear, environ).returncode == 0
    assert not has(prepared, "pear")
    mark = prepared / "venv" / "mark"
    mark.touch()
    before = len(index.served)
    assert install(prepared, pins, environ).returncode == 0
    assert has(prepared, "apple", "pear", "pip")
    assert [
        path for path in index.served[before:] if "/files/" in path and "pear" not in path
    ] == []
    assert mark.exists()
    assert install(prepared, without_pear, environ).returncode == 0
    assert not has(prepared, "pear")


def test_an_installation_that_broke_off_begins_from_nothing(
    index: PackageIndex, prepared: Path, plain: dict[str, str]
) -> None:
    environ = {**plain, "PIP_INDEX_URL": index.url()}
    torn = index.pins().replace("apple==1.0", "apple==2.0")
    assert install(prepared, torn, environ).returncode != 0
    mark = prepared / "venv" / "mark"
    mark.touch()
    assert install(prepared, index.pins(), environ).returncode == 0
    assert not mark.exists()


def test_without_the_password_nothing_is_installed(
    index: PackageIndex, prepared: Path, plain: dict[str, str]
) -> None:
    before = len(index.served)
    environ = {**plain, "PIP_INDEX_URL": index.url(with_password=False), "PIP_NO_INPUT": "1"}
    assert install(prepared, index.pins(), environ).returncode != 0
    assert index.served[before:] == []


def test_a_package_with_another_hash_is_refused(
    index: PackageIndex, prepared: Path, plain: dict[str, str]
) -> None:
    lines = index.pins().splitlines(keepends=True)
    place = next(n for n, line in enumerate(lines) if line.startswith("apple==")) + 1
    lines[place] = f"    --hash=sha256:{'0' * 64}\n"
    result = install(prepared, "".join(lines), {**plain, "PIP_INDEX_URL": index.url()})
    assert result.returncode != 0
    assert "apple" in result.stderr
    assert not has(prepared, "apple")


def test_an_extra_index_has_what_the_first_one_lacks(
    index: PackageIndex, prepared: Path, plain: dict[str, str]
) -> None:
    with package_index(prepared / "extra") as extra:
        extra.add("plum")
        extra.add("apple", "0.5")  # an older one, which must not hide the right one
        plum = extra.pins().split("plum==")[1]
        conf = (
            f"[global]\nindex-url = {index.url()}\n[install]\nextra-index-url =\n  {extra.url()}\n"
        )
        lock = f"{index.pins()}plum=={plum}"
        result = install(prepared, lock, pip_conf(prepared, plain, conf))
    assert result.returncode == 0, result.stderr
    assert has(prepared, "apple", "pear", "plum")


def test_a_certificate_of_the_organisations_own_is_trusted_by_both(
    index: PackageIndex, prepared: Path, plain: dict[str, str]
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(prepared / "ca.pem"))
    with package_index(prepared / "secure", context) as secure:
        secure.add("apple")
        for wheel in index.folder.glob("uv-*.whl"):
            (secure.folder / wheel.name).symlink_to(wheel)
        known = f"[global]\nindex-url = {secure.url()}\ncert = {prepared / 'ca.pem'}\n"
        trusted = f"[global]\nindex-url = {secure.url()}\ntrusted-host = {secure.address[8:]}\n"
        unknown = f"[global]\nindex-url = {secure.url()}\n"
        for conf, works in ((known, True), (trusted, True), (unknown, False)):
            environ = {**pip_conf(prepared, plain, conf), "UV_NO_CACHE": "1"}
            result = install(prepared, secure.pins(), environ)
            assert (result.returncode == 0) == works, result.stderr
            assert has(prepared, "apple") == works
            if works:
                assert install(prepared, only(index, "uv"), environ).returncode == 0
                assert not has(prepared, "apple")


def test_a_lock_is_resolved_from_that_index_alone(
    index: PackageIndex, prepared: Path, plain: dict[str, str]
) -> None:
    environ = {**plain, "PIP_INDEX_URL": index.url()}
    (prepared / "some.in").write_text("pear\n", "utf-8")
    resolve = ("run", "venv", "pip", "compile", "--quiet", "--generate-hashes", "some.in")
    result = uv(prepared, environ, *resolve)
    assert result.returncode == 0, result.stderr
    assert "pear==1.0" in result.stdout
    assert "127.0.0.1" not in result.stdout
    away = uv(prepared, {**plain, "PIP_INDEX_URL": NOBODY}, *resolve, "--no-cache")
    assert away.returncode != 0
    assert "pear==" not in away.stdout


def test_a_setting_of_uvs_own_is_left_as_it_is(
    index: PackageIndex, prepared: Path, plain: dict[str, str]
) -> None:
    resolve = ("run", "venv", "pip", "compile", "--quiet", "--no-cache", "some.in")
    (prepared / "some.in").write_text("pear\n", "utf-8")
    wrong = {**plain, "PIP_INDEX_URL": NOBODY, "UV_DEFAULT_INDEX": index.url()}
    assert uv(prepared, wrong, *resolve).returncode == 0
