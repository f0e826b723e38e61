"""The double's modules and the parser that it borrows: what they may import."""

from __future__ import annotations

import grimp
import pytest


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    """The imports of the double and the platform, also those that only types need."""
    return grimp.build_graph("nomad_double", "mlservice", cache_dir=None)


def test_no_module_of_the_double_imports_itself_by_way_of_others(
    imports: grimp.ImportGraph,
) -> None:
    pairs = [
        (importer, imported)
        for importer in imports.find_descendants("nomad_double")
        for imported in imports.find_modules_directly_imported_by(importer)
    ]
    cycles = {pair for pair in pairs if imports.find_shortest_chain(pair[1], pair[0])}
    assert cycles == set()


def test_the_double_imports_nothing_of_a_service_but_its_parser(
    imports: grimp.ImportGraph,
) -> None:
    imported = {
        name
        for module in imports.find_descendants("nomad_double") | {"nomad_double"}
        for name in imports.find_modules_directly_imported_by(module)
    }
    allowed = ("nomad_double", "mlservice.jobspec")
    assert {name for name in imported if not name.startswith(allowed)} == set()


def test_the_parser_imports_nothing_of_the_platform_but_its_errors(
    imports: grimp.ImportGraph,
) -> None:
    imported = {
        name
        for module in imports.find_descendants("mlservice.jobspec")
        for name in imports.find_modules_directly_imported_by(module)
    }
    others = {name for name in imported if not name.startswith("mlservice.jobspec")}
    assert others <= {"mlservice.errors"}


def test_nothing_in_a_service_imports_the_double(imports: grimp.ImportGraph) -> None:
    assert imports.find_downstream_modules("nomad_double", as_package=True) == set()
