"""Made-up documents of the paper's 15 benchmarks, in the folders and columns the data hub has them in.

`datasets.load_dataset("lmms-lab-encoder/GQA")` looks for a folder of that name in the working directory first, so
lmms-eval started in the written folder runs its own task configs on these documents, offline.
Each written folder needs a cache of its own (`HF_DATASETS_CACHE`): `datasets` tells folders apart by their headers,
not by their place or their files.
"""

import zlib
from pathlib import Path

from datasets import Dataset, Features, List, Value
from datasets import Image as Picture
from PIL import Image

LETTERS = "ABCDE"
_PICTURES = {"image", "decoded_image", *(f"image_{n}" for n in range(1, 8))}


def write(root: Path) -> dict[str, list[dict]]:
    """Write all 15 below `root`; returns each lmms-eval task's documents without pictures.

    In them `answer` is what a model that is always right replies, whatever that column holds in the data.
    """
    return {
        "gqa": _gqa(root),
        "mmbench_en_dev_static": _mmbench(root),
        "mme": _mme(root),
        "seedbench": _seedbench(root),
        "ai2d": _ai2d(root),
        "mathvista_testmini_format": _mathvista(root),
        "scienceqa_img": _scienceqa(root),
        "mmmu_val": _mmmu(root),
        "docvqa_val": _docvqa(root),
        "ocrbench": _ocrbench(root),
        "textvqa_val": _textvqa(root),
        "chartqa": _chartqa(root),
        "cv_bench": _cv_bench(root),
        "mmvp": _mmvp(root),
        "realworldqa": _realworldqa(root),
    }


def _image(*name: object) -> Image.Image:
    """A small picture of one colour; the same name gives the same picture."""
    colour = zlib.crc32(repr(name).encode()).to_bytes(4, "big")[:3]
    return Image.new("RGB", (16, 16), tuple(colour))


def _save(root: Path, repo: str, split: str, configs: dict[str, list[dict]], **types) -> None:
    """Write one dataset: a parquet file for each config, and the header that names them; `types` where not plain."""
    folder = root / repo
    header = ["---", "configs:"]
    for config, rows in configs.items():
        file = folder / config / f"{split}-00000-of-00001.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        data = Dataset.from_list(rows)
        data.cast(Features({**data.features, **types})).to_parquet(file)
        header += [f"- config_name: {config}", "  data_files:", f"  - split: {split}", f"    path: {config}/{split}-*"]
    (folder / "README.md").write_text("\n".join([*header, "---", ""]), encoding="utf-8")


def _essentials(rows: list[dict], answers: list[str]) -> list[dict]:
    return [
        {**{column: value for column, value in row.items() if column not in _PICTURES}, "answer": answer}
        for row, answer in zip(rows, answers, strict=True)
    ]


def _gqa(root: Path) -> list[dict]:
    questions = [
        ("n101", "Is the sky dark?", "no", "No, the sky is bright.", "verify", "attr"),
        ("n101", "What is standing on the grass?", "horse", "The horse is standing on the grass.", "query", "rel"),
        ("n101", "Which side of the photo is the fence on?", "left", "The fence is on the left.", "query", "attr"),
        ("n102", "What color is the car?", "red", "The car is red.", "query", "attr"),
        ("n102", "Are there any people?", "yes", "Yes, there is a person.", "verify", "obj"),
        ("n102", "What is behind the car?", "traffic light", "The traffic light is behind it.", "query", "rel"),
        ("n103", "Is the plate round or square?", "round", "The plate is round.", "choose", "attr"),
        ("n103", "Who is holding the fork?", "woman", "The woman is holding the fork.", "query", "rel"),
    ]
    rows = [
        {
            "id": f"2010{number}",
            "imageId": image,
            "question": question,
            "answer": answer,
            "fullAnswer": full,
            "isBalanced": True,
            "groups": {"global": "thing", "local": f"10-{structural}_thing"},
            "entailed": "",
            "equivalent": f"['2010{number}']",
            "types": {"structural": structural, "semantic": semantic, "detailed": semantic + structural.title()},
            "annotations": {part: [{"objectId": "1", "value": "7"}] for part in ("answer", "question", "fullAnswer")},
            "semantic": [{"operation": "select", "argument": "thing (7)", "dependencies": []}],
            "semanticStr": "select: thing (7)",
        }
        for number, (image, question, answer, full, structural, semantic) in enumerate(questions)
    ]
    images = [{"id": image, "image": _image("gqa", image)} for image in ("n101", "n102", "n103")]
    configs = {"testdev_balanced_instructions": rows, "testdev_balanced_images": images}
    _save(root, "lmms-lab-encoder/GQA", "testdev", configs)
    return _essentials(rows, [row["answer"] for row in rows])


