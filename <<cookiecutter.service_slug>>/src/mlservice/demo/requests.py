"""Sends the demo's requests, many at a time, and the rewards that follow them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import aiohttp

from mlservice.demo.samples import Sample
from mlservice.errors import MlserviceError
from mlservice.progress import SILENT, Progress

_MAX_AT_ONCE = 16


async def predict_all(
    url: str, samples: Sequence[Sample], name: str = "", progress: Progress = SILENT
) -> list[dict[str, Any]]:
    """Request the predictions for all samples; returns them in the same order.

    Each request is of another user; ``name`` begins the ids of users and requests.
    """
    limit = asyncio.Semaphore(_MAX_AT_ONCE)
    async with aiohttp.ClientSession() as session:

        async def predict(number: int, sample: Sample) -> dict[str, Any]:
            headers = {"X-Request-Id": f"{name}-{number}", "X-User-Id": f"user-{name}-{number}"}
            async with limit:
                path = f"{url}/v1/predict"
                answer = await _post(session, path, sample.request, sample.title, headers)
            progress.advance()
            return answer

        return await asyncio.gather(*(predict(n, sample) for n, sample in enumerate(samples)))


async def send_rewards(url: str, rewards: Sequence[tuple[str, float]]) -> None:
    """Send the rewards of predictions, each by the id of its request."""
    limit = asyncio.Semaphore(_MAX_AT_ONCE)
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
        f"'{title}' (data.py, samples) was refused with {answer['status']}: "
        f"{'; '.join([answer['detail'], *faults])}; the gateway's log may say more"
    )
