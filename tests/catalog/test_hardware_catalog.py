"""Accelerators, systems, engines, prices, workloads, memory tiers: every file, every figure's provenance, the rules of the loader."""

import math
import subprocess
import sys
from itertools import pairwise

import pytest

from codesign import catalog
from codesign.catalog import kernels, loader, pricing, provenance
from codesign.spec import units
from codesign.spec.errors import SpecError

KINDS = ("accelerators", "systems", "engines", "prices", "workloads", "memory")
ENTRIES = [(kind, name) for kind in KINDS for name in catalog.names(kind)]
CHIPS = [name for name in catalog.names("accelerators") if "not_evaluable" not in catalog.load("accelerators", name)]

# Names that measurements and other tools write, and the figures of the source tables: bf16 and fp8 [TFLOP/s], HBM [GB, GB/s],
# scale-up [GB/s, devices], TDP [W] (None: our own estimate).
SOURCE = [
    ("A100-80G-SXM", 312, None, 80, 2039, 300, 8, 400),
    ("A100-40G-SXM", 312, None, 40, 1555, 300, 8, 400),
    ("A100-80G-PCIe", 312, None, 80, 1935, 31, 1, 300),
    ("H100-SXM", 989, 1979, 80, 3350, 450, 8, 700),
    ("H100-PCIe", 756.5, 1513, 80, 2000, 63, 1, 350),
    ("H100-SXM-96G-HBM2e-500W", 989, 1979, 96, 2400, 450, 8, 500),
    ("H800-SXM", 989, 1979, 80, 3350, 200, 8, 700),
    ("H20", 148, 296, 96, 4000, 450, 8, 400),
    ("H200-SXM", 989, 1979, 141, 4800, 450, 8, 700),
    ("H200-NVL", 835, 1671, 141, 4800, 450, 4, 600),
    ("B100-SXM", 1750, 3500, 192, 8000, 900, 8, 700),
    ("B200-SXM", 2250, 4500, 180, 8000, 900, 8, 1000),
    ("GB200-NVL72", 2500, 5000, 186, 8000, 900, 72, 1200),
    ("B300-SXM", 2250, 4500, 288, 8000, 900, 8, 1100),
    ("GB300-NVL72", 2500, 5000, 288, 8000, 900, 72, 1400),
    ("VR200-NVL72", 4000, 17500, 288, 22000, 1800, 72, None),
    ("MI250X", 383, None, 128, 3280, 350, 4, 560),  # the source's 8 counts dies
    ("MI300X", 1307, 2615, 192, 5300, 448, 8, 750),
    ("MI325X", 1307, 2615, 256, 6000, 448, 8, 1000),
    ("MI350X", 2300, 4600, 288, 8000, 538, 8, 1000),
    ("MI355X", 2516, 5033, 288, 8000, 538, 8, 1400),
    ("MI455X", 5000, 10000, 432, 23300, 1800, 72, None),
    ("TPU-v4", 275, None, 32, 1200, 270, 4096, None),
    ("TPU-v5e", 197, None, 16, 819, 180, 256, None),
    ("TPU-v5p", 459, 459, 95, 2765, 540, 8960, None),
    ("TPU-v6e", 918, 918, 32, 1640, 360, 256, None),
    ("TPU-v7", 2307, 4614, 192 * 1.073741824, 7380, 600, 9216, 980),
    ("Gaudi-3", 1677, 1677, 128, 3700, 525, 8, 900),
    ("Trainium2", 667, 1299, 96, 2900, 512, 16, None),  # 640 with the links to other nodes: trainium2_ultra
    ("Trainium3", 671, 2517, 144, 4900, 1000, 144, None),
    ("Inferentia2", 190, 190, 32, 820, 96, 12, 175),
    ("L40S", 362, 733, 48, 864, 31, 1, 350),
    ("RTX-4090", 165.2, 660.6, 24, 1008, 31, 1, 450),
    ("RTX-5090", 209.5, 419, 32, 1792, 63, 1, 575),
    ("RTX-PRO-6000-Server", 467.8, 935.6, 96, 1792, 63, 1, 600),
    ("RTX-3090", 71, None, 24, 936, 31, 1, 350),
    ("RTX-A6000", 154.8, None, 48, 768, 31, 1, 300),
]
WRITTEN = {
    "a100_sxm": "a100_80g_sxm", "A100 SXM": "a100_80g_sxm", "A100 SXM 80GB (330 W)": "a100_80g_sxm", "A100 PCIe": "a100_80g_pcie",
    "H100": "h100_sxm", "H100 80GB": "h100_sxm", "H100 SXM": "h100_sxm", "H200": "h200_sxm", "H200 SXM": "h200_sxm",
    "B200": "b200_sxm", "B200 HGX": "b200_sxm", "B200 SXM": "b200_sxm", "gb200": "gb200", "gb300": "gb300", "GB200-NVL72": "gb200",
    "L40S": "l40s", "RTX PRO 6000 Blackwell SE": "rtx_pro_6000_server", "rtx_pro_6000_server": "rtx_pro_6000_server",
    "RTX 4090": "rtx_4090", "RTX 4090 24GB": "rtx_4090", "4090 24GB": "rtx_4090", "RTX 3090 24GB": "rtx_3090", "3090 24GB": "rtx_3090",
    "RTX 3090 Ti": "rtx_3090_ti", "RTX A6000 48GB": "rtx_a6000", "AMD MI250X (1 GCD)": "mi250x_gcd", "Groq-LPU-WSE-3-notes": "groq_lpu",
    "TPU7x": "tpu_v7", "trn2": "trainium2",
}  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_every_file_loads_and_every_figure_says_where_it_comes_from(kind, name):
    record = catalog.load(kind, name)
    assert record["name"] == name and (record.get("title") or kind == "models")
    rows = catalog.sources(record)
    assert rows or "not_evaluable" in record
    for key, value, _unit, source, date, confidence in rows:
        assert isinstance(value, float | int) and math.isfinite(value), key
        assert len(source) > 4 and source != provenance.UNSTATED["source"], key
        assert date[:2] == "20", f"{key}: {date}"
        assert confidence in ("measured", "vendor", "estimate"), key


