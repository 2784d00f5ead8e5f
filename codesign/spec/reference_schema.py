"""What a study says about the designs that its front is set beside."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError, model_validator

from codesign.spec.errors import BadValue
from codesign.spec.fields import Keys, Overrides, Tokens


class Reference(Keys):
    """A design that exists, shown beside the front: a model or a measured deployment."""

    model: str | None = None
    """Model of the catalog by name, or the path of a model file, a Hugging Face `config.json` or Megatron-LM arguments."""
    measured: Annotated[str, Field(pattern=r"^.*\.csv#.+$")] | None = None
    """A row of inference evidence, `FILE.csv#ID` (the columns of `codesign validate`)."""
    name: str | None = None
    """What the report calls it."""
    precision: Overrides = Field(default_factory=dict)
    """`weight_bits`, `kv_bits`, `act_bits` where it is served in others than it was released in."""
    pretrain_tok: Tokens | None = None
    """Tokens it was trained on, where the catalog does not know them."""

    @model_validator(mode="before")
    @classmethod
    def _text_alone(cls, value: Any) -> Any:
        return {"measured" if ".csv#" in value else "model": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_of(self) -> Reference:
        if (self.model is None) == (self.measured is None):
            raise BadValue("a reference is a model or a measured deployment", hint="write deepseek-v3, path/to/config.json or FILE.csv#ID")
        return self


References = Annotated[list[Reference], BeforeValidator(lambda value: [value] if isinstance(value, str | dict) else value)]


def read_references(texts: list[str]) -> list[Reference]:
    """References of a command line: names of models, paths, `FILE.csv#ID`."""
    try:
        return TypeAdapter(References).validate_python(texts)
    except ValidationError as error:
        raise BadValue("; ".join(str(detail.get("ctx", {}).get("error", detail["msg"])) for detail in error.errors())) from None
