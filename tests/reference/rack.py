"""A scale-up domain in plain Python: links counted one by one, switches plane by plane, failures as a binomial sum.  No numpy."""

from __future__ import annotations

import math
from types import SimpleNamespace as Record


def domain(chip: Record, rack: Record, n: int) -> Record:
    """The bill of one domain of n devices, as `codesign.physics.rack.domain`."""
    link = chip.scale_up.bytes_per_s
    planes, device_w = math.ceil(link / rack.port_bytes_per_s), chip.all_in_w / rack.pue
    tiers = 1 if n <= rack.n_ports else 2 if n <= rack.n_ports**2 / 2 else 3
    one_tier = math.ceil(n * planes / rack.n_ports)
    switches = math.ceil((2 * tiers - 1) * n * planes / rack.n_ports)
    cables_each = 2 * math.ceil(link / rack.lane_bytes_per_s)
    slots_each = 1 / rack.devices_per_tray + planes / (rack.n_ports * rack.switches_per_tray)
    extra_w = 0.0
    for _ in range(2):
        holds = min(
            rack.max_cables // cables_each, rack.max_power_w // (device_w + extra_w), (rack.max_weight_kg - rack.frame_kg) // rack.device_kg,
            math.floor(rack.n_slots / slots_each + 1e-9),
        )  # fmt: skip
        holds = max(holds, 1)
        racks = 1 if rack.is_copper else math.ceil(n / holds)
        crossing = 0.0 if racks == 1 else (tiers - 1) * n if tiers > 1 else n * (1 - 1 / racks)  # links between racks, in devices' worth
        optics = math.ceil(2 * crossing * link / rack.optic_bytes_per_s)
        extra_w = ((switches - one_tier) * rack.switch_w + optics * rack.optic_w) / n
    here = math.ceil(n / racks) if racks > 1 else max(holds // n, 1) * n
    power = here * (device_w + extra_w)
    liquid = rack.liquid_usd / here if power > rack.air_power_w else 0.0
    spare, up = _spares(rack, n)
    return Record(
        n_cables=n * cables_each, n_tiers=tiers, n_switches=switches, n_racks=racks, n_optics=optics, power_w=power,
        weight_kg=rack.frame_kg + here * rack.device_kg, extra_w=extra_w,
        extra_usd=((switches - one_tier) * rack.switch_usd + optics * rack.optic_usd) / n + liquid, n_spare=spare, availability_frac=up,
    )  # fmt: skip


def working(trays: int, failed_share: float, spare_trays: int) -> float:
    return sum(math.comb(trays, k) * failed_share**k * (1 - failed_share) ** (trays - k) for k in range(min(spare_trays, trays) + 1))


def _spares(rack: Record, n: int):
    """Try every number of spare trays; the cheapest working device wins."""
    down = rack.devices_per_tray * rack.repair_s
    q = down / (16384 * 54 * 86400.0 / 419 + down)
    trays = math.ceil(n / rack.devices_per_tray)
    tried = range(9) if rack.n_spare < 0 else [rack.n_spare / rack.devices_per_tray]
    kept = [min(s * rack.devices_per_tray, n - 1) for s in tried]
    found = [(n / ((n - k) * working(trays, q, int(k // rack.devices_per_tray))), k) for k in kept]
    _, best = min(found, key=lambda pair: pair[0])
    return best, working(trays, q, int(best // rack.devices_per_tray))
