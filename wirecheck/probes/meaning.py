"""Do the real weights, under this config, still know language, and no better under another?"""

from __future__ import annotations

import math
from collections.abc import Iterator

from wirecheck.other_readings import BETTER, Comparison, compare
from wirecheck.plain_text import Prediction, predict
from wirecheck.probe import ModelBench, Probe, Yielded
from wirecheck.schema import Evidence, Finding, Level

NEAR_CHANCE = 1 / 4
"""Part of ln V that the loss on the best passage stays below in a sound model.

Seen in five sound models of 0.3 M to 270 M parameters: 0.05 to 0.11. Queries and keys in the order of another format,
and the sign of one layer's output turned round: 0.29. Heads split wrongly, seven ways: 0.36 to 0.86; a constant
embedding or random weights: 0.72 and more. Another family's config is seen where it changes enough (Llama read as
Cohere or GLM: 0.87 and more; as Gemma: 0.20 to 1.66; as OLMo, Granite, Helium or StableLM: 0.06 to 1.20). Another
activation (0.08) or a wrong rope_theta (0.06 to 0.32) hardly shows on texts this short.
"""


def _on_weights(bench: ModelBench) -> Iterator[Yielded]:
    from wirecheck import zoo

    prediction = predict(bench.weights, bench.tokenizer, seed=bench.seed, quiet=zoo.quiet)
    source = f"forward of the real weights in {bench.train.dtype}"
    loss = prediction.losses[prediction.best]
    if math.isfinite(loss) and math.isfinite(prediction.shuffled):
        level, gain = Level.EXECUTED, prediction.shuffled - loss
        what = f"on the best of {len(prediction.losses)} passages; {source}"
        yield bench.fact("text_loss", _digits(loss), level, f"mean next-token loss in nats, {what}")
        yield bench.fact("text_gain", _digits(gain), level, f"loss of its tokens shuffled less that in order, {what}")
    yield _judged(bench, prediction, source)
    if not math.isfinite(loss):
        return
    compared = compare(bench.weights, bench.tokenizer, prediction, quiet=zoo.quiet)
    if compared.others:
        yield _compared(bench, prediction.best, compared, source)


def _judged(bench: ModelBench, prediction: Prediction, source: str) -> Finding:
    """EMB11: the loss on the passage the model knows best."""
    best, limit = prediction.best, NEAR_CHANCE * prediction.chance
    loss = prediction.losses[best]
    evidence = (
        _seen(
            f"mean next-token loss on the passage predicted best ({best}), nats; {source}",
            _words(loss),
            f"below {limit:.3g}, a quarter of pure chance, ln({prediction.num_rows})",
        ),
        _seen(f"the same tokens in shuffled order, nats; {source}", f"{prediction.shuffled:.3g}", "well above it"),
        _seen(
            f"the loss on each passage, {prediction.num_tokens} tokens in all, nats; {source}",
            ", ".join(f"{name} {one:.3g}" for name, one in prediction.losses.items()),
        ),
    )
    name, count = type(bench.weights).__name__, len(prediction.losses)
    if not loss < limit:  # also where it is NaN
        claim = f"{name} knows no plain text: on none of {count} passages is its loss below a quarter of pure chance."
        return bench.found("EMB11", claim, *evidence)
    claim = f"{name} knows plain text: on the best of {count} passages its loss is below a quarter of pure chance."
    return bench.ok("EMB11", claim, *evidence)


def _compared(bench: ModelBench, best: str, compared: Comparison, source: str) -> Finding:
    """EMB13: the loss on the same passages when the weights are read otherwise."""
    name, others = type(bench.weights).__name__, sorted(compared.others.items(), key=lambda one: one[1])
    evidence = [
        _seen(
            f"mean next-token loss on the passage predicted best ({best}), nats; {source}",
            f"{compared.own:.3g} as configured; " + ", ".join(f"{loss:.3g} with {other}" for other, loss in others),
            f"none below {BETTER * compared.own:.3g}, four fifths of the first",
        )
    ]
    if compared.known:
        evidence.append(
            _seen(
                f"the mean over all passages it knows ({', '.join(compared.known)}), nats; {source}",
                f"{compared.own_known:.3g} as configured, {compared.other_known:.3g} with {compared.nearest}",
                f"not below {BETTER * compared.own_known:.3g}",
            )
        )
    if compared.better:
        claim = f"{name} predicts plain text better with {compared.better}: the weights were trained so, or changed."
        return bench.found("EMB13", claim, *evidence)
    claim = f"{name} predicts plain text no better by any of {len(others)} other ways to read its weights."
    return bench.ok("EMB13", claim, *evidence)


def _seen(source: str, observed: str, expected: str | None = None) -> Evidence:
    return Evidence(level=Level.EXECUTED, source=source, observed=observed, expected=expected)


def _words(loss: float) -> str:
    return f"{loss:.3g} (perplexity {math.exp(min(loss, 700)):.3g})" if math.isfinite(loss) else "not finite"


def _digits(value: float) -> float:
    return float(f"{value:.3g}")


MEANING = Probe(
    name="meaning",
    question="Does the real model predict plain text far better than chance, and no better when read otherwise?",
    scope="model",
    level=Level.EXECUTED,
    codes=("EMB11", "EMB13"),
    needs="weights",
    requires=("embeds-weights", "tokenizer"),
    moot_after=(
        *("CFG01", "CFG02", "CFG03", "CFG05"),
        *("WGT01", "WGT02", "WGT03", "WGT04", "WGT05", "WGT07", "WGT08", "WGT11"),
        *("TOK01", "TOK02", "EMB01"),
    ),
    run=_on_weights,
)