def _mmbench(root: Path) -> list[dict]:
    """Every question once for each turn of its options; the copies' indices are 1000000 apart."""
    questions = [
        (241, "Which mood does this image convey?", ["Cozy", "Anxious", "Happy", "Angry"], 1, "nan",
         ("image_emotion", "attribute_reasoning")),
        (252, "Which animal is larger?", ["The dog", "The ant", "Both are alike"], 0, "The animals are drawn to scale.",
         ("spatial_relationship", "finegrained_perception (cross-instance)")),
        (263, "Is the lamp on?", ["Yes", "No"], 1, "nan",
         ("attribute_recognition", "finegrained_perception (instance-level)")),
    ]  # fmt: skip
    rows = []
    for turn in range(4):
        for index, question, options, right, hint, (category, broad) in questions:
            if turn >= len(options):
                continue
            turned = options[turn:] + options[:turn]
            rows.append(
                {
                    "index": index + 1_000_000 * turn,
                    "question": question,
                    "hint": hint,
                    "answer": LETTERS[turned.index(options[right])],
                    **dict(zip("ABCD", [*turned, "nan", "nan"], strict=False)),
                    "category": category,
                    "image": _image("mmbench", index),
                    "source": "made up",
                    "L2-category": broad,
                    "comment": "nan",
                    "split": "dev",
                }
            )
    _save(root, "lmms-lab-encoder/MMBench", "dev", {"en": rows})
    return _essentials(rows, [row["answer"] for row in rows])


def _mme(root: Path) -> list[dict]:
    """Two questions on one image in each subtask, one to be answered Yes and one No."""
    questions = {
        "existence": ("Is there a dog in this image?", "Is there a cat in this image?"),
        "count": ("Are there two chairs in this image?", "Are there three chairs in this image?"),
        "position": ("Is the cup left of the plate?", "Is the cup right of the plate?"),
        "color": ("Is there a red coat in the image?", "Is there a green coat in the image?"),
        "posters": ("Is this movie from the 1980s?", "Is this movie from the 1990s?"),
        "celebrity": ("Is the person in the red box called Ann Doe?", "Is the person in the red box called Jo Roe?"),
        "scene": ("Does this image show a beach?", "Does this image show a kitchen?"),
        "landmark": ("Is this a photo of the Old Bridge?", "Is this a photo of the New Tower?"),
        "artwork": ("Is this artwork a portrait?", "Is this artwork a sculpture?"),
        "OCR": ('Is the word in the logo "tea"?', 'Is the word in the logo "tee"?'),
        "commonsense_reasoning": ("Should I stop at this light?", "Should I drive on at this light?"),
    }
    rows = [
        {
            "question_id": f"{category}/0001.png",
            "image": _image("mme", category),
            "question": f"{question} Please answer yes or no.",
            "answer": answer,
            "category": category,
        }
        for category, pair in questions.items()
        for question, answer in zip(pair, ("Yes", "No"), strict=True)
    ]
    _save(root, "lmms-lab-encoder/MME", "test", {"default": rows})
    return _essentials(rows, [row["answer"] for row in rows])


