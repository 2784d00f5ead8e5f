"""Loss from effective parameters and tokens, and the compute a dense model would need for the same loss."""

from dataclasses import dataclass, fields, replace

import numpy as np

from codesign.lifecycle.quality_factors import DEFAULT, Factors, quant_damage, quant_factor

REPEAT_VALUE = 15.39  # R*: after about 15 further epochs repeats stop paying; arXiv 2305.16264
_BISECTIONS = 60  # halves an interval of e^50 to 1e-16


@dataclass(frozen=True)
class QualityLaw:
    """L = E + A N^-alpha + B D^-beta in nats per token, with the factors that turn a design into N.

    E [nat], A, B [nat], alpha, beta [1]; N counts parameters without the input embedding, D tokens.
    """

    name: str
    E: float
    A: float
    alpha: float
    B: float
    beta: float
    source: str
    factors: Factors = DEFAULT


LAWS = {
    "central": QualityLaw(
        "central",
        1.8172,
        482.01,
        0.3478,
        2085.43,
        0.3658,
        "arXiv 2404.10102 (corrected fit of the Chinchilla runs of arXiv 2203.15556; 57M-16B, D/N 0.4-341)",
    ),
    "pooled": QualityLaw(
        "pooled",
        1.638,
        145.0,
        0.2771,
        652.2,
        0.3084,
        "520 public runs of arXiv 2404.10102, 2403.08540 and 2502.06857 refitted with shared exponents; level of the Chinchilla corpus",
    ),
}
CENTRAL, POOLED = LAWS["central"], LAWS["pooled"]


def law_from_dict(data, base=CENTRAL):
    """A user's own law: any of E, A, alpha, B, beta, name, source, and `factors:`; the rest is the base's.

    >>> law = law_from_dict({"name": "mine", "alpha": 0.3, "factors": {"gqa": 0.98}})
    >>> law.alpha, law.beta, law.factors.gqa
    (0.3, 0.3658, 0.98)
    """
    data = dict(data)
    chosen = _checked(data.pop("factors", {}), Factors, "factors")
    data = _checked(data, QualityLaw, "quality law")
    law = replace(base, **data, factors=replace(base.factors, **chosen))
    if min(law.A, law.B, law.alpha, law.beta) <= 0:
        raise ValueError("a quality law needs A, B, alpha and beta above 0")
    return law


def _checked(data, cls, what):
    known = {field.name for field in fields(cls)}
    unknown = sorted(set(data) - known)
    if unknown:
        raise ValueError(f"unknown key in {what}: {', '.join(unknown)} (known: {', '.join(sorted(known))})")
    return dict(data)


def effective_tokens(tok, unique_tok=np.inf):
    """Fresh tokens that would teach as much as the (partly repeated) tokens seen.

    D' = U (1 + R* (1 - exp(-R/R*))),  R = max(0, D/U - 1),  R* = 15.39

    tok D, unique_tok U [tok], broadcastable. Returns D' [tok], <= D. Source: arXiv 2305.16264 (182 runs, <=
    9B, <= 1,500 epochs). Valid to about 16 epochs.

    >>> [round(float(effective_tokens(d, 1e12) / 1e12), 2) for d in (0.5e12, 1e12, 4e12, 1e15)]
    [0.5, 1.0, 3.73, 16.39]
    """
    tok, unique = np.broadcast_arrays(np.asarray(tok, float), np.asarray(unique_tok, float))
    finite = np.where(np.isfinite(unique), unique, 1.0)
    repeats = np.maximum(tok / np.maximum(finite, 1.0) - 1.0, 0.0)
    walled = finite * (1.0 - REPEAT_VALUE * np.expm1(-repeats / REPEAT_VALUE))
    return np.where(np.isfinite(unique) & (tok > unique), walled, tok)


def tokens_for_effective(effective_tok, unique_tok=np.inf):
    """Inverse of `effective_tokens`: tokens to train on; inf where repetition can never reach it [tok].

    D = U (1 - R* ln(1 - (D'/U - 1)/R*)) for D' > U

    >>> round(float(tokens_for_effective(effective_tokens(4e12, 1e12), 1e12)) / 1e12, 6)
    4.0
    >>> float(tokens_for_effective(17e12, 1e12))
    inf
    """
    wanted, unique = np.broadcast_arrays(np.asarray(effective_tok, float), np.asarray(unique_tok, float))
    finite = np.where(np.isfinite(unique), unique, 1.0)
    left = 1.0 - (wanted / np.maximum(finite, 1.0) - 1.0) / REPEAT_VALUE
    repeated = finite * (1.0 - REPEAT_VALUE * np.log(np.clip(left, 1e-300, 1.0)))
    repeated = np.where(left > 0, repeated, np.inf)
    return np.where(np.isfinite(unique) & (wanted > unique), repeated, wanted)


