import re
from collections.abc import Iterator

import pytest
from pydicom.sr.codedict import codes

from dicom_node.codes import PRIVATE_SCHEME
from dicom_node.errors import StoreError
from dicom_node.records import CodedConcept
from dicom_node.store.label_sets import (
    DEFAULT_LABEL_SET,
    class_set,
    class_sets,
    label_set,
    label_sets,
)


def every_code() -> Iterator[CodedConcept]:
    for labels in label_sets().values():
        for label in labels.labels:
            yield label.category
            yield label.type
    for classes in class_sets().values():
        yield from (one.code for one in classes.classes)


def words(meaning: str) -> str:
    return meaning.replace(" ", "").lower()


@pytest.mark.parametrize("code", sorted(set(every_code()), key=repr), ids=lambda code: code.value)
def test_a_code_is_one_of_the_standard_or_private(code: CodedConcept) -> None:
    if code.scheme == PRIVATE_SCHEME:
        assert re.fullmatch(r"[A-Z0-9]{1,16}", code.value)  # PS3.5 6.2: SH
        return
    known = {
        words(one.meaning)
        for keyword in getattr(codes, code.scheme).dir(words(code.meaning))
        if (one := getattr(getattr(codes, code.scheme), keyword)).value == code.value
    }
    assert words(code.meaning) in known


def test_a_concept_without_a_code_of_the_standard_is_not_in_its_dictionary() -> None:
    for code in every_code():
        if code.scheme == PRIVATE_SCHEME:
            assert not codes.SCT.dir(code.meaning.replace("-", ""))


def test_names_are_tokens_and_unique() -> None:
    sets = [one.names for one in (*label_sets().values(), *class_sets().values())]
    for names in (list(label_sets()), list(class_sets()), *sets):
        assert len(set(names)) == len(names) > 0
        assert all(re.fullmatch(r"[a-z0-9][a-z0-9-]{0,63}", name) for name in names)


def test_sets_are_found_by_name_and_others_named() -> None:
    assert label_set(DEFAULT_LABEL_SET).names == ("liver", "kidney")
    assert class_set("breast").names == ("benign", "malignant", "normal")
    with pytest.raises(StoreError, match="there are liver-kidney, thyroid-nodule, breast-lesion"):
        label_set("spleen")
    with pytest.raises(StoreError, match="there are breast, lung"):
        class_set("liver-kidney")
