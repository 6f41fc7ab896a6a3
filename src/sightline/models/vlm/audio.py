"""Reading a sound file into samples at the rate a model wants."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np

from sightline.errors import InputError
from sightline.files.paths import require_file

_WIDTHS: dict[int, tuple[str, float, float]] = {
    1: ("<u1", 128.0, 128.0),
    2: ("<i2", 0.0, 2.0**15),
    4: ("<i4", 0.0, 2.0**31),
}
"""Bytes a sample: how they are read, what is silence, what is full loudness."""


def load_audio(path: str | Path, rate: int) -> Any:
    """[samples] float32 in -1..1 at `rate` hertz, the mean of the channels of an uncompressed WAV file.

    Other rates are interpolated linearly.

    Raises:
        InputError: for a file that is missing or no uncompressed WAV.
    """
    file = require_file(path, "sound file")
    try:
        with wave.open(str(file), "rb") as sound:
            kind, zero, full = _WIDTHS[sound.getsampwidth()]
            raw = np.frombuffer(sound.readframes(sound.getnframes()), dtype=kind)
            channels, own_rate = sound.getnchannels(), sound.getframerate()
    except (wave.Error, EOFError, KeyError) as error:
        raise InputError(f"The sound file {file} is no uncompressed WAV of 8, 16 or 32 bits: convert it.") from error
    signal = ((raw.astype(np.float32) - zero) / full).reshape(-1, channels).mean(1)
    if not len(signal):
        raise InputError(f"The sound file {file} is empty.")
    if own_rate == rate:
        return signal
    times = np.arange(round(len(signal) * rate / own_rate)) / rate
    return np.interp(times, np.arange(len(signal)) / own_rate, signal).astype(np.float32)
