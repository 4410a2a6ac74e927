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

    jax.config.update("jax_enable_x64", True)
    from notebooks import explorer as explore
    from notebooks.explorer import pictures
    from toymodel import theory
    from toymodel.losses import LOSSES

    BY_HAND = "weights set by hand"
    STEPS = 200


@app.cell(hide_code=True)
def _():
    mo.Html("""
    <style>
    .toy { font: 16px/1.4 system-ui, sans-serif; }
    .toy h1 { font-size: 1.35rem; font-weight: 600; margin: 0 3rem .4rem 0; }
    .toy p { margin: .3rem 0; }
    .toy svg { width: 100%; max-width: 30rem; height: auto; display: block; }
    .toy svg.mark { width: .7em; display: inline; vertical-align: baseline; }
    .toy table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
    .toy th, .toy td { padding: .15rem .8rem .15rem 0; text-align: right; font-weight: 400; }
    .toy th:first-child { text-align: left; white-space: nowrap; }
    .toy .case { font-size: 1.15rem; font-weight: 600; }
    .controls, .pictures { display: grid; gap: .5rem 1.5rem; }
    .controls { align-items: end; }
    .controls, .pictures { grid-template-columns: repeat(auto-fit, minmax(min(19rem, 100%), 1fr)); }
    .pictures figure { margin: .5rem 0; }
    .pictures figcaption { font-weight: 600; margin-bottom: .3rem; }
    .pictures dl > div { display: flex; justify-content: space-between; max-width: 24rem; }
    </style>
    <div class="toy">
    <h1>When does preferring an answer make it less likely?</h1>
    <p>A preference loss widens the margin between a chosen and a rejected answer. Where the two share tokens, one step
    can lower both. Here is one pair in a small softmax language model. Move a slider and see what one step does to
    each answer: predicted (slope) and measured (true change).</p>
    </div>
    """)
    return


@app.cell(hide_code=True)
def _(learning_rate, mode, pair, problem, settings, view):
    def number(name, value, digits=".4g"):
        text = f"{value:{digits}}".replace("-", "−").replace("inf", "∞").replace("nan", "none")
        return f'<data data-name="{name}" value="{float(value)!r}">{text}</data>'

    def turning_point():
        """L* holds for plain steps with equal weights on features that both responses share."""
        if mode.value != "suffix" or pair["correlation"] < 1 or view.d_chosen != view.d_rejected:
            return ""
        V = pair["vocab_size"]
        longest = float(theory.threshold_length(1 / V, 1 / V, pair["a"], pair["b"], V))
        if math.isinf(longest):
            return "<p>Under SGD no suffix lowers the chosen with these a and b (T8).</p>"
        return f"<p>Under SGD the chosen falls beyond L* = {longest:.2f} suffix tokens (T8).</p>"

    def summary():
        if view is None:
            return f'<div class="toy" id="verdict"><p class="case" role="alert">{escape(problem)}</p></div>'
        rows = "".join(
            f'<tr><th scope="row">{pictures.mark(side)} {side}</th>'
            f"<td>{number(f'{side}_slope', slope)}</td>"
            f"<td>{number(f'{side}_first_order', learning_rate.value * slope)}</td>"
            f"<td>{number(f'{side}_change', change)}</td></tr>"
            for side, slope, change in zip(pictures.LOOKS, view.slopes, view.change, strict=True)
        )
        return f"""
        <div class="toy" id="verdict" data-case="{view.case}" data-settings="{settings}">
        <p class="case" role="status">{explore.in_words(view)}</p>
        <table>
        <tr><th scope="col">log π</th><th scope="col">slope</th><th scope="col">η · slope</th>
        <th scope="col">true change</th></tr>
        {rows}
        </table>
        {turning_point()}
        </div>"""

    mo.Html(summary())
    return (number,)