def test_figures_without_a_readable_source_are_called_estimates():
    for kind, name in ENTRIES:
        for key, _, _, source, _, confidence in catalog.sources(catalog.load(kind, name)):
            if "from memory" in source or "our estimate" in source or "as remembered" in source:
                assert confidence == "estimate", f"{kind}/{name}: {key}"


def test_names_are_unique_across_kinds():
    owner = {}
    for kind in catalog.KINDS:
        for name in catalog.names(kind):
            entry = catalog.find(kind, name)
            for alias in {loader.fold(n) for n in (entry.name, *entry.aliases)}:
                assert owner.setdefault(alias, entry) == entry, f"{alias}: {owner[alias].path} and {entry.path}"


@pytest.mark.parametrize(("written", "bf16", "fp8", "capacity", "bandwidth", "link", "size", "tdp"), SOURCE)
def test_accelerators_equal_their_source(written, bf16, fp8, capacity, bandwidth, link, size, tdp):
    chip = catalog.load("accelerators", written)
    assert chip["peak"]["bf16"] == pytest.approx(bf16 * 1e12)
    assert chip["peak"].get("fp8") == (pytest.approx(fp8 * 1e12) if fp8 else None)
    assert chip["hbm"]["capacity"] == pytest.approx(capacity * 1e9)
    assert chip["hbm"]["bandwidth"] == pytest.approx(bandwidth * 1e9)
    assert chip["scale_up"]["bandwidth"] == pytest.approx(link * 1e9) and chip["scale_up"]["size"] == size
    confidence = chip["provenance"]["power.tdp"]["confidence"]
    assert chip["power"]["tdp"] == tdp if tdp else confidence == "estimate"


@pytest.mark.parametrize(("written", "name"), WRITTEN.items())
def test_names_that_others_write_are_found(written, name):
    assert catalog.load("accelerators", written)["name"] == name


