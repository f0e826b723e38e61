"""OpenFeature's provider for the flags of the live file, by flagd's evaluator.

A missing flag is not an error here, because OpenFeature would log a traceback for each request.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import FlagNotFoundError
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType, Reason
from openfeature.provider import AbstractProvider, Metadata

from mlservice.live import FlagSet
from mlservice.observe import metrics

V = TypeVar("V")
_Listed = Sequence[FlagValueType] | Mapping[str, FlagValueType]
log = logging.getLogger("mlservice.toggles")


class LiveProvider(AbstractProvider):
    """Evaluates the flags that ``apply`` received last."""

    def __init__(self) -> None:
        """Begin without any flag."""
        super().__init__()
        self._flags = FlagdCore()
        self._faulty: set[str] = set()

    def apply(self, flags: FlagSet) -> None:
        """Use these flags from now on."""
        core = FlagdCore()
        core.set_flags(flags.encode())
        self._flags = core
        self._faulty = set()

    def get_metadata(self) -> Metadata:
        """See OpenFeature."""
        return Metadata("live file")

    def resolve_boolean_details(
        self,
        flag_key: str,
        default_value: bool,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[bool]:
        """See OpenFeature."""
        evaluate = self._flags.resolve_boolean_value
        return self._resolve(evaluate, flag_key, default_value, evaluation_context)

    def resolve_string_details(
        self,
        flag_key: str,
        default_value: str,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[str]:
        """See OpenFeature."""
        evaluate = self._flags.resolve_string_value
        return self._resolve(evaluate, flag_key, default_value, evaluation_context)

    def resolve_integer_details(
        self,
        flag_key: str,
        default_value: int,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[int]:
        """See OpenFeature."""
        evaluate = self._flags.resolve_integer_value
        return self._resolve(evaluate, flag_key, default_value, evaluation_context)

    def resolve_float_details(
        self,
        flag_key: str,
        default_value: float,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[float]:
        """See OpenFeature."""
        evaluate = self._flags.resolve_float_value
        return self._resolve(evaluate, flag_key, default_value, evaluation_context)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: _Listed,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[_Listed]:
        """See OpenFeature."""
        evaluate = self._flags.resolve_object_value
        return self._resolve(evaluate, flag_key, default_value, evaluation_context)

    def _resolve(
        self, evaluate: Any, name: str, default: V, context: Any
    ) -> FlagResolutionDetails[V]:
        """The details, or the default if there is no such flag or it cannot be evaluated."""
        try:
            details: FlagResolutionDetails[V] = evaluate(name, default, context)
        except FlagNotFoundError:
            return FlagResolutionDetails(default, reason=Reason.DEFAULT)
        except Exception as error:  # noqa: BLE001  # a rule can fail in any way, once a request
            metrics.TOGGLE_FAULTS.labels(name).inc()
            if name not in self._faulty:
                self._faulty.add(name)
                log.error(
                    "toggle %s has its default, because it cannot be evaluated: %s", name, error
                )
            return FlagResolutionDetails(default, reason=Reason.ERROR)
        return details
