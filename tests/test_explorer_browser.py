"""The explorer in a real browser, driven by the keyboard against a server on the loopback (tests/browser.py)."""

import contextlib
import inspect
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from browser import LOWEST_CONTRAST
from playwright.sync_api import expect

import toymodel as tm
from notebooks import explorer as explore
from toymodel import gradients, theory
from toymodel.losses import LOSSES
from toymodel.models.crowd import Cosines

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 60  # for any one answer, on a busy machine that compiles everything anew
SLOWEST = 2.0  # seconds from a key to the page: some ten times what a free machine takes
ROUNDOFF = {"rtol": 1e-9, "atol": 1e-12}  # the same float64 sums in another process

# The element that has the focus, inside whatever shadow trees.
FOCUSED = """() => {
  let element = document.activeElement;
  while (element.shadowRoot?.activeElement) element = element.shadowRoot.activeElement;
  return element;
}"""
# `latencies`: milliseconds from each key to the page whose last picture is of other settings.
WATCH = """() => {
  window.latencies = [];
  let pressed, shown = document.querySelector('#pictures').dataset.settings;
  document.addEventListener('keydown', () => { pressed = performance.now(); }, true);
  new MutationObserver(() => {
    const now = document.querySelector('#pictures')?.dataset.settings;
    if (now && now !== shown) { shown = now; latencies.push(performance.now() - pressed); }
  }).observe(document.body, { subtree: true, childList: true, attributes: true });
}"""


@pytest.fixture(scope="module")
def server(chromium, tmp_path_factory):  # noqa: ARG001 (no server where there is no browser)
    """The address of the app, as `make explorer` starts it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("explorer") / "log"
    command = ["marimo", "run", "notebooks/explorer/app.py", "--host", "127.0.0.1", "--headless", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env={**os.environ, "MARIMO_SKIP_UPDATE_CHECK": "1", "XDG_CONFIG_HOME": str(log.parent)},  # nobody's theme
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that whatever it starts goes with it
        )
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_for(address, process, log)
            yield address
        finally:
            with contextlib.suppress(ProcessLookupError):  # it may have ended by itself
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_for(address, process, log):
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text(encoding="utf-8")
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"no answer after {SECONDS} s: {log.read_text(encoding='utf-8')}")


@pytest.fixture(scope="module")
def context(browser):
    """One for all pages, so that marimo's scripts are loaded once."""
    with browser.new_context() as context:
        context.set_default_timeout(1000 * SECONDS)
        yield context


@pytest.fixture
def opened(server, context):
    """Opens the app in a window of some size. At the end: no error on the console, no request but to the server."""
    pages, errors, outside = [], [], []

    def open_page(width=1280, height=900):
        page = context.new_page()
        pages.append(page)
        page.set_viewport_size({"width": width, "height": height})
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("websocket", lambda socket: noted(socket.url.replace("ws://", "http://")))
        page.on("request", lambda request: noted(request.url))
        page.goto(server)
        page.locator("#pictures figure > svg").first.wait_for()
        return page

    def noted(url):
        if not url.startswith((f"{server}/", "data:", "blob:")):
            outside.append(url)

    yield open_page
    for page in pages:
        page.close()
    assert not errors
    assert not outside


def wait_until(page, condition, arg=None):
    """Until it holds in the page, asked now and then: asking at every frame keeps the browser busy."""
    page.wait_for_function(condition, arg=arg, polling=50)


def shown(page):
    """The settings, the case, and every number on the page at full precision, once all are of the same settings."""
    wait_until(
        page,
        """(() => {
          const [verdict, pictures] = ['#verdict', '#pictures'].map(id => document.querySelector(id)?.dataset.settings);
          return verdict !== undefined && verdict === pictures; // while a preset is set, there may be neither
        })()""",
    )
    verdict = page.locator("#verdict")
    numbers = dict(page.locator("data[data-name]").evaluate_all("all => all.map(e => [e.dataset.name, +e.value])"))
    return json.loads(verdict.get_attribute("data-settings")), verdict.get_attribute("data-case"), numbers


def choose_family(page):
    page.get_by_label("a family of overlap").check()
    wait_until(page, "document.querySelector('#pictures').dataset.settings.includes('family')")


def pair_of(settings):
    """The scene that the page says it shows."""
    make = explore.family_pair if "family" in settings else explore.suffix_pair
    return make(**{name: value for name, value in settings.items() if name in inspect.signature(make).parameters})


def diagnosed(scene, loss):
    """The same from `diagnose`, of gradients by automatic differentiation."""
    chosen, rejected = gradients.pair_gradients(*scene)
    weights = loss.weights(*np.zeros((4, 1)), *np.ones((2, 1)))
    (row,) = tm.diagnose(chosen_grad=chosen, rejected_grad=rejected, d_chosen=weights[0], d_rejected=weights[1]).pairs
    row["band_low"], row["band_high"] = row.pop("band")
    del row["likelihood"]  # is not shown
    return row.pop("case"), row


def same(numbers, expected):
    for name, value in expected.items():
        np.testing.assert_allclose(numbers[name], value, err_msg=name, **ROUNDOFF)


