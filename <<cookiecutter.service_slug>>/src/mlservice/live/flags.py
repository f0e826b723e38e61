"""Feature flags in flagd's JSON format (https://flagd.dev/reference/flag-definitions/).

They are checked here, before they take effect: flagd's own evaluator reports a misspelt operator
or variant only when a request needs it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

_FRACTIONAL = "fractional"
_REF = "$ref"
_BRANCHES = frozenset({"if", "?:", "and", "or", "filter", "map", "reduce", "all", "some", "none"})
"""Operators that evaluate their arguments themselves, so flagd's table does not list them."""

FlagName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class Flag(BaseModel):
    """A flag: its variants, and the rule (JsonLogic) that chooses one for a user."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    state: Literal["ENABLED", "DISABLED"]
    variants: dict[str, JsonValue] = Field(min_length=1)
    default: str = Field(alias="defaultVariant")
    targeting: dict[str, JsonValue] = {}
    metadata: dict[str, str | bool | int | float] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Flag:
        if self.default not in self.variants:
            raise ValueError(f"defaultVariant = '{self.default}': {self._known()}")
        kinds = {_kind(value) for value in self.variants.values()}
        if len(kinds) != 1 or "null" in kinds:
            raise ValueError(f"the variants are {' and '.join(sorted(kinds))}: give all one type")
        for operator, argument in operations(self.targeting):
            self._check(operator, argument)
        return self

    def _known(self) -> str:
        return f"the variants are {', '.join(self.variants)}"

    def _check(self, operator: str, argument: Any) -> None:
        if operator == _REF:
            return
        if operator not in _operators():
            raise ValueError(f"targeting: there is no operator '{operator}'")
        if operator == _FRACTIONAL:
            self._check_fractions(argument)

    def _check_fractions(self, argument: Any) -> None:
        parts = argument if isinstance(argument, list) else [argument]
        fractions = parts if parts and isinstance(parts[0], list) else parts[1:]
        total = 0
        for fraction in fractions:
            if not isinstance(fraction, list) or len(fraction) not in (1, 2):
                raise ValueError(f'fractional: {fraction!r}: give ["variant", weight]')
            variant, weight = fraction[0], fraction[1] if len(fraction) > 1 else 1
            if isinstance(variant, str) and variant not in self.variants:
                raise ValueError(f"fractional: there is no variant '{variant}': {self._known()}")
            if not isinstance(weight, int) or isinstance(weight, bool) or weight < 0:
                raise ValueError(f"fractional: weight = {weight!r}: give a whole number from 0")
            total += weight
        if not total:
            raise ValueError("fractional: the weights add up to 0: give one variant more")


class FlagSet(BaseModel):
    """All flags of a service; ``evaluators`` are rules that several flags share."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    flags: dict[FlagName, Flag] = {}
    evaluators: dict[str, JsonValue] = Field({}, alias="$evaluators")
    metadata: dict[str, str | bool | int | float] = {}

    @model_validator(mode="after")
    def _shared_rules(self) -> FlagSet:
        rules = {name: flag.targeting for name, flag in self.flags.items()} | self.evaluators
        for name, rule in rules.items():
            for operator, argument in operations(rule):
                if operator == _REF and argument not in self.evaluators:
                    raise ValueError(f"{name}: there is no $evaluators rule '{argument}'")
        return self

    def encode(self) -> str:
        """The flags as JSON text of flagd's format."""
        return self.model_dump_json(by_alias=True, exclude_defaults=True)


def operations(rule: JsonValue) -> Iterator[tuple[str, Any]]:
    """Each operator in a rule with its argument, the outermost first."""
    if isinstance(rule, Mapping):
        for operator, argument in rule.items():
            yield operator, argument
            yield from operations(argument)
    elif isinstance(rule, list):
        for part in rule:
            yield from operations(part)


def _operators() -> frozenset[str]:
    # Imported only if there are flags: a worker has none, and starts faster without it.
    from openfeature.contrib.tools.flagd.core.targeting.targeting import OPERATORS

    return _BRANCHES | OPERATORS.keys()


def _kind(value: JsonValue) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return {str: "string", list: "array"}.get(type(value), "object")
