"""Learning from volumes of CT and MR series: what a series is, and then where organs lie in it.

3D-RADNet's two steps with the loop, the runs and the engine of the frames. MONAI's networks were
weighed against 140 lines of our own: its ResNet has another stem and its V-Net takes no encoder's
weights, so that both would have been bent until nothing of them was left.
"""
