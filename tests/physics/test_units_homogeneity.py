"""Dimensional analysis by experiment: in other units of time, bytes or money every output changes as its name's suffix says."""

import numpy as np
import pytest
from physics_cases import CHIPS, ENGINES, MODELS, changed, chip_of, counts_of, precision_of, random_layout

from codesign.physics import failures, memory, operators
from codesign.physics.arrays import Arrays
from codesign.physics.operators import make_scene
from codesign.physics.phases import decode, prefill, train
from codesign.service.traffic import Traffic
from codesign.units import serving, training

SECOND, BYTE, USD = 3.7, 5.3, 7.1  # how many new units one old unit is


def in_units(record, second=1.0, byte=1.0, usd=1.0, name=""):
    """Chip in other units, each field scaled as its name says; joule and FLOP keep their size, so watts scale as 1/s."""
    if isinstance(record, Arrays):
        new = record.map(lambda v: v)
        for key, value in vars(record).items():
            vars(new)[key] = in_units(value, second, byte, usd, f"{name}.{key}" if key.startswith("at_") else key)
        return new
    field = name.split(".at_")[0]
    scale = 1.0
    if field.endswith("_per_s") or field.endswith("_w"):
        scale /= second
    elif field.endswith("_s"):
        scale *= second
    scale *= byte if "bytes" in field else usd if field.startswith(("usd", "reference_usd")) else 1.0
    return record * scale if scale != 1.0 else record


def cases():
    for seed in range(30):
        rng = np.random.default_rng(seed)
        model = MODELS[seed % len(MODELS)]
        yield rng, counts_of(model), chip_of(str(rng.choice(CHIPS)), str(rng.choice(ENGINES)), 8.0), random_layout(rng, counts_of(model))


def outputs(counts, chip, layout, bits, demand=1e4):
    """Quantities by suffixed name of one configuration, through the physics and the units."""
    serve, learn = make_scene(counts, chip, bits), make_scene(counts, chip, precision_of(), training=True)
    return outputs_of(serve, learn, layout, demand)


def outputs_of(serve, learn, layout, demand):
    traffic = Traffic(*(np.float64(v) for v in (4000, 500, 900, 300, 100, 1, 1, demand, 1.5)))
    pre = serving.time_prefill(serve, layout, traffic, prefill.fullest_experts(serve, layout, serving.prompt_of(traffic)))
    load = decode.Load(8.0 * layout.n_dp, np.float64(0))
    out = serving.time_decode(serve, layout, np.float64(8), traffic, decode.fullest_experts(serve, layout, load), pre)
    out |= serving.fleet(traffic, out["tok_per_s"], layout.n_devices, serve)
    out |= {f"prefill_{k}": pre[k] for k in ("forward_s", "fixed_s", "ttft_s", "prompts_per_s")}
    out["kv_transfer_s"] = serving.kv_transfer_s(serve, layout, traffic)
    job = train.Job(np.float64(4096), np.float64(1), 8.0 * layout.n_dp, np.float64(1), np.float64(1))
    timed = training.time_training(learn, layout, job)
    out |= {f"train_{k}": timed[k] for k in ("step_s", "s_per_tok", "device_s_per_tok", "memory_bytes")}
    result = train.step(learn, layout, job, detail=True)
    out |= {f"train_{k}": getattr(result, k) for k in ("micro_s", "bubble_s", "exchange_s", "update_s")}
    out |= {f"train_{k}": v for k, v in result.ledger.totals().items()}
    return {k: float(v) for k, v in out.items() if k != "fits"}


def expected(name, second=1.0, usd=1.0):
    """Factor by which a quantity of this name changes."""
    if name == "power_w" or name == "prompts_per_s" or name.endswith("tok_per_s") or name.endswith("prompts_per_s"):
        return 1 / second
    if name.endswith("usd_per_tok"):
        return usd
    return second if name.endswith("_s") or name.endswith("s_per_tok") else 1.0


def check(got, want, factor_of):
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value * factor_of(name), rtol=1e-9, err_msg=name)


def test_seconds(monkeypatch):
    bits = precision_of(8, 16, 8)
    for _, counts, chip, layout in cases():
        want = outputs(counts, chip, layout, bits)
        with monkeypatch.context() as m:  # the failure model has times of its own
            m.setattr(failures, "DEVICE_S_BETWEEN_FAILURES", failures.DEVICE_S_BETWEEN_FAILURES * SECOND)
            m.setattr(failures.goodput_frac, "__defaults__", tuple(v * SECOND for v in failures.goodput_frac.__defaults__))
            got = outputs(counts, in_units(chip, second=SECOND), layout, bits, demand=1e4 / SECOND)
        check(got, want, lambda name: expected(name, second=SECOND))


