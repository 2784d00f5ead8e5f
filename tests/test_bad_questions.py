"""Questions that have no answer: a message with its remedy, or a named reason, never a silent number."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

from codesign.cli import main
from codesign.constraints import REASONS, in_words
from codesign.search import exhaustive
from codesign.spec.errors import SpecError
from studies import SMALL, study

LIFE, SPACE = SMALL["lifecycle"], SMALL["space"]
REFUSED = [
    ({"lifecycle": {**LIFE, "rl_tok": "-1 Ttok"}}, "lifecycle.rl_tok: must be finite and at least 0; found -1 Ttok"),
    ({"lifecycle": {**LIFE, "rl": {"gen_tok": "-5 tok"}}}, "lifecycle.rl.gen_tok: must be finite and more than 0"),
    ({"lifecycle": {**LIFE, "rl": {"reuse": 0, "n_forward": -1}}}, "lifecycle.rl.n_forward: must be at least 0; found -1"),
    ({"lifecycle": {"pretrain_tok": "2 Ttok"}, "space": {**SPACE, "lifecycle.rl_tok": ["-1 Gtok", "5 Gtok"]}}, "must be at least 0; found -1 Gtok"),
    ({"lifecycle": {}, "space": {**SPACE, "lifecycle.pretrain_tok": ["-1 Ttok", "5 Ttok"]}}, "must be at least 0; found -1 Ttok"),
    ({"space": {**SPACE, "serve.scale_up_size": [-8, 0, 8]}}, "must be at least 1; found -8"),
    ({"space": {"architecture.n_layers": {"range": [-4, 8], "step": 4}}}, "must be at least 0; found -4"),
    ({"constraints": {"facility_power": "<= 0 W"}}, "no design can have 'facility_power' <= 0 W"),
    ({"workload": {**SMALL["workload"], "demand": "inf tok/s"}}, "demand"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_it_is_refused_in_words(change, words, tmp_path):
    with pytest.raises(SpecError) as caught:
        study(tmp_path, change)
    assert words in str(caught.value)


FIXED = {"pretrain_tok": "2 Ttok"}
UNANSWERED = {
    "no fleet is fast enough": ({"slo": {"tpot": "1 us"}}, "tpot"),
    "no fleet answers soon enough": ({"slo": {"ttft": "10 us"}}, "ttft"),
    "no fleet is large enough": (
        {"workload": {**SMALL["workload"], "demand": "1e9 tok/s"}, "lifecycle": FIXED, "constraints": {"serve_devices": "<= 1000"}}, "serve_devices",
    ),
    "no site has the power": ({"lifecycle": FIXED, "constraints": {"facility_power": "<= 1 kW"}}, "facility_power"),
    "no money is left": ({"workload": {**SMALL["workload"], "demand": "1e12 tok/s"}}, "budget"),
    "no law ranks so many tokens": ({"lifecycle": {"pretrain_tok": "1e20 tok"}}, "quality refused"),
    "no law ranks so many epochs": ({"lifecycle": {"pretrain_tok": "20 Ttok", "unique_tok": "1 Gtok"}}, "quality refused"),
    "no curve ranks so much RL": (
        {"lifecycle": {**FIXED, "rl_tok": "1e16 tok"}, "objectives": {"rl_pass_frac": "maximize", "lifecycle_usd": "minimize"}}, "RL return",
    ),
    "derived tokens below zero": (
        {"lifecycle": FIXED, "space": {"architecture.n_layers": [32, 48]}, "derived": {"lifecycle.rl_tok": "-1e9 * n_layers"}}, "tokens",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNANSWERED)
def test_the_reason_is_named_and_nothing_is_returned(case, tmp_path):
    change, reason = UNANSWERED[case]
    problem = study(tmp_path, change).problem
    out = exhaustive.run(problem)
    assert not len(out.front_index)
    assert out.killed == {reason: out.n_designs}
    worst = problem.evaluate(np.zeros((1, len(problem.variables)), dtype=int)).violations
    assert np.all(np.isfinite(worst))
    assert reason in REASONS or reason in in_words(reason, 0.5, problem.setting.limits)


SAID = [
    (
        ["--phase", "quality", "--model", "llama-3.1-8b", "--pretrain-tok", "1e18"],
        0,
        "cannot rank: tokens per active parameter above 20,000",
    ),
    (["--phase", "life", "--model", "llama-3.1-8b", "--pretrain-tok", "1e18", "--out-tok", "1e13"], 2, "cannot rank"),
    (
        ["--phase", "quality", "--model", "llama-3.1-8b", "--pretrain-tok", "15e12", "--rl-tok", "1e13"],
        0,
        "cannot rank: more than 45 million",
    ),
    (["--phase", "quality", "--model", "llama-3.1-8b", "--pretrain-tok", "15e12", "--rl-tok", "-3"], 2, "0 or more"),
]


@pytest.mark.parametrize(("args", "code", "words"), SAID, ids=[words for *_, words in SAID])
def test_one_point_says_so_too(args, code, words):
    result = CliRunner().invoke(main, ["evaluate", *args])
    assert result.exit_code == code and words in result.output
