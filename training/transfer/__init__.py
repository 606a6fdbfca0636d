"""Encoders that were pretrained on clips, held against each other where they find lesions."""