def _seedbench(root: Path) -> list[dict]:
    questions = [
        ("1_0", "image", 1, "What is the scene of the image?", ["A street", "A beach", "An office", "A forest"], "C"),
        ("1_0", "image", 5, "How many lamps are there?", ["One", "Two", "Three", "Four"], "B"),
        ("1_1", "image", 2, "What is on the table?", ["A vase", "A cat", "A book", "A laptop"], "A"),
        ("1_1", "image", 3, "What color is the wall?", ["White", "Blue", "Green", "Yellow"], "D"),
        ("1_2", "image", 6, "Where is the ball?", ["On the left", "On the right", "Above", "Below"], "B"),
        ("1_2", "image", 9, "What does the sign say?", ["Stop", "Exit", "Open", "Closed"], "A"),
        ("v_3", "video", 10, "What does the person do?", ["Pours water", "Opens a door", "Sits down", "Waves"], "D"),
    ]
    rows = [
        {
            "answer": answer,
            **{f"choice_{letter}": choice for letter, choice in zip("abcd", choices, strict=True)},
            "data_id": data_id,
            "data_type": data_type,
            "question": question,
            "question_id": str(101 + number),
            "question_type_id": kind,
            "segment": [12, 48] if data_type == "video" else None,
            "image": [_image("seed", data_id, frame) for frame in range(4 if data_type == "video" else 1)],
        }
        for number, (data_id, data_type, kind, question, choices, answer) in enumerate(questions)
    ]
    _save(root, "lmms-lab-encoder/SEED-Bench", "test", {"default": rows}, question_type_id=Value("int16"))
    return _essentials(rows, [row["answer"] for row in rows])


def _ai2d(root: Path) -> list[dict]:
    questions = [
        ("web", "What eats the grass?", ["owl", "rabbit", "fox", "snake"], "1"),
        ("web", "What would grow in number without the fox?", ["sun", "soil", "owl", "rabbit"], "3"),
        ("moon", "Which phase follows A?", ["B", "C", "D", "E"], "0"),
        ("moon", "How many phases are shown?", ["4", "6", "8", "10"], "2"),
        ("leaf", "What does the label T name?", ["stem", "blade", "vein", "root"], "0"),
        ("volcano", "Where is the magma?", ["in the chamber", "in the cloud", "on the coast", "none of these"], "0"),
    ]
    rows = [
        {"question": question, "options": options, "answer": answer, "image": _image("ai2d", image)}
        for image, question, options, answer in questions
    ]
    _save(root, "lmms-lab-encoder/ai2d", "test", {"default": rows})
    return _essentials(rows, [LETTERS[int(row["answer"])] for row in rows])


def _mathvista(root: Path) -> list[dict]:
    questions = [
        ("What is the value of x?", ["30°", "45°", "60°", "90°"], None, None, "60°", "text"),
        ("Is the blue bar the highest?", ["yes", "no"], None, None, "yes", "text"),
        ("Which curve is steeper?", ["the red curve", "the green curve"], None, None, "the green curve", "text"),
        ("How many cubes are left?", None, None, None, "7", "integer"),
        ("How old is the older person?", None, "years", None, "14", "integer"),
        ("What is the slope of the line?", None, None, 1.0, "1.2", "float"),
        ("What is the radius?", None, "cm", 2.0, "0.75", "float"),
        ("Between which years did sales rise most?", None, None, None, "[2014, 2015]", "list"),
    ]
    rows = []
    for number, (question, choices, unit, precision, answer, kind) in enumerate(questions, start=1):
        options = "\n".join(f"({letter}) {choice}" for letter, choice in zip(LETTERS, choices or [], strict=False))
        rows.append(
            {
                "pid": str(number),
                "question": question,
                "image": f"images/{number}.jpg",
                "decoded_image": _image("mathvista", number),
                "choices": choices,
                "unit": unit,
                "precision": precision,
                "answer": answer,
                "question_type": "multi_choice" if choices else "free_form",
                "answer_type": kind,
                "metadata": {
                    "category": "math-targeted-vqa" if choices else "general-vqa",
                    "context": "bar chart",
                    "grade": "elementary school",
                    "img_height": 16,
                    "img_width": 16,
                    "language": "english",
                    "skills": ["arithmetic reasoning", "statistical reasoning"],
                    "source": "made up",
                    "split": "testmini",
                    "task": "figure question answering",
                },
                "query": f"Question: {question}" + (f"\nChoices:\n{options}" if options else ""),
            }
        )
    _save(root, "AI4Math/MathVista", "testmini", {"default": rows})
    answers = [LETTERS[row["choices"].index(row["answer"])] if row["choices"] else row["answer"] for row in rows]
    return _essentials(rows, answers)


