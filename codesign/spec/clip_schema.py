"""Key `workload.clip` of a study file: videos that a diffusion transformer makes, instead of answers that a language model writes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from codesign.spec.fields import Integer, Keys, Number, Seconds, Tokens, TokensOrNone


class Clip(Keys):
    """One clip of video and how many are asked for; the base model is the diffusion transformer."""

    n_tok: Tokens
    """Latent tokens of one clip: (1 + (frames - 1)/4) (height/16) (width/16) for Wan 2.1; each attends to all of them."""
    seconds: Seconds
    """Length of one clip."""
    per_hour: Annotated[Number, Field(gt=0)]
    """Clips asked for per hour, on average."""
    text_tok: TokensOrNone = 0.0
    """Text tokens that every block attends to; 0 for none."""
    n_steps: Annotated[Integer, Field(ge=1)] = 50
    """Denoising steps of one clip."""
    n_guidance: Annotated[Integer, Field(ge=1)] = 2
    """Passes per step: 2 with classifier-free guidance, 1 without."""
