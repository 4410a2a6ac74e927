"""The point on one page (docs/entanglement.html): its formulas are those of `toymodel.theory`, and it shows them."""

import math
import re
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from browser import LOWEST_CONTRAST

from toymodel import gradients, theory
from toymodel.gram import PairGram
from toymodel.models.crowd import Cosines, crowd

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/entanglement.html"
LONGEST = 40
# The same float64 formulas in another language: sums of a few terms, of which entries reach some 40.
ROUNDOFF = {"rtol": 1e-12, "atol": 1e-12}


@pytest.fixture
def opened(browser):
    """Opens the page from the disk. At the end: no error on the console, and nothing else was asked for."""
    contexts, noted = [], []

    def open_page(width=1280, height=900, scheme="light"):
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme))
        page = contexts[-1].new_page()
        page.on("console", lambda message: noted.append(message.text))
        page.on("pageerror", lambda error: noted.append(str(error)))
        page.on("request", lambda request: noted.append(request.url) if request.url != PAGE.as_uri() else None)
        page.goto(PAGE.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert noted == []


def drawn(count):
    """Settings anywhere in the domain, the sliders' ends among them."""
    rng = np.random.default_rng(0)
    for i in range(count):
        p_w, p_l, a, b = rng.uniform(0.01, 0.45, 2).tolist() + rng.uniform(0.01, 0.99, 2).tolist()
        b = (a, b, b, b)[i % 4]  # every fourth suffix does nothing
        same, suffix = rng.uniform(0, 1, 2).tolist()
        yield {
            "n": int(rng.integers(0, LONGEST + 1)),
            "pw": p_w,
            "pl": p_l,
            "a": a,
            "b": b,
            "V": int(rng.choice([3, 5, 20, 50_000])),
            "ratio": float(10 ** rng.uniform(-1, 1)) if i % 3 else 1,
            "B": [1, 2, 8, 64, math.inf][i % 5],
            "same": same,
            "different": float(rng.uniform(-same, same)),
            "suffix": suffix * (i % 7 > 0),
        }


def suffix_gram(a, b, V):
    """What one suffix token adds: entries of the two residuals, in T2's form."""
    one, other = ((np.arange(V) == 0) - np.append(prob, np.full(V - 1, (1 - prob) / (V - 1))) for prob in (a, b))
    return PairGram(one @ one, other @ other, one @ other)


def crowd_of(s, B):
    """What the word that differs and one shared token add to the slopes of a pair, for any weights.

    From Gram entries between pairs: those of the other word have p_w and p_l exchanged.
    """
    V, labels = s["V"], (s["pw"], s["pl"])
    words, rest = np.eye(2, V), np.full(V - 2, (1 - sum(labels)) / (V - 2))
    w, l = words - np.append(labels, rest)  # noqa: E741
    other_w, other_l = words[::-1] - np.append(labels[::-1], rest)
    alike, shared = theory.crowd_shares(Cosines(s["same"], 0.0, s["suffix"]), B)
    unlike = 0 if B == 1 else s["different"] / 2
    step = alike * (s["ratio"] * w - l) + unlike * (s["ratio"] * other_w - other_l)
    token = theory.slopes(suffix_gram(s["a"], s["b"], V), s["ratio"])
    word, token = np.array([w @ step, l @ step]), shared * np.array(token)
    return {
        "word": word,
        "token": token,
        "slopes": word + s["n"] * token,
        "threshold": max(word[0], 0) / -token[0] if token[0] < 0 else np.inf,
    }


def expected(s):
    """What the package says of a setting of the page, under the page's names."""
    V, batch_size = s["V"], None if s["B"] == math.inf else s["B"]
    labels, probs = (s["pw"], s["pl"]), (s["a"], s["b"])
    p = np.append(labels, np.full(V - 2, (1 - sum(labels)) / (V - 2)))
    gram = PairGram(
        *(
            one + s["n"] * more
            for one, more in zip(theory.single_token_gram(p, 0, 1), suffix_gram(*probs, V), strict=True)
        )
    )
    alone, together = crowd_of(s, 1), crowd_of(s, batch_size)
    if s["ratio"] == 1:  # T22 itself, and T7
        cosines = Cosines(s["same"], s["different"], s["suffix"])
        for found, B in ((alone, 1), (together, batch_size)):
            found["slopes"] = theory.crowd_slopes(*labels, *probs, V, s["n"], cosines, B)
            found["threshold"] = theory.crowd_threshold(*labels, *probs, V, cosines, B)
        alone["token"] = theory.peaked_suffix_slopes(*probs, V)
    band, window = theory.band(gram), theory.likelihood_window(gram)
    return {
        "gram": {"ww": gram.chosen_sq, "ll": gram.rejected_sq, "wl": gram.inner},
        "slopes": theory.slopes(gram, s["ratio"]),
        "case": theory.case(gram, s["ratio"]),
        "band": {**band._asdict(), "centre": theory.band_centre(gram)},
        "window": window._asdict(),
        "alone": alone,
        "crowd": together,
        "crowdCase": theory.CASES[int(theory.condition.case_of_slopes(*together["slopes"]))],
        "longest": theory.threshold_length(*labels, *probs, V),
        "rises": theory.threshold_length(*reversed(labels), *reversed(probs), V),
    }


def same(seen, wanted):
    if isinstance(wanted, dict):
        assert seen.keys() == wanted.keys()
        for name, value in wanted.items():
            same(seen[name], value)
    elif isinstance(wanted, str):
        assert seen == wanted
    else:
        np.testing.assert_allclose(seen, np.asarray(wanted, dtype=float), **ROUNDOFF)


def test_the_formulas_of_the_page_are_those_of_the_package(opened):
    settings = list(drawn(140))
    page = opened()
    found = page.evaluate("settings => settings.map(look)", settings)
    for setting, seen in zip(settings, found, strict=True):
        same(seen, expected(setting))
        gram, d = PairGram(*seen["gram"].values()), setting["a"]  # the page itself has d_l = d = 1
        slopes, window = page.evaluate("([gram, dw, dl]) => [T9(gram, dw, dl), T19(gram, dl)]", [seen["gram"], 0.3, d])
        same(slopes, theory.slopes(gram, 0.3, d))
        same(window, theory.likelihood_window(gram, d)._asdict())
    assert {seen["case"] for seen in found} == {"chosen_up_rejected_down", "both_down", "both_up"}


def test_its_gram_is_that_of_a_pair_in_a_model(opened):
    """The pair of `models.crowd`, token by token."""
    labels = {"p_chosen": 0.2, "p_rejected": 0.07, "a": 0.7, "b": 0.4}
    pairs, model = crowd(2, LONGEST, Cosines(0, 0, 0), vocab_size=6, **labels)
    page = opened()
    for n in (0, 1, 17, LONGEST):
        mask = jnp.broadcast_to(jnp.arange(LONGEST + 1) <= n, pairs.chosen.shape)
        gram = theory.pair_gram(
            model,
            jnp.zeros((6, model.features.shape[1])),
            replace(pairs, chosen_mask=mask, rejected_mask=mask),
        )
        setting = {"n": n, "pw": 0.2, "pl": 0.07, "a": 0.7, "b": 0.4, "V": 6, "ratio": 1, "B": 1}
        seen = page.evaluate("look", setting)
        same(list(seen["gram"].values()), [entry[0] for entry in gram])


@pytest.mark.parametrize("ratio", [1, 0.3, 4.0])
def test_its_crowd_is_one_in_a_model_for_any_weights(opened, ratio):
    """The derivative along the mean step of four pairs, for these and for two that are not in the batch."""
    labels, cosines = {"p_chosen": 0.4, "p_rejected": 0.15, "a": 0.7, "b": 0.4}, Cosines(0.6, 0.5, 0.8)
    pairs, model = crowd(6, 3, cosines, vocab_size=4, **labels)
    params, page = jnp.zeros((4, model.features.shape[1])), opened()
    setting = dict(zip(("pw", "pl", "a", "b"), labels.values(), strict=True)) | cosines._asdict()
    for n in (0, 3):
        mask = jnp.broadcast_to(jnp.arange(4) <= n, pairs.chosen.shape)
        weights = jnp.where(jnp.arange(6) < 4, 6 / 4, 0)
        responses, advantages = theory.as_group(
            replace(pairs, chosen_mask=mask, rejected_mask=mask), ratio * weights, weights
        )
        slopes = np.asarray(gradients.group_slopes(model, params, responses, advantages)).reshape(2, 6)
        for B, judged in ((4, slice(4)), (math.inf, slice(4, 6))):
            seen = page.evaluate("T22", setting | {"n": n, "V": 4, "B": B, "ratio": ratio})
            same(np.broadcast_to(np.array(seen["slopes"])[:, None], slopes[:, judged].shape), slopes[:, judged])


def test_every_formula_is_named_by_a_claim_and_used():
    script = re.search(r'<script id="theory">(.*?)</script>', PAGE.read_text(encoding="utf-8"), re.DOTALL)[1]
    assert re.findall(r"^function (T\d+)", script, re.MULTILINE) == [f"T{n}" for n in (4, 6, 7, 8, 9, 10, 11, 19, 22)]


def shown(page):
    """The setting of the sliders, and the numbers on the page at full precision."""
    return page.evaluate("setting()"), dict(
        page.locator("data").evaluate_all("all => all.map(e => [e.id, +e.value])"),
    )


@pytest.mark.parametrize(
    ("preset", "case", "together"),
    [
        ("Both fall", "both_down", None),
        ("Put right by the ratio", "chosen_up_rejected_down", None),
        ("Both rise", "both_up", None),
        ("The crowd", "chosen_up_rejected_down", "both_down"),
    ],
)
def test_a_preset_shows_its_case(opened, preset, case, together):
    page = opened()
    page.get_by_role("button", name=preset).click()
    setting, numbers = shown(page)
    wanted = expected(setting)
    assert page.locator("#case").get_attribute("data-case") == wanted["case"] == case
    same([numbers["chosen-slope"], numbers["rejected-slope"]], wanted["slopes"])
    assert page.locator("#crowd-case").count() == (together is not None)
    if together:
        assert page.locator("#crowd-case").get_attribute("data-case") == wanted["crowdCase"] == together
        same(numbers["together"], wanted["crowd"]["threshold"])


def test_the_page_opens_with_the_numbers_of_the_story(opened):
    from figures import fig_story

    setting, numbers = shown(opened())
    probs = (setting["pw"], setting["pl"], setting["a"], setting["b"], setting["V"])
    assert probs == (fig_story.CONTRAST_PROB, fig_story.CONTRAST_PROB, fig_story.A, fig_story.B, fig_story.VOCAB)
    assert (setting["same"], setting["different"], setting["suffix"]) == tuple(fig_story.COSINES)
    assert setting["ratio"] == 1  # DPO
    same(numbers["longest"], theory.threshold_length(*probs))


def test_the_arrow_keys_turn_the_case_at_the_predicted_length(opened):
    page = opened()
    page.locator("#n").focus()
    cases = {}
    for n in range(29, 20, -1):
        page.keyboard.press("ArrowLeft")
        cases[n] = page.locator("#case").get_attribute("data-case")
    longest = shown(page)[1]["longest"]
    assert 21 < longest < 29
    assert cases == {n: "both_down" if n > longest else "chosen_up_rejected_down" for n in cases}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_it_reads_well_on_a_screen(opened, width, height, scheme):
    page = opened(width, height, scheme)
    page.get_by_role("button", name="The crowd").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    pictures = page.locator("figure svg[role=img]").evaluate_all("all => all.map(e => e.ariaLabel)")
    assert len(pictures) == 4
    assert all(re.fullmatch(r"[A-Z].*\d.*\.", label) for label in pictures)
    contrast, text = page.locator("body").evaluate(LOWEST_CONTRAST)
    assert contrast >= 4.5, f"{text!r} has a contrast of {contrast:.2f}"
    page.locator("#suffix").scroll_into_view_if_needed()
    verdict = page.locator("#verdict").bounding_box()
    assert 0 <= verdict["y"] < 0.2 * height  # still in view


def test_what_it_says_of_a_setting_holds_for_its_weights(opened):
    """The preset's ratio, with eight pairs: each length on the page is where the slopes of that setting turn."""
    page = opened()
    page.get_by_role("button", name="Put right by the ratio").click()
    page.locator("#B").fill("3")
    setting, numbers = shown(page)
    wanted = expected(setting)
    assert setting["ratio"] > 1
    assert setting["B"] == 8
    assert page.locator("#case").get_attribute("data-case") == wanted["case"] == "chosen_up_rejected_down"
    assert page.locator("#crowd-case").get_attribute("data-case") == wanted["crowdCase"]
    same([numbers["turns"], numbers["together"]], [wanted[name]["threshold"] for name in ("alone", "crowd")])
    assert numbers["longest"] < setting["n"] < numbers["turns"]  # it falls at equal weights only
    drawings = page.locator("#slopes, #crowd").all_text_contents()
    assert not any("L*" in words for words in drawings)  # which is for equal weights
    assert "equal weights" in page.locator("#says-length").text_content()


def test_twice_the_weight_moves_the_length_to_where_t8_says(opened):
    page = opened()
    assert page.evaluate("T22({ ...START, ratio: 2, B: 1 }).threshold") == pytest.approx(61.75, rel=1e-12)
    assert page.evaluate("T22({ ...START, ratio: 5.01, B: 1 }).threshold") == math.inf


def test_the_site_links_to_it():
    assert f'href="{PAGE.name}"' in (ROOT / "docs/index.md").read_text(encoding="utf-8")
    assert f'html_extra_path = ["{PAGE.name}"]' in (ROOT / "docs/conf.py").read_text(encoding="utf-8")
