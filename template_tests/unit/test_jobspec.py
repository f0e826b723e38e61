"""The parser of jobspecs: the job that a text becomes, and the texts that are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlservice.jobspec import HclError, parse_job
from mlservice.jobspec.durations import format_duration, parse_duration

VERSION = "1.10.5"
NEW = "2.0.5"
OLD = "1.6.10"
SECOND = 1_000_000_000


def job(body: str, before: str = "", variables: str = "", version: str = VERSION) -> dict[str, Any]:
    return parse_job(f'{before}\njob "x" {{\n{body}\n}}\n', variables, version)


def value(expression: str, before: str = "", variables: str = "") -> Any:
    """What an expression comes to where the type is free: in a driver's configuration."""
    text = f'group "g" {{\ntask "t" {{\nconfig {{\nfound = {expression}\n}}\n}}\n}}'
    found = job(text, before, variables)
    return found["TaskGroups"][0]["Tasks"][0]["Config"]["found"]


def words(body: str, before: str = "", variables: str = "", version: str = VERSION) -> str:
    with pytest.raises(HclError) as caught:
        job(body, before, variables, version)
    return str(caught.value)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('"a-${1 + 1}-b"', "a-2-b"),
        ('"${[1, 2]}"', [1, 2]),
        ('"a\\n\\"b\\" \\u00e9"', 'a\n"b" é'),
        ('"$${x} %%{y} 5$ 5%"', "${x} %{y} 5$ 5%"),
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("7 % 3", 1),
        ("6 / 4", 1.5),
        ("4 / 2", 2),
        ("-3 + 1", -2),
        ("!true || 1 <= 2 && 2 > 1", True),
        ('1 == "1"', False),
        ("true == 1", False),
        ('"a" != "b"', True),
        ('true ? "a" : "b"', "a"),
        ("false ? [1] : []", []),
        ('true ? 1 : "x"', "1"),
        ('{ a = 1, "b-c" : 2 }', {"a": 1, "b-c": 2}),
        ('{ ("a${1}") = 2 }', {"a1": 2}),
        ("[1, 2,\n 3,\n]", [1, 2, 3]),
        ("[10, 20][1]", 20),
        ('{ a = { b = 5 } }.a["b"]', 5),
        ("[{ a = 1 }, { a = 2 }][*].a", [1, 2]),
        ("[for i, v in [5, 6] : i + v if v > 5]", [7]),
        ('{ for k, v in { a = "x" } : v => k }', {"x": "a"}),
        ("null", None),
        ('format("%s-%03d-%.1f", "a", 7, 1.25)', "a-007-1.2"),
        ('join(",", ["a", "b"], ["c"])', "a,b,c"),
        ("concat([1], [2])", [1, 2]),
        (
            'jsonencode({ b = [1, true, null], a = "<&>" })',
            '{"a":"\\u003c\\u0026\\u003e","b":[1,true,null]}',
        ),
        ('jsondecode("{\\"a\\": 1.5}").a', 1.5),
        ('lower("A")', "a"),
        ('upper("a")', "A"),
        ('replace("a.b", ".", "-")', "a-b"),
        ('replace("a1", "/[0-9]/", "n")', "an"),
        ("length([1, 2])", 2),
        ('contains(["a"], "a")', True),
        ('coalesce(null, "b")', "b"),
        ('lookup({ a = 1 }, "b", 2)', 2),
        ("merge({ a = 1 }, { a = 2, b = 3 })", {"a": 2, "b": 3}),
        ("keys({ b = 1, a = 2 })", ["a", "b"]),
        ("values({ b = 1, a = 2 })", [2, 1]),
        ("max([1, 5, 2]...)", 5),
        ('try(nothing.at.all.x[5] == 1 ? [][0] : [][1], "safe")', "safe"),
        ('split(",", "a,b")', ["a", "b"]),
        ('sha256("a")', "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"),
        ('trimprefix("v1", "v")', "1"),
        (
            '<<EOT\n  keeps ${1 + 1}\n    {{ key "x" }} ${NOMAD_X}\nEOT\n',
            '  keeps 2\n    {{ key "x" }} ${NOMAD_X}\n',
        ),
        ("<<-EOT\n    a\n      b $${c}\n    EOT\n", "a\n  b ${c}\n"),
        ("[1] # a comment", [1]),
    ],
)
def test_an_expression_comes_to_what_nomad_makes_of_it(expression: str, expected: Any) -> None:
    found = value(expression)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    "text",
    [
        "${NOMAD_TASK_DIR}/call.json",
        "${attr.unique.network.ip-address}:8500",
        "${node.unique.name}",
        "${meta.rack}",
        '${env[\\"HOME\\"]}',
        "${NOMAD_META_a.b}",
    ],
)
def test_what_only_the_node_knows_stays_as_it_is(text: str) -> None:
    quoted = text.replace('\\"', '"')
    assert value(f'"{quoted}"') == quoted


