"""Pictures of all kinds reach the models whole and of 8 bits; one that cannot be read is named."""

import io

import numpy as np
import pytest

pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from PIL import Image, ImageFile, ImageStat

from redundancy_eval.errors import DataError
from redundancy_eval.model_wrappers import pictures

pytestmark = pytest.mark.models
WIDE = np.random.default_rng(0).integers(0, 65536, (30, 40)).astype(np.uint16)


def file(image, kind="PNG"):
    made = io.BytesIO()
    image.save(made, kind)
    return made.getvalue()


def mean(image):
    return ImageStat.Stat(image.convert("RGB")).mean


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(WIDE),
        Image.fromarray(WIDE.astype(np.int32)),
        Image.frombytes("I;16B", (40, 30), WIDE.astype(">u2").tobytes()),
        Image.open(io.BytesIO(file(Image.fromarray(WIDE)))),
        Image.open(io.BytesIO(file(Image.fromarray(WIDE), "TIFF"))),
        Image.open(io.BytesIO(b"P5 40 30 65535\n" + WIDE.astype(">u2").tobytes())),
    ],
    ids=["I;16", "I", "I;16B", "PNG", "TIFF", "PGM"],
)
def test_sixteen_bits_are_scaled(image):
    scaled = np.asarray(pictures.eight_bits(image))
    assert scaled.dtype == np.uint8 and abs(scaled - WIDE / 257).max() <= 0.51
    assert mean(image)[0] > 250, "what Pillow alone makes of it"


@pytest.mark.parametrize(
    "values", [np.array([[0, 70000]], np.int32), np.array([[-1, 5]], np.int32), np.array([[0, 200]], np.int32),
               np.array([[0, 0.5]], np.float32)],
)  # fmt: skip
def test_values_of_which_no_one_knows_what_is_white_are_refused(values):
    with pytest.raises(OSError, match=r"mode [IF] with values from .*save it as 8 bits"):
        pictures.eight_bits(Image.fromarray(values))


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "HSV", "LAB"]
)
def test_other_kinds_are_left_as_they_are(mode):
    image = Image.new(mode, (3, 2))
    made = pictures.eight_bits(image)
    assert made is image or mode == "La"
    assert made.convert("RGB").size == (3, 2)


def test_a_document_s_pictures_are_scaled_wherever_they_stand():
    wide, plain = Image.fromarray(WIDE), Image.new("RGB", (2, 2))
    document = {"image": plain, "more": [plain, {"deep": wide}], "text": "a"}
    made = pictures.within(document)
    assert made["more"][1]["deep"].mode == "L" and made["image"] is plain and made["text"] == "a"
    assert document["more"][1]["deep"] is wide
    assert pictures.within({"image": plain}) == {"image": plain}


class Documents:
    """Decodes a document's picture when it is asked for, as data sets do."""

    def __init__(self, content):
        self.content = content

    def __getitem__(self, number):
        return {"image": Image.open(io.BytesIO(self.content))}


NOISE = file(Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)), "JPEG")
PNG = file(Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)))
BAD = {"jpeg": NOISE[: len(NOISE) // 2], "png": PNG[:2000], "header": PNG[:20], "empty": b"", "html": b"<html>" * 9,
       "chunk": PNG[:40] + bytes(20) + PNG[60:]}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_lmms_eval_s_document_with_an_unreadable_picture_is_named(kind, monkeypatch):
    pytest.importorskip("lmms_eval", reason="needs the extra lmms-eval")
    from redundancy_eval.model_wrappers.hosts.lmms_eval import model as lmms_eval_model

    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # as lmms-eval sets it
    for show in (lambda doc: [doc["image"].convert("RGB")], lambda doc: [doc["image"]]):
        with pytest.raises(DataError, match=r"task t, document 7: the picture cannot be read \([^<\n]+\)$"):
            lmms_eval_model.shown(Documents(BAD[kind]), show, 7, "t", "eagle_masked")
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_lmms_eval_s_tasks_see_pictures_of_eight_bits():
    pytest.importorskip("lmms_eval", reason="needs the extra lmms-eval")
    from redundancy_eval.model_wrappers.hosts.lmms_eval import model as lmms_eval_model

    documents = Documents(file(Image.fromarray(WIDE)))
    (image,) = lmms_eval_model.shown(documents, lambda doc: [doc["image"].convert("RGB")], 0, "t", "eagle_masked")
    assert mean(image) == pytest.approx([WIDE.mean() / 257] * 3, abs=0.5)


def test_a_model_of_lmms_eval_gets_no_unreadable_picture(capsys):
    pytest.importorskip("lmms_eval", reason="needs the extra lmms-eval")
    from types import SimpleNamespace

    from redundancy_eval.model_wrappers.hosts.lmms_eval.hooked import Hooked

    model = SimpleNamespace(task_dict={"t": {"test": Documents(BAD["jpeg"])}})
    with pytest.raises(DataError, match="task t, document 3: the picture cannot be read"):
        Hooked._check_pictures(model, [SimpleNamespace(args=("What?", {}, None, 3, "t", "test"))])


def test_vlmevalkit_s_files_and_rows_are_named(tmp_path, capsys):
    pytest.importorskip("vlmeval", reason="needs the extra vlmevalkit")
    from types import SimpleNamespace

    from redundancy_eval.model_wrappers.hosts.vlmevalkit import model as kit

    (tmp_path / "2.png").write_bytes(BAD["png"])
    with pytest.raises(DataError, match=r"2\.png: the picture cannot be read .*; delete it, and VLMEvalKit writes"):
        kit.pictures([str(tmp_path / "2.png")])
    Image.fromarray(WIDE).save(tmp_path / "3.png")
    assert mean(kit.pictures([str(tmp_path / "3.png")])[0]) == pytest.approx([WIDE.mean() / 257] * 3, abs=0.5)

    class Rows(SimpleNamespace):
        def dump_image(self, line):
            Image.open(io.BytesIO(BAD[line["image"]])).save(tmp_path / "4.png")

        def build_prompt(self, line):
            return self.dump_image(line)

    rows = Rows(dataset_name="Cut")
    kit.name_rows(rows)
    kit.name_rows(rows)
    for kind in BAD:
        for call in (rows.build_prompt, rows.dump_image):
            with pytest.raises(SystemExit) as end:
                call({"index": 2, "image": kind})
            assert end.value.code == 3
            assert "error: Cut.tsv, row with index 2: the picture cannot be read (" in capsys.readouterr().err


def test_vlmevalkit_writes_pictures_that_png_has_not(tmp_path):
    pytest.importorskip("vlmeval", reason="needs the extra vlmevalkit")
    import base64

    from vlmeval.smp import decode_base64_to_image_file, vlm

    from redundancy_eval.model_wrappers.hosts.vlmevalkit import mended as vlmevalkit_mended

    before = vlm.decode_base64_to_image
    cmyk = base64.b64encode(file(Image.new("CMYK", (8, 8), (10, 200, 30, 40)), "JPEG")).decode()
    with vlmevalkit_mended.mended("exact_matching", None):
        decode_base64_to_image_file(cmyk, str(tmp_path / "a.png"))
    assert Image.open(tmp_path / "a.png").mode == "RGB"
    assert vlm.decode_base64_to_image is before