def test_all_chips_of_the_source_are_here_and_the_unusable_ones_say_why():
    assert len({catalog.load("accelerators", row[0])["name"] for row in SOURCE}) == len(SOURCE) == 37
    left = set(catalog.names("accelerators")) - set(CHIPS)
    assert left == {"groq_lpu", "wse_3"}
    assert all(len(catalog.load("accelerators", name)["not_evaluable"]) > 20 for name in left)


@pytest.mark.parametrize("name", CHIPS)
def test_a_chip_is_consistent(name):
    chip = catalog.load("accelerators", name)
    peak, link, power = chip["peak"], chip["scale_up"], chip["power"]
    ladder = [peak[dtype] for dtype in ("fp32", "tf32", "bf16", "fp8", "fp6", "fp4") if dtype in peak]
    assert ladder == sorted(ladder), "dense peaks rise as operands narrow"
    assert ladder[-1] <= 10.5 * peak["bf16"]
    assert 50 < peak["bf16"] / chip["hbm"]["bandwidth"] < 600 or name in ("h20", "a100_40g_sxm")
    assert chip["hbm"].get("usable", 0) <= chip["hbm"]["capacity"]
    assert 1.0 < power["all_in"] / power["tdp"] < 3
    assert chip["scale_out"]["bandwidth"] <= link["bandwidth"] or link["topology"] == "pcie"
    if link["topology"] == "mesh":
        assert link["peer_bandwidth"] * (link["size"] - 1) == pytest.approx(link["bandwidth"], rel=0.16)
    if link["topology"] == "torus":
        assert math.prod(link["torus_dims"]) == link["size"]
        assert link["n_links"] * link["link_bandwidth"] == pytest.approx(link["bandwidth"])
        assert link["n_links"] == 2 * len(link["torus_dims"])
    for dtype in ("bf16", "fp8"):
        best = chip.get("measured", {}).get(f"mamf_{dtype}")
        assert best is None or 0.45 < best / peak[dtype] < 0.95


@pytest.mark.parametrize("name", catalog.names("systems"))
def test_a_system_changes_its_accelerator(name):
    system, machine = catalog.load("systems", name), catalog.hardware(name)
    assert machine["accelerator"] == system["accelerator"] == catalog.load("accelerators", system["accelerator"])["name"]
    assert machine["system"] == name and machine["scale_up"]["size"] == system["scale_up"]["size"] > 1
    if machine["scale_up"]["topology"] == "torus":
        assert math.prod(machine["scale_up"]["torus_dims"]) == machine["scale_up"]["size"]
    rack = machine.get("rack", {})
    if "power" in rack:
        assert rack["devices"] * machine["power"]["tdp"] < rack["power"] < 2.6 * rack["devices"] * machine["power"]["tdp"]
    if "n_cables" in rack:  # one differential pair carries 200 Gb/s one way
        assert rack["n_cables"] == rack["devices"] * 2 * machine["scale_up"]["bandwidth"] * 8 / 200e9


@pytest.mark.parametrize("engine", catalog.names("engines"))
@pytest.mark.parametrize("name", CHIPS)
def test_every_engine_has_constants_for_every_chip_and_dtype(engine, name):
    found = catalog.kernel_constants(engine, name)
    for op, keys in kernels.KEYS.items():
        for key in keys:
            cell = found[op][key]
            assert set(cell) == set(kernels.OPS[op]), f"{op}.{key}"
            assert all(0 <= cell[c] <= 1.03 for c in ("compute", "memory", "efficiency") if c in cell), f"{op}.{key}"
            assert 0 <= cell.get("t0", 0) < 120e-6 and 0 <= cell["residual"] < 0.8
    assert found["all_reduce"] and all(isinstance(n, int) for n in found["all_reduce"])
    if engine == "ideal":
        plain = [value for op in kernels.KEYS for cell in found[op].values() for value in cell.values()]
        assert set(plain) <= {0.0, 1.0}