@pytest.mark.parametrize(
    ("declared", "given", "expected"),
    [
        ("type = string", '"a"', "a"),
        ("type = string", "5", "5"),
        ("type = string", "true", "true"),
        ("type = number", '"5"', 5),
        ("type = number", '"1.5"', 1.5),
        ("type = bool", '"true"', True),
        ("type = list(string)", "[1, true]", ["1", "true"]),
        ("type = set(string)", '["a", "a"]', ["a"]),
        ("type = map(string)", "{ a = 1 }", {"a": "1"}),
        (
            "type = object({ a = number, b = list(string) })",
            '{ a = "1", b = [] }',
            {"a": 1, "b": []},
        ),
        ("type = tuple([string, number])", '[1, "2"]', ["1", 2]),
        ("type = map(any)", "{ a = [1] }", {"a": [1]}),
        ("", "[1]", [1]),
    ],
)
def test_a_variable_becomes_its_type(declared: str, given: str, expected: Any) -> None:
    before = f'variable "v" {{\n{declared}\n}}'
    assert value("var.v", before, f"v = {given}\n") == expected
    with_default = f'variable "v" {{\n{declared}\ndefault = {given}\n}}'
    assert value("var.v", with_default) == expected


def test_locals_may_use_variables_and_each_other_in_any_order() -> None:
    before = 'variable "v" {\ndefault = 2\n}\nlocals {\nb = local.a + 1\na = var.v * 10\n}'
    assert value("local.b", before) == 21


@pytest.mark.parametrize(
    ("declared", "given", "expected"),
    [
        (
            "type = string",
            "",
            'Unset variable "v"; A used variable must be set or have a default value; see',
        ),
        (
            "type = string",
            'other = "a"\nv = "b"',
            'Undefined variable; A "other" variable was set but was not found',
        ),
        (
            "type = number",
            'v = "x"',
            "not compatible with the variable's type constraint: a number is required.",
        ),
        ("type = list(string)", 'v = "x"', "list of string required"),
        ("type = object({ a = string })", "v = {}", 'attribute "a" is required'),
        ("type = number\ndefault = [1]", "", "Invalid default value for variable; "),
        ("type = string", "v = var.w", "Variables not allowed; Variables may not be used here."),
        ("type = string", 'v = upper("a")', "Function calls not allowed; "),
        ("type = text", 'v = "a"', 'The keyword "text" is not a valid type specification.'),
        ("kind = string", 'v = "a"', 'An argument named "kind" is not expected here.'),
        ("type = string", 'variable "v" {\n}', "Variable declaration in a .var file"),
        (
            'validation {\ncondition = var.v == "b"\nerror_message = "Say b."\n}',
            'v = "a"',
            "Invalid value for varfile variable; Say b.",
        ),
        (
            'default = "a"\nvalidation {\ncondition = var.v == "b"\nerror_message = "Say b."\n}',
            "",
            "Invalid value for default variable; Say b.",
        ),
        (
            'validation {\ncondition = true\nerror_message = "Say b."\n}',
            'v = "a"',
            "must refer to var.v in order to test",
        ),
        (
            'validation {\ncondition = var.v == "a"\nerror_message = "say"\n}',
            'v = "a"',
            "must be at least one full sentence",
        ),
    ],
)
def test_a_variable_is_refused_in_nomads_words(declared: str, given: str, expected: str) -> None:
    assert expected in words("", f'variable "v" {{\n{declared}\n}}', given + "\n")


def test_all_that_is_wrong_is_said_at_once() -> None:
    found = words('wrong = 1\ngroup "g" {\nalso = 2\n}')
    assert 'An argument named "wrong"' in found
    assert 'An argument named "also"' in found
    assert found.splitlines()[0].startswith("input.hcl:3,1-6: Unsupported argument; ")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('tipe = "batch"', 'Unsupported argument; An argument named "tipe" is not expected here.'),
        ("wrong {\n}", 'Unsupported block type; Blocks of type "wrong" are not expected here.'),
        ('meta "x" {\n}', "Extraneous label for meta; No labels are expected for meta blocks."),
        ("group {\n}", "Missing name for group; All group blocks must have 1 labels (name)."),
        (
            "periodic {\n}\nperiodic {\n}",
            "Duplicate periodic block; Only one periodic block is allowed.",
        ),
        ('type = "a"\ntype = "b"', 'Attribute redefined; The argument "type" was already set at'),
        (
            'update {\nstagger = "5"\n}',
            'Unsuitable duration value: time: missing unit in duration "5"',
        ),
        ('priority = "high"', "Unsuitable value: a number is required"),
        ("priority = 1.5", "Unsuitable value: value must be a whole number"),
        ('datacenters = "dc1"', "list of string required"),
        ("type = tostring(5)", 'Call to unknown function; There is no function named "tostring".'),
        ("type = timestamp()", 'There is no function named "timestamp".'),
        ('type = file("/etc/passwd")', "filesystem function disabled"),
        ("type = var.nothing", 'This object does not have an attribute named "nothing".'),
        ("type = [1][5]", "Invalid index; "),
        ('type = true ? [1] : "a"', "Inconsistent conditional result types; "),
        ("type = 1 / 0", "Division by zero"),
        ('type = "a" + 1', "Invalid operand; "),
        ('type = "a" name = "b"', "Missing newline after argument"),
        ("meta { a = 1\n b = 2 }", "Invalid single-argument block definition"),
        ('type = "\\q"', "Invalid escape sequence"),
        ("type = {", "input.hcl:"),
        ("periodic = 5", 'Did you mean to define a block of type "periodic"?'),
        ("type {\n}", 'Did you mean to define argument "type"?'),
        (
            'group "g" {\ndynamic "task" {\nfor_each = 5\ncontent {\n}\n}\n}',
            "Invalid dynamic for_each value",
        ),
    ],
)
def test_a_job_is_refused_in_nomads_words(body: str, expected: str) -> None:
    assert expected in words(body)


