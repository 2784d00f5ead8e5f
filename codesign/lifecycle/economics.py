"""From devices, power and tokens per second to USD, kWh and days.

A rented device-second is all-in (power, building, people); energy cost is added only for owned hardware.
Replicas and scale-up domains are integers, and the idle devices of an occupied domain are paid for.
"""

import numpy as np

DAY_S = 86400.0
KWH_J = 3.6e6
_ROUNDING = 1e-12  # relative; keeps ceil(3.0000000000000004) at 3


def _ceil(x):
    return np.ceil(np.asarray(x, float) * (1.0 - _ROUNDING))


def usd_per_tok(usd_per_device_s, n_devices, tok_per_s):
    """Cost of a token: price * devices / throughput [USD/tok]; inf at zero throughput.

    usd_per_device_s [USD/s], n_devices [1], tok_per_s [tok/s] of all those devices, broadcastable.

    >>> round(float(usd_per_tok(2.0 / 3600, 8, 10_000)) * 1e6, 3)
    0.444
    """
    usd_per_s = np.asarray(usd_per_device_s, float) * n_devices
    rate = np.asarray(tok_per_s, float)
    return np.where(rate > 0, usd_per_s / np.where(rate > 0, rate, 1.0), np.inf)


def duration_s(tok, tok_per_s):
    """Time to process tokens: tok / rate [s]; 0 for no tokens, inf at zero rate.

    >>> float(duration_s(8.64e12, 1e6) / DAY_S)
    100.0
    """
    tok, rate = np.asarray(tok, float), np.asarray(tok_per_s, float)
    return np.where(tok > 0, np.where(rate > 0, tok / np.where(rate > 0, rate, 1.0), np.inf), 0.0)


def phase_usd(usd_per_device_s, n_devices, phase_s):
    """Cost of holding devices for a phase: price * charged devices * time [USD].

    usd_per_device_s [USD/s], n_devices: charged devices [1], phase_s [s].

    >>> round(float(phase_usd(2.0 / 3600, 2048, 60 * DAY_S)) / 1e6, 2)
    5.9
    """
    return np.asarray(usd_per_device_s, float) * n_devices * phase_s


def n_replicas(mean_tok_per_s, peak_to_mean, capacity_tok_per_s):
    """Replicas for peak demand: ceil(mean * peak_to_mean / capacity) [1]; inf when a replica serves nothing.

    mean_tok_per_s: demand in output tokens [tok/s]; peak_to_mean >= 1 [1]; capacity of one replica [tok/s].

    >>> n_replicas(2e6, 1.5, [4e5, 7e5]).tolist()
    [8.0, 5.0]
    """
    peak = np.asarray(mean_tok_per_s, float) * np.maximum(peak_to_mean, 1.0)
    capacity = np.asarray(capacity_tok_per_s, float)
    needed = np.where(capacity > 0, _ceil(peak / np.where(capacity > 0, capacity, 1.0)), np.inf)
    return np.where(peak > 0, needed, 0.0)


def charged_devices(n_replicas, devices_per_replica, domain_devices):
    """Devices paid for: whole scale-up domains, idle devices included [1].

    Replica <= domain:  ceil(replicas / floor(domain / replica)) domains;  larger: ceil(replica / domain) per
    replica.

    n_replicas, devices_per_replica, domain_devices [1]; domain_devices = 1 charges exactly the devices used.

    >>> charged_devices([1, 5, 2], [16, 16, 100], [72, 72, 72]).tolist()
    [72.0, 144.0, 288.0]
    """
    size, domain = np.asarray(devices_per_replica, float), np.asarray(domain_devices, float)
    per_domain = np.maximum(np.floor(domain / size), 1.0)
    packed = _ceil(np.asarray(n_replicas, float) / per_domain) * domain
    spread = np.asarray(n_replicas, float) * _ceil(size / domain) * domain
    return np.where(size <= domain, packed, spread)


def usd_per_mtok(serving_usd_per_s, mean_out_tok_per_s):
    """All serving cost per 1e6 output tokens at mean load: prefill, decode, KV, idle; no training [USD/Mtok].

    serving_usd_per_s: price * charged devices of every serving pool [USD/s]; mean_out_tok_per_s [tok/s].

    >>> round(float(usd_per_mtok(144 * 4.0 / 3600, 2e5)), 2)
    0.8
    """
    return 1e6 * usd_per_tok(serving_usd_per_s, 1, mean_out_tok_per_s)


def usd_per_task(usd_per_mtok, out_tok_per_task):
    """Cost of one task of the workload: output tokens * USD per 1e6 output tokens [USD].

    usd_per_mtok covers the task's input too (all serving cost is carried by output tokens). out_tok_per_task
    [tok].

    >>> float(usd_per_task(0.8, 50_000))
    0.04
    """
    return np.asarray(usd_per_mtok, float) * np.asarray(out_tok_per_task, float) / 1e6


def energy_j_per_tok(power_w, n_devices, tok_per_s, pue=1.0):
    """Energy of a token at the wall: power * devices * PUE / throughput [J/tok]; inf at zero throughput.

    power_w: mean all-in power of a device [W]; pue: facility over IT power, >= 1 [1]; tok_per_s [tok/s].

    >>> float(energy_j_per_tok(1400.0, 72, 1.2e5, pue=1.25))
    1.05
    """
    return usd_per_tok(np.asarray(power_w, float) * pue, n_devices, tok_per_s)


def energy_kwh(power_w, n_devices, phase_s, pue=1.0):
    """Energy of a phase at the wall: power * devices * time * PUE / 3.6e6 [kWh].

    power_w: mean all-in power of a device [W], n_devices [1], phase_s [s], pue [1].

    >>> float(energy_kwh(1000.0, 1000, 3600.0, pue=1.2))
    1200.0
    """
    return np.asarray(power_w, float) * n_devices * phase_s * pue / KWH_J


def energy_usd(energy_kwh, usd_per_kwh):
    """Electricity bill of owned hardware: kWh * price [USD]; energy_kwh [kWh], usd_per_kwh [USD/kWh].

    >>> float(energy_usd(1200.0, 0.08))
    96.0
    """
    return np.asarray(energy_kwh, float) * usd_per_kwh