def test_kernel_constants_are_those_of_the_tables():
    gemm = catalog.kernel_constants("vllm", "h100_sxm")["gemm"]
    assert gemm["bf16"] == pytest.approx({"t0": 3.8e-6, "compute": 0.80, "memory": 0.87, "residual": 0.055})
    generic = catalog.kernel_constants("generic", "b200_sxm")["gemm"]
    assert (generic["fp4"]["t0"], generic["fp4"]["compute"], generic["fp4"]["memory"]) == pytest.approx((8.2e-6, 0.39, 0.69))
    experts = catalog.kernel_constants("vllm", "h200_sxm")["experts"]["fp8"]  # only block-scaled fp8 was measured
    assert (experts["compute"], experts["m0"]) == (0.27, 40)
    assert catalog.kernel_constants("trtllm", "gb300")["all_reduce"][16]["two_shot_t0"] == pytest.approx(5.1e-6)
    prefill = catalog.kernel_constants("sglang", "h100_sxm")["attention_prefill"]["fp8"]
    assert (prefill["compute"], prefill["s0"]) == (0.39, 919)
    mla = catalog.kernel_constants("trtllm", "h200_sxm")["mla_decode"]["bf16"]
    assert (mla["t0"], mla["compute"], mla["memory"]) == pytest.approx((16.5e-6, 0.62, 0.91))


def test_borrowed_constants_are_wider_and_say_from_whom():
    own, other = catalog.kernel_constants("generic", "b200_sxm"), catalog.kernel_constants("generic", "b300_sxm")
    assert other["gemm"]["fp8"]["t0"] == own["gemm"]["fp8"]["t0"]
    assert other["gemm"]["fp8"]["residual"] == pytest.approx(math.hypot(own["gemm"]["fp8"]["residual"], 0.10))
    assert other["origin"]["gemm.fp8"] == "generic b200_sxm (like b200_sxm)"
    amd = catalog.kernel_constants("vllm", "mi300x")
    assert amd["gemm"]["bf16"]["compute"] == 0.514 and amd["origin"]["gemm.bf16"] == "generic prior mi300x"
    card = catalog.kernel_constants("vllm", "a100_80g_pcie")  # computes like an A100, talks over PCIe
    assert card["origin"]["gemm.bf16"] == "vllm a100_80g_sxm (like a100_80g_sxm)"
    assert card["origin"]["all_reduce"] == card["origin"]["nccl.all_reduce"] == "generic prior pcie"


def test_every_named_chip_of_the_engine_files_exists():
    chips = set(catalog.names("accelerators"))
    for engine in catalog.names("engines"):
        record = catalog.load("engines", engine)
        assert set(record.get("kernels", {})) <= chips
        for name, like in record.get("like", {}).items():
            assert {name, *like["chips"]} <= chips
    for book in catalog.names("prices"):
        record = catalog.load("prices", book)
        assert set(record.get("rates", {})) | {r["accelerator"] for r in record.get("rentals", {}).values()} <= chips


def test_engines_inherit_memory_and_scheduler_from_their_base():
    vllm, generic, ideal = (catalog.load("engines", name) for name in ("vllm", "generic", "ideal"))
    assert vllm["memory"] == {"reserve": 3.892e9, "usable_fraction": 0.92} and generic["memory"]["usable_fraction"] == 0.9
    assert vllm["scheduler"]["step_overhead"] == generic["scheduler"]["step_overhead"] and "memory.reserve" in vllm["provenance"]
    assert ideal["memory"] == {"reserve": 0, "usable_fraction": 1} and {v for k, v in ideal["scheduler"].items() if k != "mixing"} == {0}


def test_default_prices_are_the_latest_three_year_rent():
    price = catalog.load("accelerators", "h200_sxm")["price"]
    assert price["rent"] * 3600 == pytest.approx(2.90) and price["own"] * 3600 == pytest.approx(1.22)
    assert price["kind"] == "3-year commitment"
    row = {r[0]: r for r in catalog.sources(catalog.load("accelerators", "h200_sxm"))}["price.rent"]
    assert row[2] == "USD/s" and row[4] == "2026-07" and "SemiAnalysis" in row[3]


