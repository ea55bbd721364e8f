#!/usr/bin/env python3
"""Opens pages in a headless Chromium, uses all that is in them as people do, and prints as JSON what was seen.

    look.py [--shots FOLDER] [--quick] PAGE...

Faults (errors of scripts, requests, words that cannot be read, things without a name) are told as `faults`. The browser is driven over
its pipe, so nothing listens anywhere. Beside the tests, docs/picture/report uses it.
"""
import argparse
import base64
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAMS = ("chromium-headless-shell", "chromium", "google-chrome")


class Browser:
    def __init__(self):
        program = next((found for found in map(shutil.which, PROGRAMS) if found), None)
        if not program:
            sys.exit(f"look.py: none of {', '.join(PROGRAMS)} is installed")
        self.home = tempfile.mkdtemp(prefix="rbuild-browser.")
        (theirs, to), (back, ours) = os.pipe(), os.pipe()

        def pipes():
            # Descriptors 3 and 4, wherever the pipes were made.
            read, write = (fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (theirs, ours))
            os.dup2(read, 3)
            os.dup2(write, 4)

        # Its own walls are not for root, nor for every container; there is nothing here but our own pages.
        words = [program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage", "--no-first-run",
                 "--remote-debugging-pipe", f"--user-data-dir={self.home}", "about:blank"]
        env = {**os.environ, "HOME": self.home}
        self.process = subprocess.Popen(words, preexec_fn=pipes, close_fds=False, env=env, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(theirs)
        os.close(ours)
        self.to, self.back = os.fdopen(to, "wb", buffering=0), os.fdopen(back, "rb", buffering=0)
        self.rest, self.number, self.events, self.session = b"", 0, [], None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        # In time of the processor, which does not depend on what else the machine does.
        self.call("Performance.enable", timeDomain="threadTicks")

    def message(self):
        while b"\0" not in self.rest:
            piece = self.back.read(1 << 16)
            if not piece:
                sys.exit("look.py: the browser has gone")
            self.rest += piece
        one, self.rest = self.rest.split(b"\0", 1)
        return json.loads(one)

    def call(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self.to.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self.message()
            if answer.get("id") == self.number:
                if "error" in answer:
                    sys.exit(f"look.py: {method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def run(self, script):
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            sys.exit(f"look.py: {json.dumps(answer['exceptionDetails'])}")
        return answer["result"].get("value")

    def look_as(self, width, height, is_dark):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        feature = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def open(self, path):
        """Opens a file; milliseconds of the page's thread until it was drawn."""
        self.call("Page.navigate", url=Path(path).resolve().as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self.message())
        self.events = [event for event in self.events if event.get("method") != "Page.loadEventFired"]
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        # They begin anew with each page.
        metrics = {one["name"]: one["value"] for one in self.call("Performance.getMetrics")["metrics"]}
        return 1000 * metrics["TaskDuration"]

    def key(self, key):
        code = {"Enter": 13, "Escape": 27, "Tab": 9, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}[key]
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def shot(self, path, part=None, whole=True):
        """A picture of the page, of what the window shows of it, or of one element."""
        sizes = self.call("Page.getLayoutMetrics")
        size = sizes["cssContentSize" if whole else "cssVisualViewport"]
        width, height = (size["width"], size["height"]) if whole else (size["clientWidth"], size["clientHeight"])
        clip = {"x": 0, "y": 0, "width": width, "height": min(height, 12000)}
        if part:
            clip = self.run(f"(() => {{ const {{ x, y, width, height }} = document.querySelector({json.dumps(part)}).getBoundingClientRect();"
                            " return { x: x + scrollX, y: y + scrollY, width, height }; })()")
        form = {"format": "webp", "quality": 90} if Path(path).suffix == ".webp" else {"format": "png"}
        data = self.call("Page.captureScreenshot", **form, captureBeyondViewport=True, clip={**clip, "scale": 1})["data"]
        Path(path).write_bytes(base64.b64decode(data))

    def faults(self):
        """What went wrong, and what was asked of anybody, since the last time."""
        found = []
        for event in self.events:
            method, params = event.get("method"), event.get("params", {})
            if method == "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                found.append(f"exception: {details.get('exception', {}).get('description', details['text'])}")
            elif method == "Log.entryAdded":
                found.append(f"log: {params['entry']['text']}")
            elif method == "Runtime.consoleAPICalled":
                found.append(f"console: {json.dumps(params['args'])}")
            elif method == "Network.requestWillBeSent":
                url = params["request"]["url"]
                if not (params.get("type") == "Document" and url.startswith("file:")) and not url.startswith("data:"):
                    found.append(f"request: {url}")
        self.events = []
        return found

    def close(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)


# Everything that can be opened or pressed, again and again, until nothing new appears.
PRESS = """(() => {
  const done = new Set();
  let presses = 0;
  for (let round = 0; round < 4; round++) {
    document.querySelectorAll('summary').forEach((summary) => { if (!summary.parentElement.open) { summary.click(); presses++; } });
    document.querySelectorAll('main button, header button:not(#save), main a[href^="#"]').forEach((button) => {
      if (done.has(button) || presses > 3000) return;
      done.add(button);
      button.click();
      presses++;
    });
    for (let at = 0; at < 40; at++) {
      const nodes = document.querySelectorAll('.node');
      if (nodes.length === 0) break;
      nodes[at % nodes.length].dispatchEvent(new MouseEvent('click', { bubbles: true }));
      presses++;
    }
  }
  delete document.documentElement.dataset.theme;
  return presses;
})()"""

# Names, ids, headings, and contrast as WCAG 2.2 has it (1.4.3): 4.5, or 3 for large words.
JUDGE = """(() => {
  const faults = [], ids = new Set();
  document.querySelectorAll('[id]').forEach((one) => { if (ids.has(one.id)) faults.push(`two have the id ${one.id}`); ids.add(one.id); });
  document.querySelectorAll('[aria-controls], [aria-labelledby]').forEach((one) => {
    for (const name of ['aria-controls', 'aria-labelledby']) if (one.hasAttribute(name) && !ids.has(one.getAttribute(name))) faults.push(`${name} leads nowhere`);
  });
  document.querySelectorAll('button, a, [role=button], [role=img], [role=region], summary, nav').forEach((one) => {
    if (!(one.getAttribute('aria-label') || one.textContent).trim()) faults.push(`no name: ${one.outerHTML.slice(0, 120)}`);
  });
  let level = 0;
  document.querySelectorAll('h1, h2, h3').forEach((one) => { const own = Number(one.tagName[1]); if (own > level + 1) faults.push(`${one.tagName} below h${level}`); level = own; });
  document.querySelectorAll('th').forEach((one) => { if (one.scope !== 'col') faults.push('a heading without its scope'); });
  const parse = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const light = ([r, g, b]) => { const f = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4); return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
  const behind = (one) => { for (; one; one = one.parentElement) { const colour = parse(getComputedStyle(one).backgroundColor); if (colour[3] === 1) return colour; } return [255, 255, 255]; };
  const told = new Set();
  const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = words.nextNode(); node; node = words.nextNode()) {
    const one = node.parentElement;
    if (!node.data.trim() || one.closest('script, style, noscript, svg, .unseen, .skip, [hidden]') || !one.getClientRects().length) continue;
    const style = getComputedStyle(one), size = parseFloat(style.fontSize);
    const [a, b] = [light(parse(style.color)), light(behind(one))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const needed = size >= 24 || (size >= 18.6 && style.fontWeight >= 700) ? 3 : 4.5;
    const what = `${ratio.toFixed(1)}: ${one.tagName}.${one.className}`;
    if (ratio < needed && !told.has(what)) { told.add(what); faults.push(`contrast ${what} ${node.data.trim().slice(0, 30)}`); }
  }
  if (document.documentElement.scrollWidth > document.documentElement.clientWidth) faults.push('wider than the window');
  return faults;
})()"""

SAVE = """(async () => {
  const button = document.getElementById('save');
  if (!button) return null;
  let saved = null;
  const make = URL.createObjectURL, click = HTMLAnchorElement.prototype.click;
  URL.createObjectURL = (blob) => { saved = blob; return 'blob:nothing'; };
  HTMLAnchorElement.prototype.click = function () { if (!this.download) click.call(this); };
  button.click();
  URL.createObjectURL = make;
  HTMLAnchorElement.prototype.click = click;
  return saved ? saved.text() : null;
})()"""

SEEN = """(() => ({
  title: document.title,
  parts: [...document.querySelectorAll('section')].map((one) => one.id),
  text: document.body.innerText,
  scripts: document.querySelectorAll('script').length,
  foreign: document.querySelectorAll('img, iframe, object, embed, form, base, link:not([rel=icon])').length,
  attacked: typeof window.attacked !== 'undefined',
  rows: document.querySelectorAll('.rows > li').length,
  files: document.querySelectorAll('.node').length,
}))()"""


# Of each target that can be chosen the lines of its Dockerfile that cost something.
TARGETS = """(() => [...document.querySelectorAll('.targets button')].map((_, at) => {
  const button = document.querySelectorAll('.targets button')[at];
  button.click();
  return { name: button.textContent, lines: [...document.querySelectorAll('table.dockerfile tr.first')].map((row) => Number(row.cells[0].textContent)) };
}))()"""


def by_keys(browser):
    """Goes into the picture of files and out again, and opens a step; what of that did not work."""
    faults = []
    if browser.run("!!document.querySelector('.node')"):
        browser.run("document.querySelector('.node[tabindex=\"0\"]').focus()")
        first = browser.run("document.activeElement.getAttribute('aria-label')")
        browser.key("ArrowDown")
        inside = browser.run("document.activeElement.getAttribute('aria-label')")
        browser.key("ArrowUp")
        if browser.run("document.activeElement.getAttribute('aria-label')") != first:
            faults.append("ArrowUp does not lead back")
        depth = "document.querySelectorAll('.crumbs button').length"
        if inside != first:
            browser.key("Enter")
            if browser.run(depth) != 1 or not browser.run("document.activeElement.classList.contains('node')"):
                faults.append("Enter does not open a folder, or loses the focus")
            browser.key("Escape")
            if browser.run(depth) != 0:
                faults.append("Escape does not close a folder")
    if browser.run("!!document.querySelector('.row')"):
        browser.run("document.querySelector('.row').focus()")
        before = browser.run("document.activeElement.getAttribute('aria-expanded')")
        browser.run("document.activeElement.click()")
        if browser.run("document.activeElement.getAttribute('aria-expanded')") == before:
            faults.append("a step does not open")
    return faults


def look(browser, page, shots, is_quick):
    name = Path(page).stem
    browser.look_as(1280, 900, False)
    opened = min(browser.open(page) for _ in range(3))
    seen = {**browser.run(SEEN), "bytes": os.path.getsize(page), "opened_ms": opened, "presses": 0}
    faults = browser.faults() + by_keys(browser)
    seen["targets"] = browser.run(TARGETS)
    for kind, width, is_dark in (("light", 1280, False), ("dark", 1280, True), ("narrow", 390, False)):
        browser.look_as(width, 900, is_dark)
        browser.open(page)
        if shots:
            browser.shot(Path(shots) / f"{name}-{kind}.png")
        faults += [f"{kind}: {fault}" for fault in browser.run(JUDGE)]
        if is_quick:
            continue
        seen["presses"] += browser.run(PRESS)
        faults += [f"{kind}, all open: {fault}" for fault in browser.run(JUDGE)]
    seen["saved"] = browser.run(SAVE)
    return {**seen, "faults": faults + browser.faults()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--shots")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("pages", nargs="+")
    options = parser.parse_args()
    browser = Browser()
    try:
        print(json.dumps([look(browser, page, options.shots, options.quick) for page in options.pages]))
    finally:
        browser.close()


if __name__ == "__main__":
    main()
