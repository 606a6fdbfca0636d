"""Which frames of a cine are worth keeping: neighbours in time show nearly the same."""


def sampled(
    number_of_frames: int,
    *,
    frame_time_s: float | None,
    frames_per_s: float,
    most_frames: int,
) -> list[int]:
    """Choose frames evenly in time.

    Parameters
    ----------
    number_of_frames : int
        Length of the cine.
    frame_time_s : float, optional
        Time from one frame to the next. Where the header does not say it, frames are only thinned
        out to `most_frames`.
    frames_per_s : float
        How many frames to keep of a second.
    most_frames : int
        How many frames to keep at most; a longer cine is thinned out further, over all its length.

    Returns
    -------
    list of int
        1-based frame numbers, ascending; the first frame is always among them.
    """
    step = 1.0 if frame_time_s is None else max(1.0, 1 / (frame_time_s * frames_per_s))
    step = max(step, number_of_frames / most_frames)
    # rounded before it is counted: 10 frames at a step of 3.3333 are 4, not 3
    count = min(most_frames, int(round((number_of_frames - 1) / step, 6)) + 1)
    return [1 + int(place * step + 1e-6) for place in range(count)]
