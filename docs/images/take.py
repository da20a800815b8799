"""The pictures of the page in this folder, taken anew from the demo's service.

    cl2cm serve cl2cm-demo/index --title OpenMoji &
    python docs/images/take.py http://127.0.0.1:8000

Needs Playwright, of the extra ``dev``, and Debian's Chromium.
"""

import shutil
import sys
from pathlib import Path
from urllib.parse import urlencode

from PIL import Image
from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent
WIDE = {"viewport": {"width": 1280, "height": 860}}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "has_touch": True}


def main(address: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))

        def take(name: str, path: str = "/", act=wait, **settings) -> None:
            context = browser.new_context(base_url=address, **(WIDE | settings))
            page = context.new_page()
            page.goto(path)
            act(page)
            wait(page)
            page.screenshot(path=HERE / f"{name}.png")
            with Image.open(HERE / f"{name}.png") as picture:
                few = picture.convert("RGB").quantize(method=Image.Quantize.FASTOCTREE)
            few.save(HERE / f"{name}.png", optimize=True)
            context.close()
            print(f"{name}.png")

        take("home")
        take("search", asked("rotes Herz"), locale="de-DE")
        take("item", asked("rotes Herz"), open_first, locale="en-US")
        take("filters", asked("woman running"), open_filters)
        take("picture", asked("blue"), more_like_the_first)
        take("arabic", asked("كلب"), locale="ar")
        take("dark", asked("狗"), locale="zh-CN", color_scheme="dark")
        take("phone", asked("chat heureux"), locale="fr-FR", **PHONE)
        take("api", "/api")


def asked(query: str) -> str:
    return "/?" + urlencode({"q": query})


def wait(page: Page) -> None:
    page.wait_for_load_state("networkidle")


def open_first(page: Page) -> None:
    page.locator("#results .open").first.click()
    page.locator("dialog[open] .bands").wait_for()


def open_filters(page: Page) -> None:
    page.locator(".filters summary").click()
    page.get_by_label("Show near-duplicates once").check()
    page.wait_for_url("**fold=1**")


def more_like_the_first(page: Page) -> None:
    page.locator("#results .like").first.click()
    page.locator(".given img").wait_for()


if __name__ == "__main__":
    main(*sys.argv[1:])