def test_money():
    for _, counts, chip, layout in cases():
        got, want = (outputs(counts, c, layout, precision_of()) for c in (in_units(chip, usd=USD), chip))
        check(got, want, lambda name: expected(name, usd=USD))


def bytes_scaled(scene):
    """A scene whose byte-valued fields are in the new unit: stored weights, cached and sent elements, states, index keys."""
    names = ("weight_bytes", "send_bytes", "kv_bytes_full", "kv_bytes_window")
    new = changed(scene, **{n: getattr(scene, n) * BYTE for n in names})
    for kind in ("full", "window", "linear"):
        mixer = getattr(scene.census, kind)
        new = changed(new, **{f"census__{kind}__{n}": getattr(mixer, n) * BYTE for n in ("state_bytes", "index_elems_per_tok")})
    new = changed(new, census__vocab=scene.census.vocab * BYTE)  # only logits count by vocab, at 4 or 6 bytes each
    return changed(new, chip=in_units(scene.chip, byte=BYTE), rates=in_units(scene.rates, byte=BYTE))


def classes_of(serve, learn, layout):
    """Bytes by class of a decode replica and of a training stage."""
    job = train.Job(np.float64(4096), np.float64(1), 8.0 * layout.n_dp, np.float64(1), np.float64(1))
    load = decode.Load(np.float64(64), np.float64(5000))
    out = {f"train {k}": v for k, v in train.memory_classes(learn, layout, job).items()}
    return out | {f"decode {k}": v for k, v in decode.memory_classes(serve, layout, load, np.float64(5000)).items()}


def test_bytes(monkeypatch):
    """Times do not know the unit of information; every memory class is proportional to it."""
    for _, counts, chip, layout in cases():
        serve, learn = make_scene(counts, chip, precision_of(8, 16, 8)), make_scene(counts, chip, precision_of(), training=True)
        want = outputs_of(serve, learn, layout, 1e4)
        classes = [classes_of(serve, learn, layout)]
        with monkeypatch.context() as m:
            for module in (memory, train, operators):
                m.setattr(module, "ACT_BYTES", module.ACT_BYTES * BYTE)
            m.setattr(operators, "INDEX_SCALE_BYTES", operators.INDEX_SCALE_BYTES * BYTE)
            for name in ("GRADIENT_BYTES", "OPTIMIZER_BYTES", "OPTIMIZER_TRAFFIC_BYTES"):
                m.setattr(train, name, getattr(train, name) * BYTE)
            scaled = bytes_scaled(serve), bytes_scaled(learn)
            got = outputs_of(*scaled, layout, 1e4)
            classes.append(classes_of(*scaled, layout))
        check(got, want, lambda name: BYTE if "memory_bytes" in name else 1.0)
        for name in classes[0]:
            np.testing.assert_allclose(classes[1][name], classes[0][name] * BYTE, rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("what, path, others", [
    ("FLOP", "peak_flop_per_s", {"hbm_bytes_per_s": np.inf, "scale_up__bytes_per_s": np.inf, "scale_out__bytes_per_s": np.inf,
                                 "scale_up_peer_bytes_per_s": np.inf}),
    ("bytes", "hbm_bytes_per_s", {"peak_flop_per_s__at_16": np.inf, "peak_flop_per_s__at_8": np.inf, "scale_up__bytes_per_s": np.inf,
                                  "scale_out__bytes_per_s": np.inf, "scale_up_peer_bytes_per_s": np.inf}),
])  # fmt: skip
def test_one_resource_at_a_time(what, path, others):
    """With every other resource infinite and no fixed time, time is work / rate: it scales as 1 / rate exactly."""
    for _, counts, _, layout in cases():
        chip = changed(chip_of("h200_sxm_node", "ideal"), **others)
        value = getattr(chip, path)
        double = changed(chip, **{path: value.map(lambda v: v * 2) if isinstance(value, Arrays) else value * 2})
        times = []
        for c in (chip, double):
            load = decode.Load(np.float64(64), np.float64(3000))
            scene = make_scene(counts, c, precision_of())
            times.append(float(decode.step(scene, layout, load, decode.fullest_experts(scene, layout, load)).time_s))
        assert times[0] == pytest.approx(2 * times[1], rel=1e-12) and times[0] > 0, what