def _scienceqa(root: Path) -> list[dict]:
    questions = [
        ("Which ocean is highlighted?", ["the Arctic Ocean", "the Indian Ocean"], 1, ""),
        ("What is the capital of the marked state?", ["Oak City", "Lakeside", "Hillton", "Port Ann"], 2, ""),
        ("Which property do the objects share?", ["hard", "soft", "yellow"], 0, "Select the best answer."),
        ("Which magnet pulls more strongly?", ["pair 1", "pair 2", "both alike"], 1, "The magnets are alike."),
        ("What does the fox in the food web eat?", ["grass", "the rabbit"], 1, "The arrows show who is eaten."),
        ("Is this a plant cell?", ["yes", "no"], 0, ""),
        ("Which rock is the oldest?", ["a", "b", "c", "d", "e"], 4, "The layers lie undisturbed."),
    ]
    rows = [
        {
            "image": _image("scienceqa", number),
            "question": question,
            "choices": choices,
            "answer": answer,
            "hint": hint,
            "task": "closed choice",
            "grade": f"grade{2 + number}",
            "subject": "natural science" if hint else "social science",
            "topic": "physics" if hint else "geography",
            "category": "Science",
            "skill": "Read a picture",
            "lecture": "",
            "solution": f"The answer is {choices[answer]}.",
        }
        for number, (question, choices, answer, hint) in enumerate(questions)
    ]
    _save(root, "lmms-lab-encoder/ScienceQA", "test", {"ScienceQA-IMG": rows}, answer=Value("int8"))
    return _essentials(rows, [LETTERS[row["answer"]] for row in rows])


def _mmmu(root: Path) -> list[dict]:
    """The last one's several right answers are one string, as in three real ones, and lmms-eval never credits it."""
    questions = [
        ("Art_1", "Who painted <image 1>?", ["Ann Doe", "Jo Roe", "Max Poe", "Sam Low"], "B", 1),
        ("Art_2", "Which style is <image 1>?", ["Baroque", "Cubism", "Gothic", "Pop art"], "D", 1),
        ("Finance_1", "From <image 1>, what is the bond's price?", ["$6", "$7", "$8", "$9", "$10"], "E", 1),
        ("Biology_1", "Which cell divides, <image 1> or <image 2>?", ["The first", "The second", "Neither"], "A", 2),
        ("Physics_1", "Which graph shows free fall?", ["<image 1>", "<image 2>", "<image 3>", "<image 4>"], "C", 4),
        ("History_1", "Which empire does <image 1> show?", ["Roman", "Ottoman", "Mongol", "Inca"], "A", 1),
        ("Pharmacy_1", "Is the dose in <image 1> safe?", ["Yes", "No"], "B", 1),
        ("Architecture_and_Engineering_1", "Find the load in kN in <image 1>.", [], "3.6", 1),
        ("Music_1", "What is the second interval in <image 1>?", [], "perfect fifth", 1),
        ("Math_1", "How fast does the ladder in <image 1> slide, in feet per second?", [], "['24/7', '3.429']", 1),
    ]
    rows = [
        {
            "id": f"validation_{name}",
            "question": question,
            "options": str(options),
            "explanation": "",
            **{f"image_{n}": _image("mmmu", name, n) if n <= images else None for n in range(1, 8)},
            "img_type": "['Diagrams']",
            "answer": answer,
            "topic_difficulty": "Medium",
            "question_type": "multiple-choice" if options else "open",
            "subfield": name.rsplit("_", 1)[0].replace("_", " "),
        }
        for name, question, options, answer, images in questions
    ]
    pictures = {f"image_{n}": Picture() for n in range(1, 8)}
    _save(root, "lmms-lab-encoder/MMMU", "validation", {"default": rows}, **pictures)
    return _essentials(rows, [*(row["answer"] for row in rows[:-1]), "24/7"])