def test_a_label_is_no_expression() -> None:
    assert "Template sequences are not allowed" in words('group "${1}" {\n}')


def test_the_keys_are_those_of_the_version() -> None:
    text = 'group "g" {\ntask "t" {\nsecret "s" {\nprovider = "vault"\n}\n}\n}'
    assert job(text, version=NEW)["TaskGroups"][0]["Tasks"][0]["Secrets"][0]["Name"] == "s"
    assert 'Blocks of type "secret" are not expected here.' in words(text, version=OLD)


def test_dynamic_blocks_are_what_they_make() -> None:
    text = """
    group "g" {
      task "t" {
        dynamic "config" {
          for_each = var.docker ? [1] : []
          content {
            image = "i"
            logging {
              type = "json-file"
              config {
                max-file = "3"
              }
            }
          }
        }
        dynamic "config" {
          for_each = var.docker ? [] : ["c"]
          iterator = each
          content {
            command = each.value
          }
        }
        dynamic "template" {
          for_each = { b = "2", a = "1" }
          content {
            destination = "local/${template.key}"
            data        = template.value
          }
        }
      }
    }
    """
    before = 'variable "docker" {\ntype = bool\n}'
    task = job(text, before, "docker = true\n")["TaskGroups"][0]["Tasks"][0]
    logging = [{"type": "json-file", "config": [{"max-file": "3"}]}]
    assert task["Config"] == {"image": "i", "logging": logging}
    files = [template["DestPath"] for template in task["Templates"]]
    assert files == ["local/a", "local/b"]
    task = job(text, before, "docker = false\n")["TaskGroups"][0]["Tasks"][0]
    assert task["Config"] == {"command": "c"}


def test_the_job_is_in_nomads_json() -> None:
    found = job(
        """
        id = "a-${1 + 1}"
        constraint {
          attribute = "${attr.kernel.name}"
          value     = "linux"
        }
        constraint {
          distinct_hosts = true
        }
        periodic {
          crons = ["0 * * * *"]
        }
        group "g" {
          network {
            port "fixed" {
              static = 80
            }
            port "free" {}
          }
          restart {
            delay = "1m30s"
          }
          task "t" {
            env = merge({ A = 1 }, { B = true })
            template {
              destination = "local/x"
              data        = "y"
            }
          }
        }
        """
    )
    assert (found["ID"], found["Name"]) == ("a-2", "x")
    assert found["Constraints"] == [
        {"LTarget": "${attr.kernel.name}", "RTarget": "linux", "Operand": "="},
        {"LTarget": "", "RTarget": "", "Operand": "distinct_hosts"},
    ]
    assert (found["Periodic"]["Specs"], found["Periodic"]["SpecType"]) == (["0 * * * *"], "cron")
    (group,) = found["TaskGroups"]
    (network,) = group["Networks"]
    assert [port["Label"] for port in network["ReservedPorts"]] == ["fixed"]
    assert [port["Label"] for port in network["DynamicPorts"]] == ["free"]
    assert group["RestartPolicy"]["Delay"] == 90 * SECOND
    assert group["RestartPolicy"]["Attempts"] is None
    assert group["Tasks"][0]["Env"] == {"A": "1", "B": "true"}
    assert group["Tasks"][0]["Templates"][0]["ChangeMode"] == "restart"


@given(st.integers(-(10**15), 10**15))
def test_a_duration_survives_being_written_and_read(nanoseconds: int) -> None:
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


TEXT = st.text('ab é"\\{}<&>\n', max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_json_survives_hcl(data: Any) -> None:
    text = json.dumps(json.dumps(data, ensure_ascii=False), ensure_ascii=False)
    assert json.loads(value(f"jsonencode(jsondecode({text}))")) == data
