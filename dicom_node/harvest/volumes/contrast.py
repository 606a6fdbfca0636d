"""Whether a contrast agent was given, by what headers say; an absent agent denies nothing."""

from dicom_node.harvest.volumes.rules import ContrastRules, Phrase, load_rules, stands_in, words_in
from dicom_node.harvest.volumes.slices import Slice

#: What the rules of this label are called, besides "none".
NAMES = frozenset({"agent", "agent unclear", "words", "words contradict"})
Known = tuple[bool | None, str]


def contrast_of(told: Slice) -> Known:
    """Return whether a contrast agent was given, None where nothing says so, and the rule."""
    rules = load_rules().contrast
    if told.said["ContrastBolusAgent"]:
        return _by_agent(_read(told.said["ContrastBolusAgent"], rules), rules)
    texts = [_read(told.said[name], rules) for name in ("SeriesDescription", "ProtocolName")]
    said = {is_given for words in texts for is_given in _said(words, rules)}
    if len(said) == 1:
        return said.pop(), "words"
    return None, "words contradict" if said else "none"


def _by_agent(words: Phrase, rules: ContrastRules) -> Known:
    found = frozenset(words)
    if not found or found & rules.unclear or _says_both(found, rules):
        return None, "agent unclear"
    if found & rules.no_agent and not found <= rules.no_agent | rules.no_agent_beside:
        return None, "agent unclear"  # NO REACTION beside a name: who knows what is denied
    return not (found & rules.no_agent or words in rules.no_agent_whole), "agent"


def _said(words: Phrase, rules: ContrastRules) -> set[bool]:
    """Return what words say: nothing, that one was given, that none was, or both."""
    if _says_both(frozenset(words), rules):
        return {True, False}
    left, is_denied = _without_denied(words, rules)
    grants = any(stands_in(phrase, left) for phrase in rules.with_)
    denies = is_denied or any(stands_in(phrase, left) for phrase in rules.without)
    return {said for said, holds in ((True, grants), (False, denies)) if holds}


def _says_both(words: frozenset[str], rules: ContrastRules) -> bool:
    return any(one & words and other & words for one, other in rules.both)


def _without_denied(words: Phrase, rules: ContrastRules) -> tuple[Phrase, bool]:
    """Return words without the agents that are denied, and whether there were such."""
    left: list[str] = []
    is_denying = False
    for word in words:
        is_denying = word in rules.denials or (is_denying and word in rules.agents)
        if not (is_denying and word in rules.agents):
            left.append(word)
    return tuple(left), len(left) < len(words)


def _read(text: str, rules: ContrastRules) -> Phrase:
    """Return the words of a text, with those that are spelt in pieces put together."""
    words = words_in(text)
    for whole, pieces in rules.spelt.items():
        words = _joined(words, pieces, whole)
    return tuple(word for word in words if word not in rules.fillers)


def _joined(words: Phrase, pieces: Phrase, whole: str) -> Phrase:
    for at in range(len(words)):
        if words[at : at + len(pieces)] == pieces:
            rest = _joined(words[at + len(pieces) :], pieces, whole)
            return (*words[:at], whole, *rest)
    return words
