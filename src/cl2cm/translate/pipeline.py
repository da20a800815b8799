"""Translate distinct texts in batches of similar length, and cache results as they arrive.

Batches run side by side in threads: the engines that gain by it work in processes of their own
(Apertium) or outside Python's lock (Bergamot); the others use all cores by themselves.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import NamedTuple

from cl2cm.errors import WeightsError
from cl2cm.text import one_line
from cl2cm.translate.cache import Origin, TranslationCache
from cl2cm.translate.protocol import Translator


class Translated(NamedTuple):
    """The result of translating texts.

    Attributes:
        made: text, as ``one_line`` writes it → translation, ``""`` where the engine has none.
        cached: how many of them had been translated before.
    """

    made: dict[str, str]
    cached: int


def translate_texts(
    translator: Translator,
    texts: Iterable[str],
    cache: TranslationCache,
    *,
    jobs: int = 0,
    on_start: Callable[[int, int], Callable[[int], None]] | None = None,
    on_wait: Callable[[], None] = lambda: None,
) -> Translated:
    """Translate distinct texts, except those in the cache.

    Args:
        translator: the engine.
        texts: in any order, repeated or not; the engine and the cache get them as ``one_line``
            writes them, so a cache from before texts were normalised serves those that were
            normal already.
        cache: gets each batch as soon as it is done.
        jobs: batches at a time; 0: one per core, or one if the engine uses all cores itself.
        on_start: told how many distinct texts there are, and how many of them are known; gives
            what is called with the number of each batch that is done.
        on_wait: called when another process is translating in this direction.

    Raises:
        WeightsError: the engine is damaged.
        StoreError: the cache is damaged.
    """
    distinct = list(dict.fromkeys(map(one_line, texts)))
    origin = Origin(translator.name, translator.version, translator.source, translator.target)
    with cache.only(origin, on_wait):
        made = {text: one_line(it) for text, it in cache.find(origin, distinct).items()}
        cached = len(made)
        advance = on_start(len(distinct), cached) if on_start else lambda _: None
        # Longest first: a batch that is too large for the memory is met at once.
        left = sorted((text for text in distinct if text not in made), key=len, reverse=True)
        batches = [left[i : i + translator.batch] for i in range(0, len(left), translator.batch)]
        workers = jobs or (1 if translator.own_threads else os.cpu_count() or 1)

        def keep(batch: Sequence[str], translations: Sequence[str]) -> None:
            new = dict(zip(batch, _checked(translator, batch, translations), strict=True))
            cache.add(origin, new)
            made.update(new)
            advance(len(batch))

        _run(translator, batches, workers, keep)
    return Translated(made, cached)


def _run(
    translator: Translator,
    batches: Sequence[Sequence[str]],
    workers: int,
    keep: Callable[[Sequence[str], Sequence[str]], None],
) -> None:
    """Translate batches side by side; ``keep`` is called in this thread, as each is done."""
    waiting = iter(batches)
    running: dict[Future[list[str]], Sequence[str]] = {}
    pool = ThreadPoolExecutor(workers)
    try:
        for batch in waiting:
            running[pool.submit(translator.translate, batch)] = batch
            if len(running) > workers:
                _keep_done(running, keep)
        while running:
            _keep_done(running, keep)
    finally:
        pool.shutdown(cancel_futures=True)


def _keep_done(
    running: dict[Future[list[str]], Sequence[str]],
    keep: Callable[[Sequence[str], Sequence[str]], None],
) -> None:
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        keep(running.pop(future), future.result())


def _checked(translator: Translator, batch: Sequence[str], made: Sequence[str]) -> list[str]:
    if len(made) == len(batch):
        return [one_line(text) for text in made]
    raise WeightsError(
        f"engine {translator.name}, {translator.source} to {translator.target}",
        expected=f"{len(batch)} translations",
        found=str(len(made)),
        remedy="install it again",
    )
