"""What words stand for at this site: the shipped tables, and the site's own on top."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from dicom_node.config import HarvestSettings
from dicom_node.harvest.descriptions import DescriptionMap, Key, load_map
from dicom_node.harvest.site_transducers import load_site_transducers
from dicom_node.harvest.transducer import SiteTransducer


@dataclass(frozen=True, kw_only=True)
class Tables:
    """Everything that turns words into labels; the shipped rules for probes are always there."""

    descriptions: DescriptionMap
    transducers: tuple[SiteTransducer, ...] = ()

    def with_decisions(self, decisions: Mapping[Key, frozenset[str]]) -> "Tables":
        """Return the tables with the site's decisions on top."""
        return replace(self, descriptions=self.descriptions.with_decisions(decisions))


def load_tables(settings: HarvestSettings) -> Tables:
    """Read the tables of a configuration.

    Raises
    ------
    ConfigError
        When a file of the site cannot be used.
    """
    return Tables(
        descriptions=load_map(settings.label_map, settings.site_labels),
        transducers=load_site_transducers(settings.site_transducers),
    )
