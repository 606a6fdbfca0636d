"""Ultrasound studies from a random generator: stand-ins for images, never presented as more.

A phantom has the look of B-mode (speckle, shadows, a sector or a rectangle, a banner with burned-in
text) and the tags that scanners write, so the whole node can be tried and tested on a machine that
holds no patient's data. It follows no physics closely enough to measure anything on it, and a model
that was trained on phantoms knows nothing of patients. Every patient is named ``PHANTOM^...``.

`scene.render` makes frames with exact masks, `study.write_study` puts them into DICOM files, and
`labels.write_labels` writes their labels as a researcher would bring them.
"""
