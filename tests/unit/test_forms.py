from typing import Annotated, Literal

from pydantic import BaseModel, Field

from runtime.domain.services.templates import FormField, FormSection
from runtime.templates.config import GenerationConfig
from runtime.templates.forms import sections_of


class Item(BaseModel):
    name: str = Field(title="Name of it", description="What it is called.")
    size: Literal["s", "l"] = "s"


class Folder(BaseModel):
    title: str
    children: "list[Folder]" = []


class Shown(BaseModel):
    kind: Literal["shown"]
    text: str


class Asked(BaseModel):
    kind: Literal["asked"]
    question: str
    text: str = ""


class Form(BaseModel):
    prompt: str = Field(max_length=8_000, json_schema_extra={"section": "What it says"})
    short: str = Field(default="", max_length=20, pattern="^a")
    wide: str = Field(default="", json_schema_extra={"widget": "textarea"})
    flag: bool = True
    ratio: float | None = Field(default=None, ge=0, le=2)
    level: Literal["low", "high"] | None = None
    tags: list[str] = Field(default=[], max_length=5)
    sizes: list[Literal["s", "l"]] = []
    item: Item | None = None
    items: list[Item] = []
    steps: list[Annotated[Shown | Asked, Field(discriminator="kind")]] = []
    routes: dict[str, str] = {}
    auto: Literal["auto"] | Literal["never"] = "auto"


def fields(model: type[BaseModel]) -> dict[str, FormField]:
    return {field.id: field for section in sections_of(model) for field in section.fields}


def test_fields_come_in_their_sections() -> None:
    first, second = sections_of(Form)

    assert (first.id, first.title) == ("what-it-says", "What it says")
    assert [field.id for field in first.fields] == ["prompt"]
    assert isinstance(second, FormSection)
    assert second.title == "General"


def test_the_models_options_come_last() -> None:
    class Bot(GenerationConfig):
        name: str = ""

    assert [section.title for section in sections_of(Bot)] == ["General", "Model"]


def test_each_type_has_its_widget() -> None:
    kinds = {name: field.type for name, field in fields(Form).items()}

    assert kinds == {
        "prompt": "textarea",
        "short": "text",
        "wide": "textarea",
        "flag": "checkbox",
        "ratio": "number",
        "level": "select",
        "tags": "list",
        "sizes": "list",
        "item": "object",
        "items": "list",
        "steps": "list",
        "routes": "object",
        "auto": "select",
    }


def test_limits_defaults_and_choices_are_those_of_the_schema() -> None:
    form = fields(Form)

    assert (form["prompt"].required, form["prompt"].maximum) == (True, 8_000)
    assert (form["short"].pattern, form["short"].default) == ("^a", "")
    assert (form["ratio"].minimum, form["ratio"].maximum) == (0, 2)
    assert (form["level"].options, form["level"].default) == (["low", "high"], None)
    assert form["auto"].options == ["auto", "never"]
    assert form["sizes"].options == ["s", "l"]
    assert form["tags"].maximum == 5
    assert form["tags"].options is None


def test_objects_and_lists_of_them_show_their_fields() -> None:
    form = fields(Form)

    for name in ("item", "items"):
        inner = {field.id: field for field in form[name].fields}
        assert inner["name"].label == "Name of it"
        assert inner["name"].description == "What it is called."
        assert (inner["name"].required, inner["size"].required) == (True, False)
        assert inner["size"].options == ["s", "l"]


def test_alternatives_are_one_form_with_a_choice_between_them() -> None:
    inner = {field.id: field for field in fields(Form)["steps"].fields}

    assert list(inner) == ["kind", "text", "question"]
    assert inner["kind"].options == ["shown", "asked"]
    assert (inner["kind"].required, inner["question"].required) == (True, False)


def test_what_holds_itself_is_shown_once() -> None:
    form = fields(Folder)

    inner = form["children"].fields
    assert [field.id for field in inner] == ["title", "children"]
    assert list(inner[1].fields) == []


class Leaf(BaseModel):
    kind: Literal["leaf"]


class Branch(BaseModel):
    kind: Literal["branch"]
    parts: "list[Annotated[Leaf | Branch, Field(discriminator='kind')]]" = []


class Tree(BaseModel):
    root: Annotated[Leaf | Branch, Field(discriminator="kind")]


def test_alternatives_that_hold_themselves_end_too() -> None:
    root = fields(Tree)["root"]

    assert [field.id for field in root.fields] == ["kind", "parts"]
    assert list(root.fields[1].fields) == []
