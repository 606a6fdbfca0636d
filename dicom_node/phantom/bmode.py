"""From echoes to grey: speckle, gain, noise, log compression."""

import numpy as np
from numpy.typing import NDArray

from dicom_node.phantom.anatomy import Array
from dicom_node.phantom.field import LINES, SAMPLES
from dicom_node.phantom.tissue import Tissue

#: Grey value of liver, and grey values for each dB.
LIVER_GREY = 88.0
GREY_PER_DB = 4.6
NOISE_DB = -34.0


def speckle(rng: np.random.Generator) -> NDArray[np.complex64]:
    """Return fully developed speckle, complex64 (SAMPLES, LINES), mean power 1.

    Correlated over about two samples down the line and three lines across, as a scanner's point
    spread function does; it repeats at the edges.
    """
    return _filtered(rng, sigma_samples=1.1, sigma_lines=1.5)


def slow_field(rng: np.random.Generator, *, samples: float, lines: float) -> Array:
    """Return a smooth random field, float32 (SAMPLES, LINES), zero mean, spread 1."""
    field = _filtered(rng, sigma_samples=samples, sigma_lines=lines).real
    return np.asarray(field * np.sqrt(2), np.float32)


def compress(tissue: Tissue, field: NDArray[np.complex64], gain_db: float, z: Array) -> Array:
    """Return grey values, float32 (SAMPLES, LINES), 0 to 255.

    Parameters
    ----------
    tissue : Tissue
        Echo levels and shadows.
    field : array
        Speckle, complex64 (SAMPLES, LINES).
    gain_db : float
        The operator's gain knob.
    z : array
        Depth of the samples in depths, float32 (SAMPLES, LINES).
    """
    # spatial compounding: looks that do not correlate, averaged
    looks = (field, np.roll(field, (37, 11), (0, 1)), np.roll(field, (-53, 29), (0, 1)))
    envelope = np.mean([np.abs(look) for look in looks], axis=0)
    # time gain compensation never fits: dim far field, bright focus
    profile_db = -13.0 * np.clip(z - 0.55, 0, None) / 0.45 + 3.0 * np.exp(-(((z - 0.4) / 0.2) ** 2))
    level = np.float32(10) ** ((tissue.echo_db + tissue.shadow_db + profile_db) / 20)
    noise = np.abs(np.roll(field, (91, 71), (0, 1))) * np.float32(10 ** (NOISE_DB / 20))
    decibel = 20 * np.log10(envelope * level + noise + 1e-4) + gain_db
    return np.asarray(np.clip(LIVER_GREY + GREY_PER_DB * decibel, 0, 255), np.float32)


def _filtered(
    rng: np.random.Generator, *, sigma_samples: float, sigma_lines: float
) -> NDArray[np.complex64]:
    """Return complex Gaussian noise through a Gaussian filter, mean power 1, made by FFT."""
    f = np.fft.fftfreq(SAMPLES)[:, None] * sigma_samples
    g = np.fft.fftfreq(LINES)[None, :] * sigma_lines
    # the filter of amplitude exp(-x^2 / (4 sigma^2)) in space
    response = np.exp(-4 * np.pi**2 * (f**2 + g**2))
    white = rng.standard_normal((2, SAMPLES, LINES))
    spectrum = (white[0] + 1j * white[1]) * response
    field = np.fft.ifft2(spectrum / np.sqrt(2 * np.mean(response**2)), norm="ortho")
    return field.astype(np.complex64)