def excess_loss(n_eff, d_eff, law=CENTRAL):
    """Reducible loss A N^-alpha + B D^-beta [nat]; n_eff [1], d_eff [tok]; inf at zero tokens.

    >>> round(float(excess_loss(70e9, 1.4e12)), 4)
    0.1567
    """
    with np.errstate(divide="ignore"):
        data = law.B * np.asarray(d_eff, float) ** -law.beta
        return law.A * np.asarray(n_eff, float) ** -law.alpha + data


def loss(n_eff, d_eff, law=CENTRAL):
    """Cross-entropy per token: L = E + A N_eff^-alpha + B D_eff^-beta [nat].

    n_eff [1] effective parameters, d_eff [tok] effective tokens, broadcastable. Source: `law.source`;
    relative error about 1 % inside the fitted range, and between laws outside it.

    >>> round(float(loss(70e9, 1.4e12)), 3)
    1.974
    """
    return law.E + excess_loss(n_eff, d_eff, law)


def compute_optimal(c_flop, law=CENTRAL):
    """Dense model of lowest loss for a training compute: (N, D) minimising L at 6 N D = C.

    alpha A N^-alpha = beta B D^-beta and 6 N D = C give N^(alpha+beta) = (alpha A / beta B) (C/6)^beta.

    c_flop [FLOP]. Returns (n [1], tok [tok]). Source: arXiv 2203.15556 Eq. 4.

    >>> n, tok = compute_optimal(5.9e23)
    >>> round(float(n) / 1e9), round(float(tok / n))
    (73, 18)
    """
    nd = np.asarray(c_flop, float) / 6.0
    n = (law.alpha * law.A / (law.beta * law.B) * nd**law.beta) ** (1.0 / (law.alpha + law.beta))
    return n, nd / n


def equivalent_compute(loss_nat, law=CENTRAL):
    """Training compute (and size) of the compute-optimal dense bf16 model that reaches this loss.

    Minimise 6 N D at A N^-alpha + B D^-beta = X, X = L - E. The Lagrange condition alpha A N^-alpha = beta B
    D^-beta splits X into A N^-alpha = X beta/(alpha+beta) and B D^-beta = X alpha/(alpha+beta), hence
      n_eq = (A (alpha+beta) / (beta X))^(1/alpha),  D = (B (alpha+beta) / (alpha X))^(1/beta),  c_eq = 6 n_eq
      D.

    loss_nat [nat]. Returns (c_eq_flop [FLOP], n_eq [1]); inf at or below the irreducible loss E.

    >>> c, n = equivalent_compute(loss(1e10, 1e12))
    >>> f"{c:.2e} {n:.2e}"
    '4.75e+22 2.01e+10'
    """
    excess = np.asarray(loss_nat, float) - law.E
    return _compute_from_excess(excess, law)


def _compute_from_excess(excess, law):
    total = law.alpha + law.beta
    safe = np.where(excess > 0, excess, 1.0)
    n = (law.A * total / (law.beta * safe)) ** (1.0 / law.alpha)
    tok = (law.B * total / (law.alpha * safe)) ** (1.0 / law.beta)
    reached = excess > 0
    return np.where(reached, 6.0 * n * tok, np.inf), np.where(reached, n, np.inf)


def excess_of_compute(c_eq_flop, law=CENTRAL):
    """Reducible loss [nat] of the compute-optimal model of c_eq_flop [FLOP]: undoes `equivalent_compute`.

    X^(1/alpha + 1/beta) = (6 / c_eq) (A (alpha+beta)/beta)^(1/alpha) (B (alpha+beta)/alpha)^(1/beta)

    >>> float(np.round(equivalent_compute(CENTRAL.E + excess_of_compute(1e24))[0] / 1e24, 9))
    1.0
    """
    total = law.alpha + law.beta
    log_x = (
        np.log(law.A * total / law.beta) / law.alpha
        + np.log(law.B * total / law.alpha) / law.beta
        - np.log(np.asarray(c_eq_flop, float) / 6.0)
    ) / (1.0 / law.alpha + 1.0 / law.beta)
    return np.exp(log_x)


