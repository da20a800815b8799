"""Images of strangers that cost much: they keep no search and no thumbnail waiting."""

import asyncio
import time
from dataclasses import replace

import pytest

from cl2cm.errors import MediaError
from cl2cm.search.query import Query
from cl2cm.serve import media
from cl2cm.serve.limits import Limits
from cl2cm.serve.service import Service
from fixtures.hostile_images import POSTSCRIPT, blank_png, empty_scans, many_scans


@pytest.fixture
def patient(monkeypatch):
    """Uploads that pass the header's check and use up their budget of processor time."""
    monkeypatch.setattr(media, "_UPLOAD", replace(media._UPLOAD, work=10**12, kept=10**10))
    monkeypatch.setattr(media, "_UPLOAD_BUDGET", replace(media._UPLOAD_BUDGET, cpu=1))


def test_others_are_served_while_hostile_uploads_are_decoded(make_searcher, pictures, patient):
    bomb = empty_scans(99, 24_000)

    async def attack():
        service = Service(make_searcher(), limits=Limits())
        async with service.running():
            await service.thumbnail("red.png", 320)
            await service.search(Query("green"))
            uploads = [asyncio.ensure_future(service.upload(bomb)) for _ in range(4)]
            await asyncio.sleep(0.2)
            begin = time.perf_counter()
            await service.search(Query("red"))
            await service.thumbnail("green.png", 320)
            spent = time.perf_counter() - begin
            assert not any(upload.done() for upload in uploads[2:])
            results = await asyncio.gather(*uploads, return_exceptions=True)
        return spent, results

    spent, results = asyncio.run(attack())
    assert [type(result) for result in results] == [MediaError] * 4, results
    assert spent < 2


@pytest.mark.parametrize(
    "data",
    [
        many_scans(450, 13_000, 13_000),
        empty_scans(90, 13_000),
        blank_png(10_100, 10_100),
        POSTSCRIPT,
    ],
)
def test_uploads_that_ask_for_too_much_are_refused_at_once(data):
    media.shrink_upload(blank_png(8, 8), 320)
    begin = time.perf_counter()
    with pytest.raises(MediaError, match="of at most 100 million pixels"):
        media.shrink_upload(data, 1280)
    assert time.perf_counter() - begin < 2