def _docvqa(root: Path) -> list[dict]:
    questions = [
        (4720, "letter", "What is the date of the letter?", ["January 4, 1970", "4 January 1970"]),
        (4720, "letter", "To whom is the letter sent?", ["Paul"]),
        (4720, "letter", "What is the name of the company?", ["Mills & Sons", "mills & sons", "Mills and Sons"]),
        (5391, "table", "What is the total for the year 1968?", ["1,204"]),
        (5391, "table", "What is the heading of the second column?", ["Brand", "brand"]),
        (6012, "figure", "What is the value on the y-axis at 10 weeks?", ["0.45", ".45"]),
        (6012, "figure", "What is the title of the plot?", ["Growth of Seedlings under Lamp Light"]),
    ]
    rows = [
        {
            "questionId": str(49150 + number),
            "question": question,
            "question_types": ["form" if kind == "letter" else "table/list" if kind == "table" else "figure/diagram"],
            "image": _image("docvqa", document),
            "docId": document,
            "ucsf_document_id": f"made{document}",
            "ucsf_document_page_no": "1",
            "answers": answers,
            "data_split": "val",
        }
        for number, (document, kind, question, answers) in enumerate(questions)
    ]
    _save(root, "lmms-lab-encoder/DocVQA", "validation", {"DocVQA": rows})
    return _essentials(rows, [row["answers"][0] for row in rows])


def _ocrbench(root: Path) -> list[dict]:
    read, formula = "what is written in the image?", "Please write out the expression of the formula in the image."
    questions = [
        ("IIIT5K", read, "Regular Text Recognition", ["CENTRE"]),
        ("svtp", read, "Irregular Text Recognition", ["harbour"]),
        ("WordArt", read, "Artistic Text Recognition", ["Sunday"]),
        ("IAM", read, "Handwriting Recognition", ["letter"]),
        ("ORAND", "what is the number in the image?", "Digit String Recognition", ["170325"]),
        ("NonSemanticText", read, "Non-Semantic Text Recognition", ["zqwpt"]),
        ("textVQA", "what brand is the phone?", "Scene Text-centric VQA", ["Bellphone", "bell phone"]),
        ("STVQA", "what is the speed limit?", "Scene Text-centric VQA", ["45"]),
        ("docVQA", "what is the contact person name?", "Doc-oriented VQA", ["P. Carter", "p. carter"]),
        ("SROIE", "what is the total amount of this receipt?", "Key Information Extraction", ["31.90"]),
        ("HME100k", formula, "Handwritten Mathematical Expression Recognition", [r"\frac { X } { 2 } = y"]),
    ]
    rows = [
        {
            "dataset": dataset,
            "question": question,
            "question_type": kind,
            "answer": answers,
            "image": _image("ocrbench", number),
        }
        for number, (dataset, question, kind, answers) in enumerate(questions)
    ]
    _save(root, "echo840/OCRBench", "test", {"default": rows})
    return _essentials(rows, [row["answer"][0] for row in rows])