def test_chips_without_a_three_year_rent_fall_back_by_name_or_say_why_not():
    def price(name):
        return catalog.load("accelerators", name)["price"]

    assert price("tpu_v5p")["rent"] * 3600 == pytest.approx(1.89) and "3-year" in price("tpu_v5p")["kind"]
    assert price("a100_80g_sxm")["rent"] * 3600 == pytest.approx(1.30) and "on demand" in price("a100_80g_sxm")["kind"]
    assert price("vr200")["rent"] is None and "no dated rental price" in price("vr200")["reason"]
    assert not set(pricing.TERMS) & {"spot", "list"}, "what can be withdrawn or is not paid never becomes a default"


def test_a_price_of_your_own_wins(tmp_path):
    own = {"accelerator": "h200_sxm", "price": {"rent": "2.40 USD/h"}}
    machine = catalog.hardware(own)
    assert machine["price"]["rent"] * 3600 == pytest.approx(2.40) and machine["price"]["kind"] == "stated by the system"
    assert catalog.hardware("h200_sxm")["price"]["rent"] * 3600 == pytest.approx(2.90)


@pytest.mark.parametrize("name", catalog.names("workloads"))
def test_a_workload_is_consistent(name):
    work = catalog.load("workloads", name)
    for length in (work["isl"], work["osl"]):
        assert length["median"] <= length["mean"]
        if length["median"] < length["mean"]:  # lognormal
            assert length["median"] * math.exp(length["sigma"] ** 2 / 2) == pytest.approx(length["mean"], rel=0.15)
    assert 0 <= work["prefix_hit"] < 1 and work["tok_per_task"] >= work["osl"]["mean"]
    assert work["interactive"] == ("slo" in work)


def test_memory_tiers_get_cheaper_as_they_get_slower():
    order = ("hbm3e", "host_dram", "nvme", "remote_flash", "hdd")
    tiers = [catalog.load("memory", name) for name in order]
    for faster, slower in pairwise(tiers):
        assert faster["bandwidth"] > slower["bandwidth"] and faster["latency"] < slower["latency"]
    assert tiers[1]["price"] > tiers[2]["price"] > tiers[4]["price"]
    assert catalog.find("memory", "DDR5").name == "host_dram"


CHIP = """name: mine
vendor: NVIDIA
source: our datasheet
date: 2026-08
confidence: vendor
peak: {bf16: 1 PFLOP/s}
hbm: {capacity: 100 GB, bandwidth: 4 TB/s}
scale_up: {bandwidth: 450 GB/s, size: 8, topology: switch}
scale_out: {bandwidth: 50 GB/s}
host: {bandwidth: 63 GB/s, memory: 256 GB}
power: {tdp: 700 W, all_in: 1.2 kW}
"""
WRONG = [
    ("hbm: {capacity: 100 GB", "hbm: {capcity: 100 GB", 7, 7, "unknown key 'capcity'"),
    ("capacity: 100 GB", "capacity: 100 W", 7, 17, "unit 'W' is [W], this field is [byte]"),
    ("capacity: 100 GB", "capacity: 100", 7, 17, "a unit is missing"),
    ("capacity: 100 GB", "capacity: {source: x}", 7, 17, "needs 'value:'"),
    ("capacity: 100 GB", "capacity: {value: 1 GB, unit: x}", 7, 31, "unknown key 'unit'"),
    ("size: 8", "size: 8.5", 8, 39, "expected a whole number"),
    ("topology: switch", "topology: ring", 8, 52, "expected one of switch, mesh, torus, pcie"),
    ("confidence: vendor", "confidence: sure", 5, 13, "confidence is one of"),
    ("peak: {bf16: 1 PFLOP/s}", "peak: 1 PFLOP/s", 6, 7, "expected a block"),
    ("peak: {bf16: 1 PFLOP/s}\n", "", 1, 1, "'peak' is missing"),
    ("hbm: {", "hbm: {bandwidth: 2 TB/s, ", 7, 44, "duplicate key 'bandwidth'"),
]


