"""Callers of the demo: many requests at a time, and the rewards that follow them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import aiohttp

from mlservice.errors import MlserviceError
from mlservice.owner import Sample

_AT_A_TIME = 16


async def ask_all(url: str, samples: Sequence[Sample], name: str = "") -> list[dict[str, Any]]:
    """The answers to all samples, in their order; each is of a user and has an id by ``name``."""
    limit = asyncio.Semaphore(_AT_A_TIME)
    async with aiohttp.ClientSession() as session:

        async def ask(number: int, sample: Sample) -> dict[str, Any]:
            headers = {"X-Request-Id": f"{name}-{number}", "X-User-Id": f"user-{name}-{number}"}
            async with limit:
                return await _post(
                    session, f"{url}/v1/predict", sample.request, sample.title, headers
                )

        return await asyncio.gather(*(ask(n, sample) for n, sample in enumerate(samples)))


async def reward_all(url: str, rewards: Sequence[tuple[str, float]]) -> None:
    """Say what answers turned out to be worth, each by its request's id."""
    limit = asyncio.Semaphore(_AT_A_TIME)
    async with aiohttp.ClientSession() as session:

        async def send(request_id: str, reward: float) -> None:
            async with limit:
                body = {"request_id": request_id, "reward": reward}
                await _post(session, f"{url}/v1/rewards", body, request_id, {})

        await asyncio.gather(*(send(*item) for item in rewards))


async def _post(
    session: aiohttp.ClientSession, url: str, body: Any, title: str, headers: dict[str, str]
) -> dict[str, Any]:
    async with session.post(url, json=body, headers=headers) as response:
        answer: dict[str, Any] = await response.json(content_type=None)
        if response.ok:
            return answer
    faults = [f"{f['field']} = {f['value']}: {f['rule']}" for f in answer["faults"]]
    raise MlserviceError(
        f"'{title}' (data.py, samples) got {answer['status']}: "
        f"{'; '.join([answer['detail'], *faults])}; the gateway's log may say more"
    )