def _textvqa(root: Path) -> list[dict]:
    """Ten people's answers to each question; the last one's commonest answer is worth 0.9 only."""
    questions = [
        ("a1", "what is the brand of this camera?", ["dakota"] * 8 + ["clos culombu", "dakota digital"]),
        ("a1", "what number is on the camera?", ["50"] * 10),
        ("a2", "what does the small white text spell?", ["copenhagen"] * 9 + ["unanswerable"]),
        ("a2", "is this a bus stop?", ["yes"] * 7 + ["no"] * 3),
        ("a3", "what time is it?", ["10:15"] * 5 + ["quarter past ten"] * 5),
        ("a3", "who made the watch?", ["Tinex"] * 4 + ["the Tinex company"] * 4 + ["unanswerable"] * 2),
        (
            "a4",
            "what is the title of the book?",
            ["red hill"] * 3 + ["red", "hill", "hill red", "redhill", "hills", "book", "title"],
        ),
    ]
    rows = [
        {
            "image_id": image,
            "question_id": 34602 + number,
            "question": question,
            "question_tokens": question.rstrip("?").split(),
            "image": _image("textvqa", image),
            "image_width": 16,
            "image_height": 16,
            "flickr_original_url": f"https://example.org/{image}_o.jpg",
            "flickr_300k_url": f"https://example.org/{image}.jpg",
            "answers": answers,
            "image_classes": ["Camera"],
            "set_name": "val",
            "ocr_tokens": answers[0].split(),
        }
        for number, (image, question, answers) in enumerate(questions)
    ]
    numbers = {column: Value("int32") for column in ("question_id", "image_width", "image_height")}
    _save(root, "lmms-lab-encoder/textvqa", "validation", {"default": rows}, **numbers)
    return _essentials(rows, [row["answers"][0] for row in rows])


def _chartqa(root: Path) -> list[dict]:
    questions = [
        ("human_test", "bars", "How many food items are shown?", "14"),
        ("human_test", "bars", "Is the average above 5?", "Yes"),
        ("human_test", "lines", "What is the color of the lowest line?", "Light blue"),
        ("human_test", "lines", "What is the difference at the crossing?", "0"),
        ("augmented_test", "pie", "What percentage of people said yes?", "45%"),
        ("augmented_test", "pie", "What is the share of tea?", "12.5"),
        ("augmented_test", "table", "In what year were sales highest?", "2014"),
        ("augmented_test", "table", "Who had the highest sales?", "Mills"),
    ]
    rows = [
        {"type": kind, "question": question, "answer": answer, "image": _image("chartqa", image)}
        for kind, image, question, answer in questions
    ]
    _save(root, "lmms-lab-encoder/ChartQA", "test", {"default": rows})
    return _essentials(rows, [row["answer"] for row in rows])


