"""Network definitions: torch only, nothing of DICOM or files."""
