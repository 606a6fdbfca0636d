"""From the bytes of an image to what a network sees, and back.

``facts`` reads what the header says, ``decode`` turns one frame into grey, ``sandbox`` does that in
a process of its own, ``geometry`` goes from source pixels to network pixels and back.
"""
