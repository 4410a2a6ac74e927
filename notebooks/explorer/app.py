"""One pair, one step: what a preference loss does to both log-probabilities, as an app. `make explorer` opens it."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="compact", app_title="toymodel explorer")

with app.setup:
    import json
    import math
    from html import escape

    import jax
    import marimo as mo
    import numpy as np

    jax.config.update("jax_enable_x64", True)
    from notebooks import explorer as explore
    from notebooks.explorer import pictures
    from toymodel import theory
    from toymodel.losses import LOSSES
    from toymodel.models.crowd import Cosines

    BY_HAND = "weights set by hand"
    STEPS = 200
    COSINES = Cosines(same=0.6, different=0.1, suffix=1.0)  # of the crowd
    # fig_story's pair. Each preset says what it changes of it.
    START = {"suffix_length": 30, "a": 0.9, "b": 0.5, "vocab_size": 20, "batch_size": "1", "loss": "dpo", "ratio": 1}
    PRESETS = {
        "Both fall": {},
        "Put right by the ratio": {"loss": BY_HAND, "ratio": 1.5},
        "Both rise": {"a": 0.5, "b": 0.9},
        "The crowd": {"suffix_length": 12, "batch_size": "8"},
    }


@app.cell(hide_code=True)
def _():
    mo.Html("""
    <style>
    .toy { font: 16px/1.4 system-ui, sans-serif; }
    .toy h1, .toy h2 { font-size: 1.35rem; font-weight: 600; margin: 0 3rem .4rem 0; }
    .toy p { margin: .3rem 0; }
    .toy svg[role] { width: 100%; max-width: 30rem; height: auto; display: block; }
    .toy svg.mark { width: .7em; display: inline; vertical-align: baseline; }
    .toy .case { font-weight: 600; }
    .toy dl { margin: .3rem 0; }
    .toy .words dt { font-weight: 600; margin-top: .4rem; }
    #verdict { position: fixed; inset: auto 0 0 0; z-index: 10; padding: .4rem 1rem; border-top: 1px solid;
      background: var(--background, white); }
    #verdict > div { max-width: 46rem; margin: 0 auto; }
    #verdict .answer { display: grid; grid-template-columns: 6rem minmax(0, 1fr) auto; gap: .5rem; margin: 0;
      font-variant-numeric: tabular-nums; }
    #verdict code { overflow: hidden; white-space: nowrap; text-overflow: ellipsis; }
    #words { padding-bottom: 8rem; }
    .controls, .pictures { display: grid; gap: .5rem 1.5rem; }
    .controls { align-items: end; }
    .controls, .pictures { grid-template-columns: repeat(auto-fit, minmax(min(19rem, 100%), 1fr)); }
    .toy figure { margin: .5rem 0; }
    .toy figcaption { font-weight: 600; margin-bottom: .3rem; }
    .pictures dl > div { display: flex; justify-content: space-between; max-width: 24rem; }
    </style>
    <div class="toy">
    <h1>When does preferring an answer make it less likely?</h1>
    <p>A preference loss widens the margin between a chosen and a rejected answer. Where the two share tokens, one step
    can lower both (<a href="https://arxiv.org/abs/2410.13828">Yuan et al., arXiv 2410.13828</a>). Here is one pair,
    “good s s s …” against “bad s s s …”, in a small softmax language model. Move a slider: the verdict stays in view.
    Words are explained at the end.</p>
    </div>
    """)
    return


@app.cell(hide_code=True)
def _():
    presets = mo.ui.dictionary({name: mo.ui.run_button(label=name) for name in PRESETS})
    mo.Html(f'<div class="toy" id="presets">{" ".join(f"{button}" for button in presets.elements.values())}</div>')
    return (presets,)


@app.cell(hide_code=True)
def _(batch_size, mode, optimizer, pair, problem, settings, tokens, view):
    def number(name, value, digits=".4g"):
        text = f"{value:{digits}}".replace("-", "−").replace("inf", "∞").replace("nan", "none")
        return f'<data data-name="{name}" value="{float(value)!r}">{text}</data>'

    # L* holds for plain steps with equal weights on features that both responses share; where a < b, both rise beyond.
    longest, crowd = math.inf, ()
    if view and mode.value == "suffix" and pair["correlation"] == 1 and view.d_chosen == view.d_rejected:
        V, a, b, B = pair["vocab_size"], pair["a"], pair["b"], int(batch_size.value)
        if optimizer.value != "adam":
            longest = float(theory.threshold_length(1 / V, 1 / V, max(a, b), min(a, b), V))
            if B > 1:  # slopes of each pair's chosen in the mean step, d = 1
                crowd, _ = theory.crowd_slopes(1 / V, 1 / V, a, b, V, np.arange(explore.LENGTH), COSINES, B)

    def turning_point():
        if math.isinf(longest):
            return ""
        if a < b:
            return f" Both rise beyond L* = {longest:.2f} shared tokens (T8)."
        alone = f" The chosen falls beyond L* = {longest:.2f} shared tokens (T8)"
        if B == 1:
            return f"{alone}."
        together = theory.crowd_threshold(1 / V, 1 / V, a, b, V, COSINES, B)
        return f"{alone}, in a step over {B} pairs beyond L*_B = {number('crowd_longest', together)} (T22)."

    def summary():
        if view is None:
            return f'<div class="toy" id="verdict"><p class="case" role="alert">{escape(problem)}</p></div>'
        rows = "".join(
            f'<p class="answer"><span>{pictures.mark(side)} {side}</span><code>{" ".join(words)}</code>'
            f"<span>{'▲' if slope > 0 else '▼' if slope < 0 else ''} {number(f'{side}_slope', slope, '.3g')}</span></p>"
            for side, slope, words in zip(pictures.SIDES, view.slopes, tokens, strict=True)
        )
        return f"""
        <div class="toy" id="verdict" data-case="{view.case}" data-settings="{settings}"><div>{rows}
        <p role="status"><span class="case">{explore.in_words(view)}</span>{turning_point()}</p></div></div>"""

    mo.Html(summary())
    return crowd, longest, number


@app.cell(hide_code=True)
def _(batch_size, crowd, longest, loss, mode, optimizer, pair, view):
    unit = view.d_rejected if view and view.d_rejected > 0 else 1.0  # so that losses can be compared

    def along():
        if view is None or mode.value != "suffix":
            return ""
        longest_pair = explore.suffix_pair(**{**pair, "suffix_length": explore.LENGTH - 1})
        slopes = explore.slopes_along(explore.every_length(longest_pair), loss, optimizer.value) / unit
        together = f", {pictures.mark('crowd')} chosen, in a step over {batch_size.value} pairs" if len(crowd) else ""
        return f"""
        <figure><figcaption>Slope against suffix length, in units of d_l</figcaption>
        {pictures.along(*slopes, pair["suffix_length"], longest, crowd)}
        <p>{pictures.mark("chosen")} chosen, {pictures.mark("rejected")} rejected{together}.</p></figure>"""

    mo.Html(f'<div class="toy" id="along">{along()}</div>')
    return (unit,)


@app.cell(hide_code=True)
def _(presets):
    # Made anew when a preset is pressed.
    start = {**START, **next((PRESETS[name] for name, pressed in presets.value.items() if pressed), {})}

    def slider(label, value, *bounds, **steps):
        return mo.ui.slider(*bounds, **steps, value=value, label=label, show_value=True, full_width=True)

    mode = mo.ui.radio(
        {"one contrast token, then a shared suffix": "suffix", "a family of overlap": "family"},
        value="one contrast token, then a shared suffix",
        label="The pair",
    )
    vocabulary = [3, 5, 10, 15, 20, 30, 40]
    suffix = mo.ui.dictionary(
        {
            "suffix_length": slider("suffix length n", start["suffix_length"], 0, explore.LENGTH - 1),
            "a": slider("a: probability of s after good", start["a"], 0.05, 0.95, 0.05),
            "b": slider("b: probability of s after bad", start["b"], 0.05, 0.95, 0.05),
            "vocab_size": slider("vocabulary V", start["vocab_size"], steps=vocabulary),
            "correlation": slider("feature correlation", 1, 0, 1, 0.05),
        }
    )
    family = mo.ui.dictionary(
        {
            "family": mo.ui.dropdown(explore.FAMILIES, value="positional", label="overlap family"),
            "shared": slider(f"shared tokens, of {explore.LENGTH}", 20, 0, explore.LENGTH - 1),
            "model": mo.ui.dropdown(explore.MODELS, value="random_features", label="model"),
            "vocab_size": slider("vocabulary V", 20, steps=vocabulary),
            "correlation": slider("feature correlation (random_features)", 0.9, 0, 1, 0.05),
            "seed": slider("random draw", 0, 0, 20),
        }
    )
    batch_size = mo.ui.dropdown(
        ["1", "2", "4", "8", "16", "64"], value=start["batch_size"], label="pairs in the step, B"
    )
    objective = mo.ui.dropdown([BY_HAND, *LOSSES], value=start["loss"], label="loss", searchable=True)
    ratio = slider("d_w/d_l", start["ratio"], steps=[0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 0.85, 1, 1.2, 1.5, 2, 3, 5, 7, 10])
    learning_rate = slider("step size η", 0.1, steps=[0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10])
    optimizer = mo.ui.dropdown([*explore.OPTIMIZERS], value="sgd", label="optimiser")
    # A cell that names a control runs anew whenever that moves; the one that shows them all need not.
    shown = {
        "suffix": [*suffix.elements.values(), batch_size],
        "family": [*family.elements.values()],
        "by hand": [ratio],
        "step": [learning_rate, optimizer],
    }
    return batch_size, family, learning_rate, mode, objective, optimizer, ratio, shown, slider, suffix


@app.cell(hide_code=True)
def _(objective, slider):
    hyper = mo.ui.dictionary(
        {}
        if objective.value == BY_HAND
        else {
            name: slider(name, LOSSES[objective.value].defaults[name], steps=steps)
            for name, steps in explore.hyper_steps(objective.value).items()
        }
    )
    hyper_shown = [*hyper.elements.values()]
    return hyper, hyper_shown


@app.cell(hide_code=True)
def _(hyper_shown, mode, objective, shown):
    of_loss = shown["by hand"] if objective.value == BY_HAND else hyper_shown
    controls = [*shown[mode.value], objective, *of_loss, *shown["step"]]
    grid = "".join(f"<div>{control}</div>" for control in controls)
    mo.Html(f'<div class="toy">{mode}<div class="controls">{grid}</div></div>')
    return


@app.cell(hide_code=True)
def _(batch_size, family, hyper, learning_rate, mode, objective, optimizer, ratio, suffix):
    pair = (suffix if mode.value == "suffix" else family).value
    scene = loss = view = tokens = None
    problem = ""
    try:
        scene = explore.suffix_pair(**pair) if mode.value == "suffix" else explore.family_pair(**pair)
        loss = (
            explore.FixedWeights(float(ratio.value), 1.0)
            if objective.value == BY_HAND
            else LOSSES[objective.value](**hyper.value)
        )
        view = explore.look(scene, loss, optimizer.value, learning_rate.value)
        tokens = [
            [
                explore.WORDS[token] if mode.value == "suffix" else str(token)
                for token in response.tokens[0][response.mask[0]].tolist()
            ]
            for response in (scene.pairs.chosen_response, scene.pairs.rejected_response)
        ]
    except ValueError as error:  # one line that says what was wanted
        problem = str(error)
    weights = {"d_w/d_l": ratio.value} if objective.value == BY_HAND else hyper.value
    together = {"batch_size": batch_size.value} if mode.value == "suffix" else {}
    step = {"learning_rate": learning_rate.value, "optimizer": optimizer.value}
    settings = escape(
        json.dumps({**pair, **together, "loss": objective.value, **weights, **step})
    )  # what the numbers are of
    return loss, pair, problem, scene, settings, tokens, view


@app.cell(hide_code=True)
def _(learning_rate, number, optimizer, settings, tokens, unit, view):
    def pictured():
        if view is None:
            return ""
        ratio_now = view.d_chosen / view.d_rejected if view.d_rejected > 0 else float("nan")
        entries = "".join(
            f"<div><dt>{words}</dt><dd>{number(name, value)}</dd></div>"
            for words, name, value in (
                ("chosen, to first order: η · slope", "chosen_first_order", learning_rate.value * view.slopes[0]),
                ("its true change", "chosen_change", view.change[0]),
                ("rejected, to first order", "rejected_first_order", learning_rate.value * view.slopes[1]),
                ("its true change", "rejected_change", view.change[1]),
                ("‖∇ log π_w‖²", "chosen_sq", view.gram.chosen_sq),
                ("‖∇ log π_l‖²", "rejected_sq", view.gram.rejected_sq),
                ("⟨∇ log π_w, ∇ log π_l⟩ (map’s sum)", "inner", view.gram.inner),
                ("cosine", "cosine", view.cosine),
                ("d_w", "d_chosen", view.d_chosen),
                ("d_l", "d_rejected", view.d_rejected),
                ("band of d_w/d_l: from", "band_low", view.band.low),
                ("to", "band_high", view.band.high),
            )
        )
        adams = " Under Adam the inner products and the band are those of its own first step." * (
            optimizer.value == "adam"
        )
        first_order = [slope / unit for slope in view.slopes]
        change = [change / (learning_rate.value * unit) for change in view.change]
        return f"""
        <figure><figcaption>One step, over η d_l: bars to first order, marks as it is</figcaption>
        {pictures.changes(first_order, change)}</figure>
        <figure><figcaption>Ratios d_w/d_l: the band that separates the pair, and ◆ this loss</figcaption>
        {pictures.band(*view.band, ratio_now)}</figure>
        <figure><figcaption>Token by token, areas relative to the largest: {pictures.mark("chosen")} inner
        product &gt; 0 (entangles), {pictures.mark("rejected")} &lt; 0 (separates)</figcaption>
        {pictures.token_map(view.token_map, *tokens)}</figure>
        <figure><figcaption>In numbers</figcaption><dl>{entries}</dl>
        <p>Changes are in nats.{adams}</p></figure>"""

    mo.Html(f'<div class="toy pictures" id="pictures" data-settings="{settings}">{pictured()}</div>')
    return


@app.cell(hide_code=True)
def _():
    train = mo.ui.run_button(label=f"Train {STEPS} steps with these settings")
    mo.Html(f"{train}")
    return (train,)


@app.cell(hide_code=True)
def _(learning_rate, loss, optimizer, scene, train, view):
    def trained():
        if not train.value or view is None:
            return ""
        run = explore.follow(scene, loss, optimizer.value, learning_rate.value, STEPS)
        chosen, rejected = run.trajectory.chosen_logps[:, 0], run.trajectory.rejected_logps[:, 0]
        ended = "" if run.stopped_at == STEPS else f"After step {run.stopped_at} it is no longer finite. "
        return f"""
        <p>log π minus its start, in nats: {pictures.mark("chosen")} chosen, {pictures.mark("rejected")} rejected.
        {ended}At the end {chosen[-1] - chosen[0]:+.3g} and {rejected[-1] - rejected[0]:+.3g}.</p>
        {pictures.curves(chosen, rejected)}"""

    mo.Html(f'<div class="toy" id="curves">{trained()}</div>')
    return


@app.cell(hide_code=True)
def _():
    mo.Html(f"""
    <div class="toy" id="words"><h2>Words</h2><dl class="words">
    <dt>slope</dt><dd>The change of an answer’s log-probability log π per unit of step size η, in nats, to first order.
    The true change approaches η times the slope as η shrinks.</dd>
    <dt>d_w, d_l</dt><dd>The weights that the loss puts on the gradients of log π of the chosen and of the rejected
    answer. For DPO they are equal. Pictures are in units of d_l, so that losses can be compared.</dd>
    <dt>both down, both up, chosen up and rejected down</dt><dd>What one step does. In the last case the pair is
    separated.</dd>
    <dt>suffix, a, b</dt><dd>The words s that both answers share. The model expects each with probability a after “good”
    and b after “bad”, and the other V − 1 words of its vocabulary evenly.</dd>
    <dt>L*, L*_B</dt><dd>The suffix length beyond which equal weights lower the chosen answer: of one pair alone (T8),
    and of each pair in a mean step over B pairs (T22). For L*_B the contexts of two pairs have the cosine
    {COSINES.same:g} at a label if they prefer the same word, {COSINES.different:g} if not, and {COSINES.suffix:g} at a
    shared word.</dd>
    <dt>inner product, band</dt><dd>The inner product of the two gradients says how much a step along one moves the
    other. The larger it is, the narrower the band of ratios d_w/d_l that separate the pair (T11): below it both fall,
    above it both rise.</dd>
    <dt>feature correlation</dt><dd>The cosine of what the model sees at one position of the two answers. At 0 their
    shared words share no parameters, and entangle nothing.</dd>
    <dt>T8 and the like</dt><dd>Claims of this package, listed in proofs/CLAIMS.md.</dd>
    </dl></div>
    """)
    return


if __name__ == "__main__":
    app.run()