@app.cell(hide_code=True)
def _():
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
            "suffix_length": slider("suffix length n", 4, 0, explore.LENGTH - 1),
            "a": slider("a: probability of a suffix token after chosen", 0.6, 0.05, 0.95, 0.05),
            "b": slider("b: the same after rejected", 0.3, 0.05, 0.95, 0.05),
            "vocab_size": slider("vocabulary V", 20, steps=vocabulary),
            "correlation": slider("feature correlation", 1, 0, 1, 0.05),
        }
    )
    family = mo.ui.dictionary(
        {
            "family": mo.ui.dropdown(explore.FAMILIES, value="positional", label="overlap family"),
            "shared": slider(f"shared tokens, of {explore.LENGTH}", 12, 0, explore.LENGTH - 1),
            "model": mo.ui.dropdown(explore.MODELS, value="random_features", label="model"),
            "vocab_size": slider("vocabulary V", 20, steps=vocabulary),
            "correlation": slider("feature correlation (random_features)", 0.9, 0, 1, 0.05),
            "seed": slider("random draw", 0, 0, 20),
        }
    )
    objective = mo.ui.dropdown([BY_HAND, *LOSSES], value=BY_HAND, label="loss", searchable=True)
    ratio = slider("d_w/d_l", 1, steps=[0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 0.85, 1, 1.2, 1.5, 2, 3, 5, 7, 10])
    learning_rate = slider("step size η", 0.1, steps=[0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10])
    optimizer = mo.ui.dropdown([*explore.OPTIMIZERS], value="sgd", label="optimiser")
    # A cell that names a control runs anew whenever that moves; the one that shows them all need not.
    shown = {"suffix": suffix, "family": family, "by hand": [ratio], "step": [learning_rate, optimizer]}
    return family, learning_rate, mode, objective, optimizer, ratio, shown, slider, suffix


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
    controls = [*shown[mode.value].elements.values(), objective, *of_loss, *shown["step"]]
    grid = "".join(f"<div>{control}</div>" for control in controls)
    mo.Html(f'<div class="toy">{mode}<div class="controls">{grid}</div></div>')
    return


@app.cell(hide_code=True)
def _(family, hyper, learning_rate, mode, objective, optimizer, ratio, suffix):
    pair = (suffix if mode.value == "suffix" else family).value
    scene = loss = view = None
    problem = ""
    try:
        scene = explore.suffix_pair(**pair) if mode.value == "suffix" else explore.family_pair(**pair)
        loss = (
            explore.FixedWeights(float(ratio.value), 1.0)
            if objective.value == BY_HAND
            else LOSSES[objective.value](**hyper.value)
        )
        view = explore.look(scene, loss, optimizer.value, learning_rate.value)
    except ValueError as error:  # one line that says what was wanted
        problem = str(error)
    weights = {"d_w/d_l": ratio.value} if objective.value == BY_HAND else hyper.value
    step = {"learning_rate": learning_rate.value, "optimizer": optimizer.value}
    settings = escape(json.dumps({**pair, "loss": objective.value, **weights, **step}))  # what the numbers are of
    return loss, pair, problem, scene, settings, view


@app.cell(hide_code=True)
def _(learning_rate, mode, number, optimizer, scene, settings, view):
    def labels(response):
        tokens = response.tokens[0][response.mask[0]].tolist()
        return ["wls"[token] if mode.value == "suffix" else str(token) for token in tokens]

    def pictured():
        if view is None:
            return ""
        ratio_now = view.d_chosen / view.d_rejected if view.d_rejected > 0 else float("nan")
        tokens = labels(scene.pairs.chosen_response), labels(scene.pairs.rejected_response)
        gram = "".join(
            f"<div><dt>{words}</dt><dd>{number(name, value)}</dd></div>"
            for words, name, value in (
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
        first_order = [learning_rate.value * slope for slope in view.slopes]
        return f"""
        <figure><figcaption>One step, in nats: bars to first order, marks as it is</figcaption>
        {pictures.changes(first_order, view.change)}</figure>
        <figure><figcaption>Ratios d_w/d_l: the band that separates the pair, and ◆ this loss</figcaption>
        {pictures.band(*view.band, ratio_now)}</figure>
        <figure><figcaption>Token by token: {pictures.mark("chosen")} inner product &gt; 0
        (entangles), {pictures.mark("rejected")} &lt; 0 (separates)</figcaption>
        {pictures.token_map(view.token_map, *tokens)}</figure>
        <figure><figcaption>In numbers</figcaption><dl>{gram}</dl>
        <p>log π is in nats, a slope in nats per unit of step size, d_w and d_l are the loss’s weights on the two
        gradients.{adams}</p></figure>"""

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


if __name__ == "__main__":
    app.run()
