"""The words that a harvest writes into the store as they are: probes, and names of rules.

`dicom_node.store.audit` holds a store against them: a serial number, a date or a name may look like
a probe's model, and is none that a table knows.
"""

import re

from dicom_node.harvest.descriptions import SHIPPED
from dicom_node.harvest.tables import Tables
from dicom_node.harvest.transducer import load_rules, term_name
from dicom_node.harvest.volumes.labelling import rule_names
from dicom_node.store.audit import Known

#: Of `Evidence.rule`, beside the names of the shipped maps.
_TEXT_RULES = ("none", "site", "decision", "second sources")


def vocabulary(tables: Tables) -> Known:
    """Return what the columns ``probe``, ``geometry_rule`` and ``rule`` may hold.

    Parameters
    ----------
    tables : Tables
        Of the configuration: probes of the site are known, too.
    """
    shipped = load_rules()
    rules = [*(rule for vendor in shipped.vendors for rule in vendor.rules), *shipped.generic]
    models = {rule.token for rule in rules} | {
        row.probe or row.transducer for row in tables.transducers
    }
    pattern = re.compile("|".join(f"(?:{rule.pattern.pattern})" for rule in rules))
    names = {rule.name for rule in rules}
    geometry_rules = {"none", "site", *names}
    geometry_rules |= {f"{name} contradicts transducer type" for name in names}
    geometry_rules |= {f"transducer type {term_name(term)}" for term in shipped.types}
    text_rules = {*_TEXT_RULES, *(name.replace("_", " ") for name in SHIPPED)}
    return {
        "probe": lambda word: word in models or pattern.fullmatch(word) is not None,
        "geometry_rule": geometry_rules.__contains__,
        "rule": text_rules.__contains__,
        **{
            f"{label}_rule": rule_names().__contains__
            for label in ("sequence", "plane", "contrast", "regions")
        },
    }
