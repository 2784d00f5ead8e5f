"""What a scale-up domain of n devices takes: cables, switches and their tiers, racks, optics, power, weight, spares; and what it adds to
the price of a device.

A domain fits one rack of passive copper as long as cables, power, weight and slots allow and one tier of switches reaches all devices.
Beyond that it spans racks: links that leave a rack are optical, and a second tier of switches triples their number.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import bdtr

from codesign.physics.arrays import Arrays
from codesign.physics.failures import DEVICE_S_BETWEEN_FAILURES
from codesign.physics.hardware import Chip, Link, Reduction, Reductions

LIMITS = ("cables", "power", "weight", "slots", "radix")  # what ends a copper domain, in the order in which ties are named
MAX_SPARE_TRAYS = 8


@dataclass(frozen=True)
class Rack(Arrays):
    """One kind of rack for one kind of device: limits, switches, optics, prices.  Every field scalar or (A,)."""

    max_cables: np.ndarray
    max_power_w: np.ndarray
    air_power_w: np.ndarray  # up to here air cools a rack
    max_weight_kg: np.ndarray
    n_slots: np.ndarray  # trays of compute or switches
    lane_bytes_per_s: np.ndarray  # of one differential pair, one direction
    n_ports: np.ndarray  # of a switch
    port_bytes_per_s: np.ndarray
    switches_per_tray: np.ndarray
    switch_w: np.ndarray
    switch_usd: np.ndarray
    hop_s: np.ndarray
    optic_bytes_per_s: np.ndarray
    optic_w: np.ndarray
    optic_usd: np.ndarray
    liquid_usd: np.ndarray  # per rack
    device_kg: np.ndarray
    devices_per_tray: np.ndarray
    frame_kg: np.ndarray
    repair_s: np.ndarray
    life_s: np.ndarray  # over which parts are paid
    usd_per_j: np.ndarray  # electricity and the building, per joule of IT power
    pue: np.ndarray
    n_spare: np.ndarray  # devices kept idle per domain; -1: as many as are cheapest
    is_copper: np.ndarray  # one rack and one tier, or none


@dataclass(frozen=True)
class Domain(Arrays):
    """What one scale-up domain of n devices takes."""

    n_devices: np.ndarray
    n_cables: np.ndarray
    n_tiers: np.ndarray
    n_switches: np.ndarray
    n_racks: np.ndarray
    n_optics: np.ndarray
    power_w: np.ndarray  # of the fullest rack
    weight_kg: np.ndarray
    extra_w: np.ndarray  # per device, beyond one tier of copper
    extra_usd: np.ndarray
    n_spare: np.ndarray
    availability_frac: np.ndarray


def n_cables(n_devices, link_bytes_per_s, lane_bytes_per_s):
    """Passive copper cables of one differential pair each: n x 2 directions x link / lane [1].

    Parameters: n_devices [1], link_bytes_per_s per device and direction [byte/s], lane_bytes_per_s [byte/s].
    Source: SemiAnalysis, GB200 Hardware Architecture (2024-07): 5,184 in NVL72.

    >>> float(n_cables(72, 900e9, 25e9))
    5184.0
    """
    return n_devices * 2.0 * np.ceil(link_bytes_per_s / lane_bytes_per_s)


def n_tiers(n_devices, n_ports):
    """Tiers of switches that reach n devices without blocking: 1 up to p ports, 2 up to p^2/2, else 3 (fat tree).

    >>> [int(n_tiers(n, 72)) for n in (72, 73, 2592, 2593)]
    [1, 2, 2, 3]
    """
    n = np.asarray(n_devices, dtype=float)
    return 1.0 + (n > n_ports) + (n > n_ports * n_ports / 2.0)


def n_switches(n_devices, links_per_device, n_ports):
    """Switches of a non-blocking fat tree: (2 tiers - 1) n links / ports, rounded up.

    One port of every device on every plane.  NVL72 has 18; the announced NVL576 288 + 144 (SemiAnalysis, GB200 Hardware Architecture).

    >>> float(n_switches(72, 18, 72)), float(n_switches(576, 18, 72)), float(n_switches(8, 18, 72))
    (18.0, 432.0, 2.0)
    """
    return np.ceil((2.0 * n_tiers(n_devices, n_ports) - 1.0) * n_devices * links_per_device / n_ports)


def n_optics(n_devices, n_racks, tiers, link_bytes_per_s, optic_bytes_per_s):
    """Transceivers on the links that leave a rack, two per link: 2 n share link / module.

    One tier over several racks: switches of a plane stand in all racks, a share 1 - 1/racks of the links crosses.  More tiers: the lower
    one stays in the racks, every link between tiers leaves them.  162 cables (324 ends) tie two racks of 36 together, and NVL72 on
    optics alone would take 648 modules (SemiAnalysis, GB200 Hardware Architecture).

    >>> float(n_optics(72, 2, 1, 900e9, 200e9)), float(n_optics(576, 8, 2, 900e9, 200e9)), float(n_optics(72, 1, 1, 900e9, 200e9))
    (324.0, 5184.0, 0.0)
    """
    share = np.where(tiers > 1, tiers - 1.0, 1.0 - 1.0 / n_racks)
    return np.ceil(2.0 * n_devices * share * link_bytes_per_s / optic_bytes_per_s) * (n_racks > 1)


def device_limits(chip: Chip, rack: Rack, extra_w=0.0) -> dict[str, np.ndarray]:
    """Devices of one rack or, for the radix, of one tier, that each limit allows: {name of LIMITS: devices}.

    Power per device [W] is its all-in power without the facility's overhead, and `extra_w`; a compute tray brings the switch trays of its devices.
    """
    links = np.ceil(chip.scale_up.bytes_per_s / rack.port_bytes_per_s)
    slots = 1.0 / rack.devices_per_tray + links / (rack.n_ports * rack.switches_per_tray)
    return {
        "cables": np.floor(rack.max_cables / n_cables(1.0, chip.scale_up.bytes_per_s, rack.lane_bytes_per_s)),
        "power": np.floor(rack.max_power_w / (chip.all_in_w / rack.pue + extra_w)),
        "weight": np.floor((rack.max_weight_kg - rack.frame_kg) / rack.device_kg),
        "slots": np.floor(rack.n_slots / slots * (1.0 + 1e-12)),
        "radix": 1.0 * rack.n_ports,
    }


def largest_copper_domain(chip: Chip, rack: Rack) -> tuple[np.ndarray, np.ndarray]:
    """(devices of the largest domain in one rack and one tier, index into LIMITS of what ends it)."""
    table = np.stack(np.broadcast_arrays(*device_limits(chip, rack).values()))
    return table.min(axis=0), table.argmin(axis=0)


def availability(n_devices, devices_per_tray, n_spare, repair_s):
    """Probability that at least n - spare devices of a domain work: P(Bin(n/t, q) <= spare/t), a tray of t fails as one.

    q = t repair / (MTBF + t repair), MTBF 50,680 device-hours (arXiv 2407.21783 Table 5).  A domain with fewer is out of service as a
    whole: its blast radius is its size.  Parameters: counts [1], repair_s [s].  Returns [-].

    >>> round(float(availability(72, 4, 0, 12 * 3600)), 3), round(float(availability(576, 4, 0, 12 * 3600)), 3)
    (0.983, 0.873)
    """
    rest = devices_per_tray * repair_s
    trays = np.ceil(n_devices / devices_per_tray)
    spare = np.minimum(np.floor(n_spare / devices_per_tray), trays)
    return bdtr(spare, trays.astype(int), rest / (DEVICE_S_BETWEEN_FAILURES + rest))


def spares(n_devices, rack: Rack):
    """(devices kept idle, availability): whole trays, as many as make a working device cheapest, n / ((n - s) availability)."""
    n = np.asarray(n_devices, dtype=float)
    trays = np.arange(MAX_SPARE_TRAYS + 1).reshape((-1,) + (1,) * n.ndim)
    kept = trays * np.where(rack.n_spare < 0, rack.devices_per_tray, 0.0) + np.maximum(rack.n_spare, 0.0)
    kept = np.minimum(kept, n - 1.0)
    up = availability(n + 0.0 * kept, rack.devices_per_tray, kept, rack.repair_s)
    best = np.argmin(n / ((n - kept) * up), axis=0)[None]
    return np.take_along_axis(kept, best, axis=0)[0], np.take_along_axis(up, best, axis=0)[0]


def domain(chip: Chip, rack: Rack, n_devices) -> Domain:
    """Everything a domain of n devices takes.  Shapes: chip and rack scalar or (A,), n_devices (A,).

    Racks hold what cables, power, weight and slots allow; switches and optics beyond one tier of copper draw power in the same racks.
    """
    n, link = np.asarray(n_devices, dtype=float), chip.scale_up.bytes_per_s
    tiers, links = n_tiers(n, rack.n_ports), np.ceil(link / rack.port_bytes_per_s)
    switches = n_switches(n, links, rack.n_ports)
    more, extra_w = np.maximum(switches - np.ceil(n * links / rack.n_ports), 0.0), 0.0
    for _ in range(2):  # optics need racks, racks need the power of optics
        limits = device_limits(chip, rack, extra_w)
        per_rack = np.maximum(np.minimum.reduce(np.broadcast_arrays(*(limits[k] for k in LIMITS if k != "radix"))), 1.0)
        racks = np.where(rack.is_copper, 1.0, np.ceil(n / per_rack))
        optics = n_optics(n, racks, tiers, link, rack.optic_bytes_per_s)
        extra_w = (more * rack.switch_w + optics * rack.optic_w) / n
    # a rack holds as many whole domains as its limits allow, or its share of a larger one
    here = np.where(racks > 1, np.ceil(n / racks), np.maximum(np.floor(per_rack / n), 1.0) * n)
    power_w = here * (chip.all_in_w / rack.pue + extra_w)
    kept, up = spares(n, rack)
    extra_usd = (more * rack.switch_usd + optics * rack.optic_usd) / n + (power_w > rack.air_power_w) * rack.liquid_usd / here
    weight = rack.frame_kg + here * rack.device_kg
    return Domain(
        n, n_cables(n, link, rack.lane_bytes_per_s), tiers, switches, racks, optics, power_w, weight, extra_w, extra_usd, kept, up
    )


def with_domain(chip: Chip, rack: Rack, what: Domain, sold: Domain) -> Chip:
    """The chip in a domain `what`, where it is `sold` in another: usable devices, price, power and latency of the links.

    price per working device = (rent + (extra parts - those of the domain it is sold in) / life + extra power x its price) x n / ((n - spare) up).
    Each tier beyond the first adds two switch hops to every message inside the domain.
    """
    parts = (what.extra_usd - sold.extra_usd) / rack.life_s + (what.extra_w - sold.extra_w) * rack.pue * rack.usd_per_j
    usable = what.n_devices - what.n_spare
    share = what.n_devices / (usable * what.availability_frac)
    added = 2.0 * rack.hop_s * (what.n_tiers - sold.n_tiers)
    return replace(
        chip, scale_up_size=usable, usd_per_s=(chip.usd_per_s + parts) * share,
        all_in_w=(chip.all_in_w + (what.extra_w - sold.extra_w) * rack.pue) * share,
        scale_up=_later(chip.scale_up, added), reductions=_reductions_later(chip.reductions, added),
    )  # fmt: skip


def _later(link: Link, seconds) -> Link:
    names = ("gather_t0_s", "all_to_all_t0_s", "p2p_t0_s")
    return replace(link, **{name: np.maximum(getattr(link, name) + seconds, 0.0) for name in names})


def _reductions_later(fits: Reductions, seconds) -> Reductions:
    def later(fit: Reduction) -> Reduction:
        return replace(fit, **{k: np.maximum(getattr(fit, k) + seconds, 0.0) for k in ("one_shot_t0_s", "two_shot_t0_s")})

    return Reductions(*(later(fit) for fit in vars(fits).values()))


def violations(chip: Chip, rack: Rack, n_devices) -> dict[str, np.ndarray]:
    """Signed violation of each limit by a domain that must be one copper rack: n / allowed - 1; -1 where optics are allowed."""
    allowed = device_limits(chip, rack)
    return {name: np.where(rack.is_copper, n_devices / np.maximum(most, 1e-3) - 1.0, -1.0) for name, most in allowed.items()}
