"""Where the quality model should be doubted (warnings) and where it must not rank designs at all (refusals).

Both return {readable sentence: boolean mask}; the sentence is the message the user reads, the mask the
designs it hits.
"""

import numpy as np

from codesign.lifecycle.quality_factors import LONG_CONTEXT_TOK

MAX_TOK_PER_PARAM = 20_000.0  # tokens per active parameter, and epochs of unique data, beyond which nothing is ranked
MAX_EPOCHS = 16.0

WARNED_BY = (  # the choices of a design that `warnings` looks at
    "granularity", "aspect_ratio", "attention", "n_heads", "n_kv_heads", "kv_lora_rank", "context_tok", "weight_bits", "c_fmt", "kv_bits",
)  # fmt: skip


def kumar_damage(n_active, tok, weight_bits):
    """Loss added by naive post-training quantisation: a monitor only, it over-predicts modern 4-bit formats.

    delta = 0.0598 D^0.5068 N^-0.3439 exp(-bits / 0.5907)  [nat]

    n_active [1], tok [tok], weight_bits [bit]. Source: arXiv 2411.04330 Table 2 (<= 1.7B, <= 26B tokens).

    >>> round(float(kumar_damage(7e9, 7e12, 4)), 2)
    0.09
    """
    per_bit = np.exp(-np.asarray(weight_bits, float) / 0.5907)
    return 0.0598 * np.asarray(tok, float) ** 0.5068 * np.asarray(n_active, float) ** -0.3439 * per_bit


def _masks(named, *shapes):
    shape = np.broadcast_shapes(*(np.shape(x) for x in (*shapes, *named.values())))
    return {sentence: np.broadcast_to(mask, shape) for sentence, mask in named.items()}


def warnings(
    n_active,
    n_total,
    tok,
    *,
    n_eff=1e9,
    c_eq_flop=0.0,
    unique_tok=np.inf,
    granularity=1.0,
    aspect_ratio=32.0,
    attention="mha",
    n_heads=1,
    n_kv_heads=1,
    kv_lora_rank=512,
    full_fraction=1.0,
    context_tok=0.0,
    weight_bits=16,
    c_fmt=1.0,
    kv_bits=16,
    useful_tok=np.inf,
):
    """Designs outside the range in which the quality model was fitted or checked, by reason.

    Arguments as in `quality.assess` plus its n_eff [1], c_eq_flop [FLOP] and useful_tok [tok]; all broadcast.
    Returns dict sentence -> mask [bool].

    >>> [k for k, v in warnings(7e9, 7e9, 15e12).items() if v]
    ['tokens per active parameter above 650: the loss laws were fitted to 640']
    """
    n_active, n_total, tok = (np.asarray(x, float) for x in (n_active, n_total, tok))
    ratio, over, aspect = n_total / n_active, tok / n_active, np.asarray(aspect_ratio, float)
    ptq = (np.asarray(weight_bits) < 8) & (np.asarray(c_fmt) > 0.15)
    shared = (np.asarray(attention) != "mla") & (np.asarray(n_kv_heads) < np.minimum(8, n_heads))
    long = (np.asarray(context_tok) > LONG_CONTEXT_TOK) & (np.asarray(full_fraction) < 1)
    epochs = tok / np.asarray(unique_tok, float)
    damaged = ptq & (kumar_damage(n_active, tok, weight_bits) > 0.1)
    return _masks(
        {
            "tokens per active parameter above 650: the loss laws were fitted to 640": over > 650,
            "tokens per active parameter below 20: under-trained, outside the range checked": over < 20,
            "total-to-active ratio above 33: the multiplier is extrapolated": ratio > 33,
            "active parameters outside 0.05-70B": (n_active < 0.05e9) | (n_active > 70e9),
            "total parameters above 1.1T": n_total > 1.1e12,
            "expert granularity above 16": (np.asarray(granularity) > 16) & (ratio > 1),
            "effective parameters above 200B: quality differences are below the law's error": np.asarray(n_eff) > 200e9,
            "equivalent compute above 1e25 FLOP is outside the fitted range of the quality law": np.asarray(c_eq_flop) > 1e25,
            "d_model / n_layers outside 16-130": (aspect < 16) | (aspect > 130),
            "fewer than 8 KV heads: published ablations disagree by 2x in parameters": shared,
            "MLA latent narrower than the 512 of the published ablations": (np.asarray(attention) == "mla")
            & (np.asarray(kv_lora_rank) < 512),
            "windowed or linear attention above 32k of context: short-context loss does not see the damage": long,
            "4-bit weights after training on fewer than 3B active parameters": ptq & (n_active < 3e9),
            "post-training quantisation may cost more than 0.1 nat": damaged,
            "trained past the point where quantisation after training takes back what tokens add": tok
            > 1.001 * np.asarray(useful_tok, float),
            "KV cache below 8 bits": np.asarray(kv_bits) < 8,
            "more than 4 epochs of unique data": epochs > 4,
        },
        ratio,
        over,
        n_eff,
        context_tok,
    )


def refusals(
    n_active,
    n_total,
    tok,
    *,
    unique_tok=np.inf,
    granularity=1.0,
    weight_bits=16,
    c_fmt=1.0,
    act_bits=16,
    kv_bits=16,
    train_bits=16,
    head_width_ratio=1.0,
):
    """Designs that the quality model must not rank: beyond every piece of evidence, by reason.

    Arguments as in `quality.assess`; head_width_ratio = n_heads d_head / d_model [1]. All broadcast.
    Returns dict sentence -> mask [bool].

    >>> [k for k, v in refusals(1e9, 80e9, 1e12).items() if v]
    ['total-to-active ratio above 64']
    """
    n_active, tok = np.asarray(n_active, float), np.asarray(tok, float)
    ratio = np.asarray(n_total, float) / n_active
    width = np.asarray(head_width_ratio, float)
    return _masks(
        {
            "total-to-active ratio above 64": ratio > 64,
            "tokens per active parameter above 20,000": tok / n_active > MAX_TOK_PER_PARAM,
            "weights below 4 bits without quantisation-aware training": (np.asarray(weight_bits) < 4) & (np.asarray(c_fmt) > 0.15),
            "weights below 3 bits": np.asarray(weight_bits) < 3,
            "activations, KV cache or training below 4 bits": (
                (np.asarray(act_bits) < 4) | (np.asarray(kv_bits) < 4) | (np.asarray(train_bits) < 4)
            ),
            "more than 16 epochs of unique data": tok / np.asarray(unique_tok, float) > MAX_EPOCHS,
            "expert granularity above 32": (np.asarray(granularity) > 32) & (ratio > 1),
            "n_heads * d_head / d_model outside 0.5-3": (width < 0.5) | (width > 3.0),
        },
        ratio,
        tok,
    )
