"""A contact sheet of predictions: one page without any other file, the least sure images first."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from fewlabels.data.files.names import shown
from fewlabels.predicted.tables import Prediction
from fewlabels.system.templates import html_templates

SIDE = 160  # pixels of a thumbnail
QUALITY = 80  # of its JPEG
TEMPLATES = html_templates("fewlabels.predicted")


def least_sure(found: Sequence[Prediction], count: int) -> list[Prediction]:
    """The ``count`` images of the least confidence, that one first; of equals in the order that they lie in."""
    return sorted((each for each in found if each.labels), key=lambda each: each.confidences[0])[:count]


def sheet(
    cards: Sequence[Prediction], pixels: Mapping[str, np.ndarray], left_out: int, summary: str, title: str, calibrated: bool
) -> str:
    """The page, as HTML.

    Args:
        cards: the images to show, in this order.
        pixels: of their files, uint8 ``[H, W, C]``; a file that is not there has a card without a picture.
        left_out: how many labelled images are not shown.
        summary: a line on all images.
        title: of the page.
        calibrated: whether the confidences are.
    """
    left = f"{left_out:,} surer image{' is' if left_out == 1 else 's are'} left out" if left_out else ""
    return TEMPLATES.get_template("sheet.html").render(
        title=shown(title),
        summary=summary,
        left_out=left,
        calibrated=calibrated,
        cards=[_card(each, pixels) for each in cards],
    )


def _card(each: Prediction, pixels: Mapping[str, np.ndarray]) -> dict[str, str]:
    share = 100 * each.confidences[0]
    return {
        "file": shown(each.file),
        "label": shown(each.labels[0]),
        "confidence": f"{math.floor(10 * share) / 10:.1f} %",  # 99.96 % is not sure
        "percent": f"{share:.1f}",
        "picture": _jpeg(pixels[each.file]) if each.file in pixels else "",
    }


def _jpeg(array: np.ndarray) -> str:
    image = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
    image.thumbnail((SIDE, SIDE))
    content = io.BytesIO()
    image.save(content, "jpeg", quality=QUALITY)
    return base64.b64encode(content.getvalue()).decode()