def _cv_bench(root: Path) -> list[dict]:
    """Sources of unequal size, so that the mean over sources is not the mean over questions."""
    count, relation = ("2D", "Count"), ("2D", "Relation")
    depth, distance = ("3D", "Depth"), ("3D", "Distance")
    questions = [
        (count, "ADE20K", "How many organs are in the image?", ["3", "2", "1", "0"], "C"),
        (count, "ADE20K", "How many windows are in the image?", ["2", "0", "4", "3", "1"], "A"),
        (relation, "ADE20K", "Where is the lamp with respect to the desk?", ["left", "right"], "B"),
        (count, "COCO", "How many zebras are in the image?", ["1", "2", "3", "5"], "D"),
        (count, "COCO", "How many spoons are in the image?", ["2", "0", "1", "4"], "B"),
        (relation, "COCO", "Where is the dog with respect to the cat?", ["above", "below"], "A"),
        (relation, "COCO", "Where is the cup with respect to the fork?", ["left", "right"], "A"),
        (depth, "Omni3D", "Which object is closer to the camera?", ["table", "shelves"], "B"),
        (depth, "Omni3D", "Which object is closer to the camera?", ["chair", "lamp"], "A"),
        (distance, "Omni3D", "Which object is closer to the door?", ["sofa", "bed"], "B"),
        (distance, "Omni3D", "Which object is closer to the desk?", ["pillow", "books"], "A"),
        (distance, "Omni3D", "Which object is closer to the car?", ["cone", "truck"], "A"),
    ]
    rows = []
    for number, ((kind, task), source, question, choices, letter) in enumerate(questions):
        options = "\n".join(f"({LETTERS[n]}) {choice}" for n, choice in enumerate(choices))
        rows.append(
            {
                "idx": number,
                "type": kind,
                "task": task,
                "image": _image("cv_bench", number),
                "question": question,
                "choices": choices,
                "answer": f"({letter})",
                "prompt": f"{question} Select from the following choices.\n{options}",
                "filename": f"img/{kind}/{task.lower()}/{number:06}.png",
                "source": source,
                "source_dataset": f"{source} made up",
                "source_filename": f"{number:012}.jpg" if kind == "2D" else "",
                "target_class": choices[0] if kind == "3D" else None,
                "target_size": 16 if kind == "2D" else None,
                "bbox": [[1.0, 2.0, 8.0, 9.0], [3.0, 4.0, 12.0, 14.0]] if task != "Count" else None,
            }
        )
    configs = {kind: [row for row in rows if row["type"] == kind] for kind in ("2D", "3D")}
    types = {
        "idx": Value("int32"),
        "target_class": Value("string"),
        "target_size": Value("int32"),
        "bbox": List(List(Value("float64"))),
    }
    _save(root, "nyu-visionx/CV-Bench", "test", {"default": rows, **configs}, **types)
    return _essentials(rows, [row["answer"] for row in rows])


def _mmvp(root: Path) -> list[dict]:
    """Pairs of like images: one question, the two answers."""
    questions = [
        ("Are the butterfly's wings closer to being open or closed?", "(a) Open (b) Closed", "(a)", "(b)"),
        ("Is the dog facing left or right?", "(a) Left (b) Right", "(b)", "(a)"),
        ("Do you see any window in this image?", "(a) Yes (b) No", "(a)", "(b)"),
    ]
    rows = [
        {
            "Index": 2 * pair + side + 1,
            "Question": question,
            "Options": options,
            "Correct Answer": answers[side],
            "image": _image("mmvp", pair, side),
        }
        for pair, (question, options, *answers) in enumerate(questions)
        for side in (0, 1)
    ]
    _save(root, "lmms-lab-eval/MMVP", "train", {"default": rows})
    return _essentials(rows, [row["Correct Answer"].strip("()").upper() for row in rows])


def _realworldqa(root: Path) -> list[dict]:
    letter = "Please answer directly with only the letter of the correct option and nothing else."
    word = "Please answer directly with a single word or number."
    questions = [
        ("In which direction is the front wheel facing?", ["Left", "Straight", "Right"], "C"),
        ("Which object is closer to us?", ["The yellow car", "The traffic sign"], "A"),
        ("How wide is the tree compared to the truck?", ["Wider", "Narrower", "As wide", "No tree"], "B"),
        ("Is there a stop sign?", ["Yes", "No"], "B"),
        ("How many traffic lights are there?", [], "2"),
        ("What is the speed limit?", [], "50"),
        ("Are we driving uphill or downhill?", [], "Downhill"),
    ]
    rows = []
    for number, (question, options, answer) in enumerate(questions):
        lines = [
            question,
            *(f"{LETTERS[n]}. {option}" for n, option in enumerate(options)),
            letter if options else word,
        ]
        rows.append({"image": _image("realworldqa", number), "question": "\n".join(lines), "answer": answer})
    _save(root, "lmms-lab-encoder/RealWorldQA", "test", {"default": rows})
    return _essentials(rows, [row["answer"] for row in rows])
