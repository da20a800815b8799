"""Eq. 8 on (V, S) only; target languages work through the multilingual encoder."""

from cl2cm.methods.base import Losses, Method, matching
from cl2cm.model.networks import same_picture
from cl2cm.types import Batch


class ZeroShot(Method):
    """L_match = M(V, S); training uses no translations."""

    name = "zero-shot"
    targets = "none"

    def loss(self, batch: Batch) -> Losses:
        """Return M(V, S) of a batch."""
        vision = self.student.encode_frames(batch.vision)
        source = self.student.encode_text(batch.source)
        loss = matching(vision, source.sentence, same_picture(batch.pictures), self.match)
        return {"loss": loss}
