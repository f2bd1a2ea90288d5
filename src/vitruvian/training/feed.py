"""Numbered batches on a device, made ahead of time by threads, which changes none of them."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

import torch


class Feed:
    """Batches by number.

    Args:
        draw: makes a batch on the processor; may be called from other threads.
        device: where batches are moved to.
        workers: threads; None: four where a GPU waits for them, else none.
        stride: distance of the numbers that will be asked for.
    """

    def __init__(
        self, draw: Callable[[int], Any], *, device: torch.device, workers: int | None = None, stride: int = 1
    ) -> None:
        self._draw, self._device, self._stride = draw, device, stride
        if workers is None:
            workers = 4 if device.type == "cuda" else 0
        self._ahead = 2 * workers
        self._pool = ThreadPoolExecutor(workers) if workers else None
        self._coming: dict[int, Future[Any]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def batch(self, number: int) -> Any:
        """Batch `number`; the next ones are begun."""
        if self._pool is None:
            return self._draw(number).to(device=self._device)
        for step in range(self._ahead + 1):
            coming = number + step * self._stride
            if coming not in self._coming:
                self._coming[coming] = self._pool.submit(self._draw, coming)
        return self._coming.pop(number).result().to(device=self._device)
