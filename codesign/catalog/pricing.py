"""The default price of an accelerator: the latest 3-year rent, else the longest-term dated rent there is."""

from __future__ import annotations

from functools import cache
from typing import Any

from codesign.catalog import loader

TERMS = {"3yr": "3-year commitment", "1yr": "1-year contract", "on_demand": "on demand"}
"""Rental terms that can stand for owning, best first.  Spot and list prices are kept in the catalog but never become a default."""


def with_price(record: dict[str, Any]) -> dict[str, Any]:
    """The accelerator record with `price`: {rent, own [USD/s], kind, ...}; a price that the record states itself wins.

    Without any dated price `rent` is None and `price.reason` says so: cost columns then need `price.rent` from the user.
    """
    own = record.get("price") or {}
    if own.get("rent") is not None:
        own.setdefault("kind", "stated by the file")
        return record
    price, origin = _defaults().get(record["name"], ({"rent": None, "reason": "no dated rental price was found"}, {}))
    record["price"] = {**price, **own}
    for key, where in origin.items():
        record["provenance"].setdefault(f"price.{key}", dict(where))
    return record


@cache
def _defaults() -> dict[str, tuple[dict[str, Any], dict[str, dict[str, str]]]]:
    """Accelerator -> (price block, provenance of its figures)."""
    books = [loader.load("prices", name) for name in loader.names("prices")]
    chosen: dict[str, tuple[dict[str, Any], dict[str, dict[str, str]]]] = {}
    for rank in sorted(_offers(books), key=lambda offer: (offer[0], offer[1]), reverse=True):
        _, _, chip, price, origin = rank
        chosen.setdefault(chip, (price, origin))
    return chosen


def _offers(books: list[dict[str, Any]]) -> list[tuple[int, str, str, dict[str, Any], dict[str, dict[str, str]]]]:
    """(rank of the term, date, accelerator, price block, provenance)."""
    offers = []
    for book in books:
        origin = book["provenance"]
        for chip, rate in book.get("rates", {}).items():
            where = origin[f"rates.{chip}.rent_3yr"]
            price = {"rent": rate["rent_3yr"], "own": rate["own"], "kind": rate.get("kind", TERMS["3yr"])}
            offers.append((len(TERMS), where["date"], chip, price, {"rent": where, "own": origin[f"rates.{chip}.own"]}))
        for key, rental in book.get("rentals", {}).items():
            if rental["term"] in TERMS and "price" in rental:
                where = origin[f"rentals.{key}.price"]
                price = {"rent": rental["price"], "kind": f"{TERMS[rental['term']]}, {rental['place']}"}
                rank = len(TERMS) - list(TERMS).index(rental["term"])
                offers.append((rank, where["date"], rental["accelerator"], price, {"rent": where}))
    return offers
