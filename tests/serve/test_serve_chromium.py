"""The page in a real browser: its script runs under its own policy, its pictures load."""

import re
import shutil
import subprocess
import threading

import pytest

from cl2cm.serve import create_app
from cl2cm.serve.server import listen, uvicorn

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium: apt-get install chromium")
def test_the_page_in_chromium(make_searcher, pictures, tmp_path):
    searcher = make_searcher()
    (pictures / "green.png").unlink()  # only the page's script can mark its card
    with listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(create_app(searcher), log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            page = dump(f"http://127.0.0.1:{listener.getsockname()[1]}/?q=red", tmp_path)
        finally:
            server.should_exit = True
            thread.join(10)
    frames = re.findall(r'<span class="(frame[^"]*)"><img src="/thumb/(\d+)', page)
    assert sorted(frames, key=lambda pair: pair[1]) == [
        ("frame", "0"), ("frame gone", "1"), ("frame", "2"),
    ]  # fmt: skip


def dump(address, profile):
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync",
             "--disable-dev-shm-usage", "--virtual-time-budget=5000"]  # fmt: skip
    command = [CHROMIUM, *flags, f"--user-data-dir={profile / 'profile'}", "--dump-dom", address]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=True).stdout
