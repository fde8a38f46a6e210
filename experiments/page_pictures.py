"""Take the two pictures of the server's page that the documentation shows.

A text is translated in Chromium, on the page of a server that runs: once in light colours, with all
hypotheses, and once in dark ones, with the heat map of the attention.

    python experiments/page_pictures.py --url http://127.0.0.1:8000/ --text "Two dogs run."
"""

import argparse
import base64
import shutil
import sys
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

WIDTH, MARGIN = 960, 24


def main():
    """Translate and take both pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8000/")
    parser.add_argument("--text", default="Two dogs run through the snow.")
    parser.add_argument("--layer", help="instead of the last one")
    parser.add_argument("--head", help="instead of the mean of all")
    parser.add_argument("--seconds", type=float, default=60, help="to wait for the translation")
    parser.add_argument("--folder", type=Path, default=Path("docs/figures"))
    asked = parser.parse_args()
    browser = start()
    try:
        browser.get(asked.url)
        translate(browser, asked)
        picture(browser, "light", "name", "hypotheses", asked.folder / "page-translation.png")
        picture(browser, "dark", "hypotheses", "attention", asked.folder / "page-attention.png")
    finally:
        browser.quit()


def start():
    """Start Chromium without a window."""
    paths = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in paths:
        sys.exit("Install `chromium` and `chromedriver`.")
    options = webdriver.ChromeOptions()
    options.binary_location, driver = paths
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(flag)
    return webdriver.Chrome(options, Service(driver))


def translate(browser, asked):
    """Translate the text, and choose a layer and a head."""
    resize(browser, 1000)
    browser.find_element("id", "text").send_keys(asked.text, Keys.CONTROL + Keys.ENTER)

    def done(browser):
        said = [browser.find_element("id", name).text for name in ("error", "attention-note")]
        if problem := "".join(said).replace("Asking for the attention…", ""):
            sys.exit(problem)
        return browser.find_element("id", "weights").is_displayed()

    WebDriverWait(browser, asked.seconds).until(done)
    for name, label in (("layer", asked.layer), ("head", asked.head)):
        if label:
            Select(browser.find_element("id", name)).select_by_visible_text(label)


def picture(browser, scheme, first, last, path):
    """Save what lies between two elements, in light or dark colours."""
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.execute_script("document.activeElement.blur()")
    resize(browser, browser.execute_script("return document.documentElement.scrollHeight"))
    rects = [browser.find_element("id", name).rect for name in (first, last)]
    top = rects[0]["y"] - MARGIN
    bottom = rects[1]["y"] + rects[1]["height"] + MARGIN
    clip = {"x": 0, "y": top, "width": WIDTH, "height": bottom - top, "scale": 1}
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "clip": clip})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(base64.b64decode(shot["data"]))
    print(f"Figure: {path}")


def resize(browser, height):
    """Make the window as high as what it shows."""
    size = {"width": WIDTH, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


if __name__ == "__main__":
    main()
