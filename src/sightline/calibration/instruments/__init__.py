"""Every instrument that is held against the truth, by name, in the order of the table.

base.py         Instrument
attention.py    MDI, AEI, attention maps, localization heads
image_text.py   the logit lens, grounding scores, GLSim
impacts.py      impact: local, causal, every row, vision; the picture exchanged
heads.py        what each head does to the answer
confidence.py   log-probability, entropy, self-consistency
others.py       the sink finder, a linear probe, and controls that know nothing
"""

from sightline.calibration.instruments import attention, confidence, heads, image_text, impacts, others
from sightline.calibration.instruments.base import Instrument

INSTRUMENTS: dict[str, Instrument] = {
    instrument.name: instrument
    for instrument in (
        attention.MDI(),
        attention.SinkCorrectedMDI(),
        attention.AEI(),
        attention.AttentionMap(),
        attention.LocalizationHeads(),
        image_text.LogitLens(),
        image_text.GroundingScore(),
        image_text.GLSimScore(),
        impacts.LocalImpact(),
        impacts.CausalImpact(),
        impacts.EveryRowImpact(),
        impacts.VisionImpact(),
        impacts.PictureExchanged(),
        heads.HeadAblation(),
        heads.HeadGradient(),
        others.SinkFinder(),
        confidence.LogProbability(),
        confidence.Entropy(),
        confidence.SelfConsistency(),
        others.LinearProbe(),
        others.LargestMean(),
        others.Chance(),
    )
}

__all__ = ["INSTRUMENTS", "Instrument"]