def focus(page, name):
    """Tab until the slider of this name has the focus."""
    target = page.get_by_role("slider", name=name).element_handle()
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate(f"target => ({FOCUSED})() === target", target):
            return
    pytest.fail(f"no Tab reaches the slider {name!r}")


def press(page, key):
    """Press it, and wait for the page that it leads to."""
    before = page.evaluate("latencies.length")
    page.keyboard.press(key)
    wait_until(page, "before => latencies.length > before", before)


def test_it_opens_with_dpo_on_the_pair_of_the_story_and_arrow_keys_shorten_it_until_only_the_rejected_falls(opened):
    from figures import fig_story

    page = opened()
    page.evaluate(WATCH)
    focus(page, "suffix length n")
    settings, *_ = shown(page)
    assert (settings["a"], settings["b"], settings["vocab_size"]) == (fig_story.A, fig_story.B, fig_story.VOCAB)
    assert (settings["suffix_length"], settings["loss"]) == (30, "dpo")
    loss = LOSSES["dpo"](beta=settings["beta"])
    for n, case in ((30, "both_down"), (24, "both_down"), (23, "chosen_up_rejected_down")):
        for _ in range(shown(page)[0]["suffix_length"], n, -1):
            press(page, "ArrowLeft")
        settings, seen, numbers = shown(page)
        assert (settings["suffix_length"], seen) == (n, case)
        scene = pair_of(settings)
        expected_case, expected = diagnosed(scene, loss)
        assert seen == expected_case
        same(numbers, expected)
    change = theory.exact_change(
        *scene, settings["learning_rate"], *(numbers[name] for name in ("d_chosen", "d_rejected"))
    )
    same(numbers, {"chosen_change": change[0][0], "rejected_change": change[1][0]})
    expect(page.get_by_role("status")).to_contain_text("chosen up, rejected down")
    milliseconds = page.evaluate("latencies")
    median = statistics.median(milliseconds)
    print(f"\nslider to page: median {median:.0f} ms, slowest {max(milliseconds):.0f} ms of {len(milliseconds)}")
    assert median < 1000 * SLOWEST


def test_a_preset_shows_its_case(opened):
    page = opened()
    for preset, case in (
        ("Both rise", "both_up"),
        ("Both fall", "both_down"),
        ("Put right by the ratio", "chosen_up_rejected_down"),
        ("Both rise", "both_up"),
        ("The crowd", "chosen_up_rejected_down"),
        ("Both fall", "both_down"),
    ):
        page.get_by_role("button", name=preset).click()
        wait_until(page, "wanted => document.querySelector('#verdict')?.dataset.case === wanted", case)
        settings, seen, numbers = shown(page)
        assert seen == case
        if preset == "The crowd":  # the pair alone survives a suffix that lowers it among others
            V = settings["vocab_size"]
            known = (1 / V, 1 / V, settings["a"], settings["b"], V)
            crowd = theory.crowd_threshold(*known, Cosines(0.6, 0.1, 1.0), 8)
            same(numbers, {"crowd_longest": crowd})
            assert crowd < settings["suffix_length"] < theory.threshold_length(*known)
        else:
            assert "crowd_longest" not in numbers


def test_a_family_of_overlap_under_a_loss_and_its_training(opened):
    page = opened()
    choose_family(page)
    page.get_by_label("loss").click()
    page.get_by_role("option", name="dpo", exact=True).click()
    wait_until(page, "document.querySelector('#pictures').dataset.settings.includes('dpo')")
    settings, case, numbers = shown(page)
    expected_case, expected = diagnosed(pair_of(settings), LOSSES["dpo"](beta=settings["beta"]))
    assert case == expected_case
    same(numbers, expected)
    assert page.locator("#curves > svg").count() == 0
    page.get_by_role("button", name="Train").click()
    label = re.compile("over 200 steps, in nats: chosen")
    expect(page.locator("#curves > svg")).to_have_attribute("aria-label", label, timeout=1000 * SECONDS)


def test_a_phone_keeps_the_verdict_in_view_and_needs_no_scrolling_sideways_and_every_text_can_be_read(opened):
    page = opened(width=390, height=844)
    for place in ("#presets", "#pictures", "#words"):
        page.locator(place).scroll_into_view_if_needed()
        box = page.locator("#verdict").bounding_box()
        assert box["y"] >= 0, place
        assert box["y"] + box["height"] <= 844, place
        assert box["height"] < 0.25 * 844
    choose_family(page)  # the largest map
    for selector in ("html", "#App"):
        wide, room = page.locator(selector).evaluate("e => [e.scrollWidth, e.clientWidth]")
        assert wide <= room <= 390, selector
    drawn = page.locator("#pictures figure > svg").evaluate_all("all => all.map(e => [e.role, e.ariaLabel])")
    assert len(drawn) == 3
    assert all(role == "img" and label for role, label in drawn)
    contrast, text = page.locator("#App").evaluate(LOWEST_CONTRAST)
    assert contrast >= 4.5, f"{text!r} has a contrast of {contrast:.2f}"
