"""A server that speaks as the page expects, and a browser that shows the page."""

import json
import shutil
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import Select

import keras_transformer.serving

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--window-size=1200,1000"
)
TYPES = {
    "index.html": "text/html",
    "page.css": "text/css",
    "page.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
LAYERS, HEADS = 2, 3


class FakeServer(ThreadingHTTPServer):
    """Answers what a test has put here."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), FakeAnswer)
        self.url = f"http://127.0.0.1:{self.server_port}/"
        self.questions = []
        self.go_on = threading.Event()  # the end of a stream waits for it
        self.look_on = threading.Event()  # the attention waits for it
        self.gone = threading.Event()  # the browser has hung up while the stream waited
        self.reset()

    def reset(self):
        self.questions.clear()
        self.go_on.set()
        self.look_on.set()
        self.gone.clear()
        self.refusals = {}  # a method's name: the status and the message
        self.pieces = ["Zwei ", "Hunde ", "rennen", "."]
        self.hypotheses = {"Zwei Hunde rennen.": -0.25, "Zwei Hunde laufen.": -1.5, "Hunde.": -2.75}
        self.draft = self.truncated = False
        self.description = "From English to German."
        self.text_length = 20000
        self.last_event = "end"  # "error" for one, None for a stream that just stops
        self.source_pieces = ["Two", "dog", "##s", "run", "##.", "[EOS]"]

    def last(self):
        if self.last_event == "error":
            return {"error": "The model ran out of memory."}
        n_best = [{"text": text, "score": score} for text, score in self.hypotheses.items()]
        return {"hypotheses": n_best, "truncated": self.truncated}

    def attention(self, target):
        """Weights that add up to one in each row, and differ from target to target."""
        pieces = [*target.split(), "[EOS]"]
        shape = LAYERS, HEADS, len(pieces), len(self.source_pieces)
        weights = np.random.default_rng(list(target.encode())).random(shape) ** 4
        weights = np.round(weights / weights.sum(-1, keepdims=True), 4)
        return pieces, weights


class FakeAnswer(BaseHTTPRequestHandler):
    """One answer of it."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        name = self.path.removeprefix("/") or "index.html"
        if name in TYPES:
            file = keras_transformer.serving.__path__[0] + f"/page/{name}"
            with open(file, "rb") as page:
                self.answer(200, page.read(), TYPES[name] + "; charset=utf-8")
        elif name == "info":
            info = {"name": "a b", "version": "1", "description": self.server.description}
            info |= {"signatures": ["translate", "serving_default"]}
            self.answer(200, info | {"limits": {"text_length": self.server.text_length}})
        else:
            self.answer(404, {"error": "Not found"})

    def do_POST(self):
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        method = self.path.removeprefix("/v1/models/a%20b:")
        self.server.questions.append((method, question))
        if method in self.server.refusals:
            status, message = self.server.refusals[method]
            self.answer(status, {"error": message})
        elif method == "stream":
            self.stream()
        elif method == "attention":
            self.server.look_on.wait(10)
            pieces, weights = self.server.attention(question["target"])
            layers, heads = weights.shape[:2]
            answer = {"source_pieces": self.server.source_pieces, "target_pieces": pieces}
            answer |= {"layers": layers, "heads": heads, "weights": weights.tolist()}
            self.answer(200, answer)
        else:
            self.answer(404, {"error": "Not found"})

    def stream(self):
        self.start(200, "text/event-stream")
        half = len(self.server.pieces) // 2
        try:
            self.event("start", {"draft": self.server.draft})
            for piece in self.server.pieces[:half]:
                self.event("piece", {"text": piece})
            while not self.server.go_on.wait(0.02):
                self.wfile.write(b": still here\n\n")
            for piece in self.server.pieces[half:]:
                self.event("piece", {"text": piece})
            if self.server.last_event:
                self.event(self.server.last_event, self.server.last())
        except ConnectionError:
            self.server.gone.set()

    def event(self, name, data):
        self.wfile.write(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode())

    def answer(self, status, content, kind="application/json"):
        self.start(status, kind)
        self.wfile.write(content if isinstance(content, bytes) else json.dumps(content).encode())

    def start(self, status, kind):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Security-Policy", "default-src 'self'")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()


class Page:
    """The page in a browser, as a person finds it."""

    def __init__(self, browser, server):
        self.browser, self.server = browser, server

    def open(self):
        self.browser.get(self.server.url)
        self.wait(lambda: self.text("name") == "a b")
        return self

    def wait(self, condition):
        patience = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < patience, f"In vain; {self.all('body')[0].text!r}"
            time.sleep(0.02)

    def find(self, name):
        return self.browser.find_element("id", name)

    def all(self, selector):
        return self.browser.find_elements("css selector", selector)

    def text(self, name):
        return self.find(name).text

    def run(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def press(self, *keys):
        self.browser.switch_to.active_element.send_keys(*keys)

    def focused(self):
        return self.browser.switch_to.active_element.get_attribute("id")

    def start(self, text="Two dogs run."):
        self.find("text").clear()
        self.find("text").send_keys(text)
        self.all("form button")[0].click()

    def translate(self, text="Two dogs run."):
        """Translate and wait for the heat map, the last thing to come."""
        self.start(text)
        self.wait(lambda: self.find("weights").is_displayed())

    def choose(self, name, label):
        Select(self.find(name)).select_by_visible_text(label)

    def table(self):
        """What the heat map says: column headers, row headers, numbers."""
        rows = "[...document.querySelectorAll('#weights tr')]"
        rows = self.run(f"return {rows}.map(row => [...row.cells].map(cell => cell.textContent))")
        numbers = [[float(cell) for cell in row[1:]] for row in rows[1:]]
        return rows[0][1:], [row[0] for row in rows[1:]], np.array(numbers)

    def emulate(self, **features):
        """Be a person who prefers this: `prefers_color_scheme="dark"`."""
        features = [{"name": k.replace("_", "-"), "value": v} for k, v in features.items()]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def resize(self, width, height=800):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Chromium without a window, as Debian packages it: nothing is downloaded."""
    paths = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in paths:
        pytest.fail("The page is tested in Chromium: install `chromium` and `chromedriver`.")
    options = webdriver.ChromeOptions()
    options.binary_location, driver = paths
    for flag in [*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options, Service(driver))
    yield browser
    browser.quit()


@pytest.fixture
def server():
    server = FakeServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.go_on.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def page(browser, server):
    browser.get("about:blank")
    for log in ("browser", "performance"):
        browser.get_log(log)  # what belongs to the test before
    page = Page(browser, server)
    yield page.open()
    page.emulate()
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
