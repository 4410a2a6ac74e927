"""A real browser for tests: Debian's Chromium, which can reach nothing but this machine.

Without a Chromium its tests are skipped, unless `TOYMODEL_BROWSER_REQUIRED` is set, as CI does: then they fail.
`conftest.py` makes both fixtures known.
"""

import os
import shutil

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

# Contrast (WCAG 2) of every text inside an element with what lies behind it, shadow trees included: the lowest, and its
# text.
LOWEST_CONTRAST = """root => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const luminance = ([r, g, b]) => [r, g, b]
    .map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    for (let e = element; e; e = e.parentElement ?? e.getRootNode().host) {
      const colour = rgba(getComputedStyle(e).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255];
  };
  let lowest = [Infinity, ''];
  const visit = node => {
    for (const child of node.childNodes) {
      if (child.nodeType === Node.TEXT_NODE && child.textContent.trim() && node.checkVisibility?.()) {
        const style = getComputedStyle(node);
        const svg = node instanceof SVGElement;
        const [one, other] = [luminance(rgba(svg ? style.fill : style.color)), luminance(behind(node))];
        const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        if (contrast < lowest[0]) lowest = [contrast, child.textContent.trim()];
      }
      if (child.nodeType === Node.ELEMENT_NODE && !['STYLE', 'SCRIPT'].includes(child.tagName)) {
        visit(child);
        if (child.shadowRoot) visit(child.shadowRoot);
      }
    }
  };
  visit(root);
  return lowest;
}"""


@pytest.fixture(scope="module")
def chromium():
    """The path of the browser."""
    if CHROMIUM is None:
        reason = "no chromium on the PATH; on Debian or Ubuntu: apt-get install chromium"
        (pytest.fail if os.environ.get("TOYMODEL_BROWSER_REQUIRED") else pytest.skip)(reason)
    return CHROMIUM


@pytest.fixture(scope="module")
def browser(chromium):
    """A window of it, that opens pages by `new_context`."""
    from playwright.sync_api import sync_playwright  # here, as most tests need no browser

    arguments = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]  # nothing outside can be reached
    arguments += ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        window = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield window
        window.close()
