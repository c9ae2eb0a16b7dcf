"""Looks at the live page in a browser, as wide as a desktop and as a phone.

Usage: page_fits.py URL OUT
Writes OUT/desktop.png and OUT/phone.png; exits with an error where the page is blank, wider than the screen, has something
that sticks out, or shows no picture.
"""

import base64
import io
import json
import pathlib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy
from PIL import Image

SIZES = {"desktop": (1280, 800, False), "phone": (390, 844, True)}

READY = """
const image = document.getElementById('stream');
return image.naturalWidth > 0 && document.querySelectorAll('#bars li').length > 0;
"""
OUTSIDE = """
const wide = document.documentElement.scrollWidth - window.innerWidth;
const out = [...document.querySelectorAll('body *')].filter(element => {
  const box = element.getBoundingClientRect();
  return box.width > 0 && (box.right > window.innerWidth + 1 || box.left < -1);
});
return { wide, out: out.map(element => element.tagName + '#' + element.id), width: window.innerWidth };
"""


class Driver:
    """The few calls of WebDriver (W3C) that are needed."""

    def __init__(self, port):
        self.base = f"http://127.0.0.1:{port}"

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]

    def open(self, width, height, phone):
        options = {"args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                            f"--window-size={width},{height}"]}
        if phone:
            metrics = {"width": width, "height": height, "pixelRatio": 1, "touch": True}
            options["mobileEmulation"] = {"deviceMetrics": metrics}
        wanted = {"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}}
        self.session = "/session/" + self.call("POST", "/session", wanted)["sessionId"]

    def script(self, text):
        return self.call("POST", self.session + "/execute/sync", {"script": text, "args": []})


def look(driver, url, name, out):
    width, height, phone = SIZES[name]
    driver.open(width, height, phone)
    try:
        driver.call("POST", driver.session + "/url", {"url": url})
        deadline = time.monotonic() + 60
        while not driver.script(READY):
            assert time.monotonic() < deadline, f"{name}: no picture or no bars after a minute"
            time.sleep(0.1)
        found = driver.script(OUTSIDE)
        assert found["wide"] <= 0, f"{name}: the page is {found['wide']} pixels wider than the screen"
        assert not found["out"], f"{name}: {found['out']} stick out"
        shot = base64.b64decode(driver.call("GET", driver.session + "/screenshot"))
        (out / f"{name}.png").write_bytes(shot)
        pixels = numpy.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))
        colours = len(numpy.unique(pixels.reshape(-1, 3), axis=0))
        assert colours > 50, f"{name}: only {colours} colours, the page is blank"
        print(f"{name}: {pixels.shape[1]}x{pixels.shape[0]} pixels, {colours} colours, nothing sticks out")
    finally:
        driver.call("DELETE", driver.session)


def main(url, out):
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL)
    try:
        driver = Driver(port)
        for _ in range(600):
            try:
                if driver.call("GET", "/status")["ready"]:
                    break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        for name in SIZES:
            look(driver, url, name, out)
    finally:
        process.terminate()
        process.wait()


main(sys.argv[1], sys.argv[2])
