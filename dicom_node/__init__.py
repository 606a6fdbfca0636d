"""A DICOM node that stands beside a PACS: it receives, harvests, infers and answers.

The way of the data, one module a stage::

    receive -> inbox -> index -> (study complete) -> harvest -> store
                                                  -> infer -> results -> outbox -> deliver

``pipeline`` is the page where that order is written; ``node`` starts and stops the parts.
Nothing here imports torch: what is trained in ``training/`` arrives as one ``.onnx`` bundle.
"""

__version__ = "0.1.0"
