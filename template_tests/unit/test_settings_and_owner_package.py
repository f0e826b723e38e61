"""Settings, contracts and the door to the owner's package say clearly what is wrong."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import pytest

import mlservice
from mlservice import errors
from mlservice.contracts import Contract
from mlservice.errors import ContractError, MlserviceError, SettingsError
from mlservice.settings import load_settings
from template_tests.support.toy_service import Toy

MINIMUM = '[service]\nname = "a"\npackage = "a"\nowner = "a@b.de"\n'


def write(folder: Path, text: str) -> Path:
    (folder / "service.toml").write_text(text, "utf-8")
    return folder


def test_what_is_not_set_has_a_default_and_paths_belong_to_the_file(tmp_path: Path) -> None:
    inner = tmp_path / "deep" / "deeper"
    inner.mkdir(parents=True)
    settings = load_settings(write(tmp_path, MINIMUM) and inner, {})
    assert settings.artifact_root == (tmp_path / ".mlservice" / "artifacts").as_uri()
    assert settings.gateway.port == 8000


def test_the_environment_overrides_single_settings(tmp_path: Path) -> None:
    environ = {"MLSERVICE_GATEWAY__PORT": "9000", "MLSERVICE_ARTIFACTS__ROOT": "s3://b/x/"}
    settings = load_settings(write(tmp_path, MINIMUM), environ)
    assert (settings.gateway.port, settings.artifact_root) == (9000, "s3://b/x")


def test_all_faults_are_listed_at_once_with_field_value_and_place(tmp_path: Path) -> None:
    text = MINIMUM + '[gateway]\nport = 99999\ndeadlin_ms = 5\n[pipeline]\nretrain_every = "year"\n'
    environ = {"MLSERVICE_WORKER__PORT": "many"}
    with pytest.raises(SettingsError) as refused:
        load_settings(write(tmp_path, text), environ)
    said = str(refused.value)
    for words in ("gateway.port = 99999", "gateway.deadlin_ms = 5", "no such setting", "'year'"):
        assert words in said
    assert "worker.port = 'many' (from MLSERVICE_WORKER__PORT)" in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = ", "not valid TOML"),
        ("", "service: is missing"),
        ("gateway = 3\n" + MINIMUM, "gateway = 3"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=r"service\.toml") as refused:
        load_settings(write(tmp_path, text), {})
    assert words in str(refused.value)


def test_a_missing_file_is_said_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="MLSERVICE_CONFIG"):
        load_settings(tmp_path, {})
    with pytest.raises(SettingsError, match="there is no such file"):
        load_settings(tmp_path, {"MLSERVICE_CONFIG": "/no/where.toml"})


@pytest.mark.parametrize("text", ["{", "[]", '{"type": "objekt"}', '{"properties": 3}'])
def test_a_contract_that_is_no_schema_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "request.schema.json"
    file.write_text(text, "utf-8")
    with pytest.raises(ContractError, match=r"request\.schema\.json"):
        Contract.load(file)


DAMAGES = [
    ("features.py", None, ["src/toy/features.py is missing"]),
    ("features.py", 'FEATURES = "x"\n', ["FEATURES", "tuple of names"]),
    ("features.py", "", ["src/toy/features.py has no 'FEATURES'", "add it"]),
    ("features.py", 'FEATURES = ("a", "a")\n', ["is repeated"]),
    ("features.py", 'FEATURES = ("a",)\nfeatures = 3\n', ["features is not a function"]),
    ("prediction.py", "", ["src/toy/prediction.py has no 'respond'"]),
]


@pytest.mark.parametrize(("name", "text", "words"), DAMAGES)
def test_what_the_owners_package_lacks_is_said_with_the_line_to_add(
    toy: Toy, name: str, text: str | None, words: list[str]
) -> None:
    file = toy.folder / "src" / "toy" / name
    file.unlink() if text is None else file.write_text(text, "utf-8")
    result = toy.run("serve", "gateway")
    assert result.returncode == 2
    assert all(word in result.stderr for word in words), result.stderr
    assert "Traceback" not in result.stderr


def test_a_package_that_is_not_installed_is_named(toy: Toy) -> None:
    result = toy.run("serve", "gateway", MLSERVICE_SERVICE__PACKAGE="no_such_package")
    assert result.returncode == 2
    assert "make setup" in result.stderr


def test_the_published_names_are_there_and_are_all() -> None:
    assert sorted(mlservice.__all__) == sorted(mlservice._MODULES)
    for name in mlservice.__all__:
        assert getattr(mlservice, name)
    with pytest.raises(AttributeError, match="no_such_name"):
        mlservice.no_such_name  # noqa: B018  # asking is the test


def test_the_gateway_loads_neither_luigi_nor_a_framework() -> None:
    """Each side opens only its own part of the owner's package."""
    code = (
        "import sys, mlservice.gateway.server\n"
        "print([n for n in ('luigi', 'lightgbm', 'polars', 'obstore') if n in sys.modules])"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    environ = {"PYTHONPATH": str(Path(mlservice.__file__).parent.parent)}
    result = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def platform_modules() -> list[ModuleType]:
    """Every module of the platform, imported."""
    found = pkgutil.walk_packages(mlservice.__path__, "mlservice.")
    return [importlib.import_module(m.name) for m in found if not m.name.endswith("__main__")]


Kind = TypeVar("Kind", bound=Exception)


def exceptions_below(base: type[Kind]) -> Iterator[type[Kind]]:
    for error in base.__subclasses__():
        yield error
        yield from exceptions_below(error)


def test_every_error_stands_in_the_tree_that_is_drawn() -> None:
    modules = platform_modules()
    drawn = (errors.__doc__ or "").splitlines()
    found: list[type[MlserviceError]] = [MlserviceError, *exceptions_below(MlserviceError)]
    for error in found:
        assert error.__module__ == errors.__name__, f"move {error.__name__} to errors.py"
        line = next(line for line in drawn if f" {error.__name__} " in f" {line} ")
        assert str(error.exit_code) in line.split()
    assert errors.MlserviceError.exit_code == 1
    assert len(modules) > 150, "all modules were looked through"


def test_an_exception_outside_of_the_tree_never_leaves_its_package() -> None:
    modules = platform_modules()
    for error in set(exceptions_below(Exception)):
        package = ".".join(error.__module__.split(".")[:2])
        if package == errors.__name__ or not package.startswith("mlservice."):
            continue
        users = {m.__name__ for m in modules if vars(m).get(error.__name__) is error}
        outside = {name for name in users if not f"{name}.".startswith(f"{package}.")}
        assert not outside, f"{error.__name__} is raised to {outside}: move it to errors.py"
