"""From a scanner's words for its probe to a model token and a geometry.

The rules are data (``data/transducers.yaml``), and a site names probes of its own on top
(`dicom_node.harvest.site_transducers`). Where no rule speaks, or two sources contradict each other,
the geometry is unknown: a wrong label costs more than a missing one.
"""

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import yaml

from dicom_node.records import Geometry
from dicom_node.store.records import PROBE

#: What is read of Transducer Data (0018,5010): PS3.6 gives LO, 1-n, 64 characters each.
MOST_VALUES = 8
MOST_CHARACTERS = 64


@dataclass(frozen=True, kw_only=True)
class Transducer:
    """What is known of a probe."""

    #: model token, None when no rule knows it
    probe: str | None
    geometry: Geometry
    #: which rule spoke
    rule: str


@dataclass(frozen=True, kw_only=True)
class SiteTransducer:
    """A probe that the site named."""

    #: value of Transducer Data, as `normal_values` writes it
    transducer: str
    #: upper case; a part of Manufacturer (0008,0070), "" for every one
    manufacturer: str
    geometry: Geometry
    #: the model where `transducer` is a code for it
    probe: str | None


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One form of model names."""

    name: str
    pattern: re.Pattern[str]
    geometry: Geometry
    token: str | None
    examples: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Vendor:
    """The rules of one vendor."""

    name: str
    manufacturer: re.Pattern[str]
    model_name_is_probe: bool
    rules: tuple[Rule, ...]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Everything in the rule file."""

    vendors: tuple[Vendor, ...]
    generic: tuple[Rule, ...]
    #: Transducer Type to its geometry and to those that it does not contradict
    types: dict[str, tuple[Geometry, frozenset[Geometry]]]


def resolve(
    *,
    manufacturer: str,
    model_name: str,
    transducer_data: str,
    transducer_type: str,
    site: Sequence[SiteTransducer] = (),
) -> Transducer:
    r"""Find probe model and geometry.

    Parameters
    ----------
    manufacturer, model_name : str
        Manufacturer (0008,0070) and Manufacturer's Model Name (0008,1090).
    transducer_data : str
        Transducer Data (0018,5010), its values joined by ``\``. The model is the first value that a
        rule knows, wherever it stands.
    transducer_type : str
        Transducer Type (0018,6031).
    site : sequence of SiteTransducer
        Asked before the shipped rules, and right whatever Transducer Type says.
    """
    rules = load_rules()
    vendor = next((v for v in rules.vendors if v.manufacturer.search(manufacturer.upper())), None)
    values = list(normal_values(transducer_data))
    if vendor is not None and vendor.model_name_is_probe:
        values += normal_values(model_name)
    named = _by_site(site, manufacturer.upper(), values)
    if named is not None:
        return named
    found = _by_model(rules, vendor, values)
    stated = rules.types.get(_normal(transducer_type))
    if found is None and stated is not None:
        rule = f"transducer type {term_name(transducer_type)}"
        return Transducer(probe=None, geometry=stated[0], rule=rule)
    if found is None:
        return Transducer(probe=None, geometry=Geometry.UNKNOWN, rule="none")
    if stated is not None and found.geometry not in {*stated[1], Geometry.UNKNOWN}:
        rule = f"{found.rule} contradicts transducer type"
        return Transducer(probe=found.probe, geometry=Geometry.UNKNOWN, rule=rule)
    return found


@functools.cache
def load_rules() -> Rules:
    """Return the shipped rules."""
    text = (
        resources.files("dicom_node.harvest").joinpath("data/transducers.yaml").read_text("utf-8")
    )
    tree = yaml.safe_load(text)
    return Rules(
        vendors=tuple(
            Vendor(
                name=vendor["vendor"],
                manufacturer=re.compile(vendor["manufacturer"]),
                model_name_is_probe=vendor.get("model_name_is_probe", False),
                rules=tuple(_rule(vendor["vendor"], rule) for rule in vendor["rules"]),
            )
            for vendor in tree["vendors"]
        ),
        generic=tuple(_rule("generic", rule) for rule in tree["generic"]),
        types={
            term: (Geometry(value["geometry"]), frozenset(map(Geometry, value["fits"])))
            for term, value in tree["types"].items()
        },
    )


def _rule(vendor: str, values: dict[str, Any]) -> Rule:
    return Rule(
        name=f"{vendor} {values['name']}",
        pattern=re.compile(values["pattern"]),
        geometry=Geometry(values["geometry"]),
        token=values.get("token"),
        examples=tuple(values["examples"]),
    )


def _by_model(rules: Rules, vendor: Vendor | None, values: list[str]) -> Transducer | None:
    candidates = (*(vendor.rules if vendor else ()), *rules.generic)
    for value in values:
        for rule in candidates:
            if rule.pattern.fullmatch(value):
                # the token fits the rule's pattern, so no free text can pass
                probe = _token(rule.token or value)
                return Transducer(probe=probe, geometry=rule.geometry, rule=rule.name)
    return None


def _by_site(
    site: Sequence[SiteTransducer], manufacturer: str, values: list[str]
) -> Transducer | None:
    for value in values:
        for row in site:
            if row.transducer == value and row.manufacturer in manufacturer:
                probe = row.probe or _token(value)
                return Transducer(probe=probe, geometry=row.geometry, rule="site")
    return None


def term_name(transducer_type: str) -> str:
    """Return a Defined Term of Transducer Type as the name of a rule has it."""
    return re.sub(r"[^a-z0-9]+", " ", transducer_type.lower()).strip()


def _token(name: str) -> str | None:
    """Return a model's name where the store takes it: Butterfly's ``IQ`` has no digit."""
    return name if PROBE.fullmatch(name) else None


def normal_values(transducer_data: str) -> Iterator[str]:
    r"""Yield the values; some scanners put model and serial number into one, with a comma."""
    for value in re.split(r"[\\,]", transducer_data)[:MOST_VALUES]:
        normal = _normal(value[:MOST_CHARACTERS]).replace("_", "-").removesuffix(" HD")
        if normal:
            yield normal


def _normal(value: str) -> str:
    return " ".join(value.replace("\0", " ").upper().split())