@pytest.mark.parametrize(("old", "new", "line", "col", "message"), WRONG)
def test_what_is_wrong_in_a_file_is_said_with_its_place(tmp_path, old, new, line, col, message):
    path = tmp_path / "mine.yaml"
    path.write_text(CHIP)
    assert catalog.load("accelerators", path)["hbm"]["capacity"] == 1e11
    path.write_text(CHIP.replace(old, new))
    with pytest.raises(SpecError) as caught:
        catalog.load("accelerators", str(path))
    first = caught.value.diagnostics[0]
    assert (message in first.message, first.path, first.line, first.col) == (True, str(path), line, col), str(caught.value)


def test_all_problems_of_a_file_come_at_once(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(CHIP.replace("100 GB", "100 W").replace("63 GB/s", "63").replace("size: 8", "siz: 8"))
    with pytest.raises(SpecError) as caught:
        catalog.load("accelerators", path)
    assert len(caught.value.diagnostics) == 3


def test_a_system_of_your_own_by_path_with_a_chip_beside_it(tmp_path):
    (tmp_path / "chip.yaml").write_text(CHIP + "like: h100_sxm\n")
    (tmp_path / "node.yaml").write_text("accelerator: chip.yaml\nscale_up: {size: 16}\n")
    machine = catalog.hardware(tmp_path / "node.yaml")
    assert (machine["accelerator"], machine["system"], machine["scale_up"]["size"]) == ("mine", "node", 16)
    assert machine["price"]["rent"] is None
    assert catalog.kernel_constants("vllm", machine)["origin"]["gemm.bf16"] == "vllm h100_sxm (like h100_sxm)"
    assert catalog.hardware(tmp_path / "chip.yaml")["scale_up"]["size"] == 8
    two_lines = tmp_path / "two.yaml"
    two_lines.write_text("accelerator: h200_sxm\nscale_up: {size: 16}\n")
    machine = catalog.hardware(str(two_lines))
    assert (machine["name"], machine["scale_up"]["size"], machine["scale_up"]["bandwidth"]) == ("h200_sxm", 16, 450e9)


def test_a_part_of_a_torus_has_no_stated_shape():
    assert catalog.hardware("tpu_v5p_pod")["scale_up"]["torus_dims"] == [16, 20, 28]
    assert "torus_dims" not in catalog.hardware({"accelerator": "tpu_v5p", "scale_up": {"size": 64}})["scale_up"]


def test_unknown_names_suggest_near_ones():
    asked = [("accelerators", "h200_sx", "h200_sxm"), ("systems", "gb200_nvl27", "gb200_nvl72"), ("engine", "vllm", "engines")]
    for kind, name, hint in asked:
        with pytest.raises(SpecError, match=hint):
            catalog.load(kind, name)
    with pytest.raises(SpecError, match="one of the engines"):
        catalog.load("accelerators", "vllm")


def test_a_record_is_the_callers_own():
    catalog.load("accelerators", "h100_sxm")["peak"]["bf16"] = 0
    catalog.kernel_constants("vllm", "h100_sxm")["gemm"]["bf16"]["t0"] = 1
    assert catalog.load("accelerators", "h100_sxm")["peak"]["bf16"] == 989e12
    assert catalog.kernel_constants("vllm", "h100_sxm")["gemm"]["bf16"]["t0"] < 1e-5


def test_the_short_cut_for_quantities_equals_the_units_module():
    for (text, unit), (multiply, divide) in provenance._FACTORS.items():
        assert 7.5 * multiply / divide == pytest.approx(units.quantity(f"7.5 {text}", unit), rel=1e-14), text


def test_nothing_is_read_at_import_and_shipped_files_need_no_unit_library():
    code = (
        "import sys; from codesign import catalog; from codesign.catalog import loader\n"
        "assert loader._plain.cache_info().currsize == 0 and not {'pint', 'numpy', 'pandas'} & set(sys.modules)\n"
        "catalog.load('accelerators', 'h200_sxm'); [catalog.names(kind) for kind in catalog.KINDS]; assert 'pint' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