def marginal_loss(n_base, n_active, tok, c_quant=0.0, law=CENTRAL, unique_tok=np.inf):
    """dX/dlnD of the deployed model [nat]: more tokens teach, but also make the weights harder to quantise.

    dX/dlnD = alpha p h A N_eff^-alpha - beta B D'^-beta dlnD'/dlnD,  h = -ln f_quant, p = 0.25 the power of
    D/N in h

    n_base: N_eff before quantisation [1]; n_active [1]; tok D [tok]; c_quant [1]. Crosses zero at most once,
    rising.

    >>> bool(marginal_loss(1e10, 1e10, 1e12) < 0)
    True
    """
    f = law.factors
    h = quant_damage(np.asarray(tok, float) / n_active, c_quant, f)
    size = law.A * np.asarray(n_base, float) ** -law.alpha * np.exp(np.minimum(law.alpha * h, 600.0))
    d_eff = effective_tokens(tok, unique_tok)
    repeats = np.maximum(tok / np.asarray(unique_tok, float) - 1.0, 0.0)
    gain = tok * np.exp(-repeats / REPEAT_VALUE) / d_eff
    return law.alpha * f.quant_power * h * size - law.beta * law.B * d_eff**-law.beta * gain


def useful_training_tok(n_base, n_active, tok, c_quant=0.0, law=CENTRAL, unique_tok=np.inf):
    """Tokens of a run at which the *deployed* model is best: min(D, root of `marginal_loss`) [tok].

    Who trains on D tokens also owns every earlier checkpoint (annealed), so quality never falls with tokens:
    beyond this point further training of a model that will be quantised after training is waste (effect:
    arXiv 2411.04330).

    >>> float(useful_training_tok(1e10, 1e10, 1e13)) == 1e13
    True
    >>> float(useful_training_tok(1e9, 1e9, 2e13, c_quant=1.0)) < 1e13
    True
    """
    arrays = _together(n_base, n_active, tok, c_quant, unique_tok)
    n_base, n_active, tok, c_quant, unique = (np.atleast_1d(x) for x in arrays)
    best = tok.copy()
    past = (c_quant > 0) & (tok > 0)
    past[past] = marginal_loss(n_base[past], n_active[past], tok[past], c_quant[past], law, unique[past]) > 0
    if past.any():
        args = n_base[past], n_active[past]

        def rising(x):
            return marginal_loss(*args, np.exp(x), c_quant[past], law, unique[past]) > 0

        best[past] = np.exp(bisect(rising, np.zeros(past.sum()), np.log(tok[past])))
    return best.reshape(arrays[0].shape)[()]


def _together(*arrays):
    return np.broadcast_arrays(*(np.asarray(x, float) for x in arrays))


def bisect(above, low, high):
    """Vectorised bisection: the x in [low, high] where the increasing condition `above(x)` turns true."""
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        up = above(middle)
        low, high = np.where(up, low, middle), np.where(up, middle, high)
    return low


def tokens_for_quality(n_eff, c_eq_flop, law=CENTRAL, unique_tok=np.inf, *, n_active=None, c_quant=0.0):
    """Pretraining tokens at which a model of n_eff effective parameters reaches a quality.

    D' = (B / (X(c_eq) - A N_eff^-alpha))^(1/beta), then the inverse of D'(D, U); inf where N_eff, the data
    wall or quantisation cannot reach it. With c_quant > 0, n_eff excludes the quantisation factor, n_active
    is needed, and X(D) = c_eq's is solved on its falling branch by bisection.

    n_eff [1], c_eq_flop [FLOP], unique_tok [tok], n_active [1], c_quant [1]. Returns tok [tok].

    >>> n, d = 1e10, 3e12
    >>> round(float(tokens_for_quality(n, equivalent_compute(loss(n, d))[0])) / d, 6)
    1.0
    >>> float(tokens_for_quality(1e9, 1e26))
    inf
    """
    excess = excess_of_compute(c_eq_flop, law)
    left = excess - law.A * np.asarray(n_eff, float) ** -law.alpha
    reachable = left > 0
    d_eff = np.where(reachable, (law.B / np.where(reachable, left, 1.0)) ** (1.0 / law.beta), np.inf)
    closed = tokens_for_effective(d_eff, unique_tok)
    if n_active is None or not np.any(np.asarray(c_quant) > 0):
        return closed
    n_eff, n_active, c_quant, unique, excess, closed = _together(n_eff, n_active, c_quant, unique_tok, excess, closed)
    start = np.where(np.isfinite(closed), closed, 1.0)
    best = useful_training_tok(n_eff, n_active, 1e22, c_quant, law, unique)

    def reached(tok):
        n_quant = n_eff * quant_factor(tok / n_active, c_quant, law.factors)
        return excess_loss(n_quant, effective_tokens(tok, unique), law) <= excess

    solved = np.exp(bisect(lambda x: reached(np.exp(x)), np.log(start), np.log(np.maximum(best, start))))
    solved = np.where(np.isfinite(closed) & reached(best), solved, np.inf)
    return np.where(c_quant > 0, solved, closed)
