"""Template folders: what is found, replaced, kept and reported."""

from pathlib import Path

import pytest

from runtime.application.services.generation.builtin import generator_modes
from runtime.domain.errors import TemplateNotFound
from runtime.domain.value_objects.agents import TemplateRef
from runtime.infrastructure.frameworks.discovery import TemplateFolder, register_built_in
from runtime.infrastructure.frameworks.registry import TemplateRegistry
from runtime.infrastructure.tools.service import BuiltinTools

SOURCE = """
from collections.abc import AsyncGenerator

from pydantic import BaseModel

from runtime.domain.events.runs import RunEvent, TextDelta
from runtime.domain.services.executor import RunInput
from runtime.templates.base import BaseAgentTemplate


class Echo(BaseAgentTemplate):
    template_id, template_name, template_version = "echo", "Echo", "VERSION"

    class Config(BaseModel):
        prefix: str = "PREFIX"

    async def stream_execute(self, input: RunInput) -> AsyncGenerator[RunEvent]:
        yield TextDelta(self.config.prefix)
"""


def source(version: str = "1.0.0", prefix: str = "hi") -> str:
    return SOURCE.replace("VERSION", version).replace("PREFIX", prefix)


@pytest.fixture
def registry() -> TemplateRegistry:
    return TemplateRegistry(BuiltinTools())


@pytest.fixture
def folder(tmp_path: Path, registry: TemplateRegistry) -> TemplateFolder:
    return TemplateFolder(tmp_path, registry)


def versions(registry: TemplateRegistry, id: str = "echo") -> list[str]:
    return [info.ref.version for info in registry.list() if info.ref.id == id]


def default(registry: TemplateRegistry, version: str | None = None) -> object:
    ref = registry.get("echo", version).ref
    return registry.check(ref, {}).config["prefix"]


def test_every_built_in_template_is_found(registry: TemplateRegistry) -> None:
    register_built_in(registry)
    ids = {info.ref.id for info in registry.list()}
    assert {"langgraph-simple-test", "customer-service-bot", "react-agent"} <= ids


def test_a_file_and_a_package_are_units_and_underscored_ones_are_helpers(
    folder: TemplateFolder, registry: TemplateRegistry
) -> None:
    (folder.path / "one.py").write_text(source())
    (folder.path / "two").mkdir()
    (folder.path / "two" / "__init__.py").write_text("from .inner import Echo\n")
    (folder.path / "two" / "inner.py").write_text(source("2.0.0"))
    (folder.path / "_helper.py").write_text(source("3.0.0"))
    folder.sync()

    assert versions(registry) == ["2.0.0", "1.0.0"]


def test_an_edit_replaces_the_version_and_is_a_new_generation(
    folder: TemplateFolder, registry: TemplateRegistry
) -> None:
    (folder.path / "one.py").write_text(source(prefix="old"))
    folder.sync()
    before = registry.get("echo").generation
    folder.sync()
    assert registry.get("echo").generation == before

    (folder.path / "one.py").write_text(source(prefix="new"))
    folder.sync()
    assert registry.get("echo").generation > before
    assert default(registry) == "new"


def test_a_new_version_in_the_same_file_leaves_the_old_one_for_its_agents(
    folder: TemplateFolder, registry: TemplateRegistry
) -> None:
    (folder.path / "one.py").write_text(source("1.0.0", "old"))
    folder.sync()
    (folder.path / "one.py").write_text(source("1.1.0", "new"))
    folder.sync()

    assert versions(registry) == ["1.1.0", "1.0.0"]
    assert (default(registry), default(registry, "1.0.0")) == ("new", "old")


@pytest.mark.parametrize(
    "broken",
    ["def (", "raise SystemExit(3)", "import nowhere", "1 / 0", source(version="not-a-version")],
)
def test_a_broken_edit_keeps_what_served_and_says_why(
    folder: TemplateFolder, registry: TemplateRegistry, broken: str
) -> None:
    (folder.path / "one.py").write_text(source())
    folder.sync()
    (folder.path / "one.py").write_text(broken)
    folder.sync()

    (problem,) = registry.problems()
    assert problem.source == "one.py"
    assert problem.serving == [TemplateRef("echo", "1.0.0")]
    assert str(folder.path) not in problem.error
    assert default(registry) == "hi"

    (folder.path / "one.py").write_text(source(prefix="mended"))
    folder.sync()
    assert registry.problems() == []
    assert default(registry) == "mended"


def test_a_file_that_goes_takes_its_templates_and_problems_along(
    folder: TemplateFolder, registry: TemplateRegistry
) -> None:
    (folder.path / "one.py").write_text(source())
    (folder.path / "bad.py").write_text("(")
    folder.sync()
    for name in ("one.py", "bad.py"):
        (folder.path / name).unlink()
    folder.sync()

    assert registry.problems() == []
    with pytest.raises(TemplateNotFound):
        registry.get("echo")


def test_the_same_version_in_two_files_is_reported_and_the_first_stays(
    folder: TemplateFolder, registry: TemplateRegistry
) -> None:
    (folder.path / "one.py").write_text(source(prefix="first"))
    (folder.path / "two.py").write_text(source(prefix="second"))
    folder.sync()

    (problem,) = registry.problems()
    assert problem.source == "two.py"
    assert "raise template_version" in problem.error
    assert default(registry) == "first"


def test_an_edited_helper_reloads_the_units(
    folder: TemplateFolder, registry: TemplateRegistry
) -> None:
    (folder.path / "_words.py").write_text('HELLO = "one"')
    unit = "from _words import HELLO\n" + source().replace('"hi"', "HELLO")
    (folder.path / "one.py").write_text(unit)
    folder.sync()
    assert default(registry) == "one"

    (folder.path / "_words.py").write_text('HELLO = "two"')
    folder.sync()
    assert default(registry) == "two"


def test_an_agent_whose_version_is_gone_gets_the_next_compatible_one(
    folder: TemplateFolder, registry: TemplateRegistry
) -> None:
    (folder.path / "one.py").write_text(source("1.4.0"))
    (folder.path / "two.py").write_text(source("2.0.0"))
    folder.sync()

    assert registry.entry(TemplateRef("echo", "1.2.0")).info.ref.version == "1.4.0"
    with pytest.raises(TemplateNotFound, match=r"echo@1\.4\.0"):
        registry.entry(TemplateRef("echo", "1.5.0"))


def test_the_newest_stable_version_is_the_default(
    folder: TemplateFolder, registry: TemplateRegistry
) -> None:
    for name, version in (("a", "1.9.0"), ("b", "1.10.0"), ("c", "2.0.0rc1")):
        (folder.path / f"{name}.py").write_text(source(version))
    folder.sync()

    assert registry.get("echo").ref.version == "1.10.0"


MODE = """
from runtime.modes import Single, Stream


class Same(Single):
    name = "NAME"

    def stream(self, events: Stream) -> Stream:
        return events
"""


def test_a_file_may_hold_a_generator_mode(tmp_path: Path, registry: TemplateRegistry) -> None:
    modes = generator_modes()
    folder = TemplateFolder(tmp_path, registry, [modes])
    file = tmp_path / "same.py"
    file.write_text(MODE.replace("NAME", "same"))
    folder.sync()
    assert modes.arrange("same", {}).name == "same"

    file.write_text(MODE.replace("NAME", "other"))
    folder.sync()
    assert "other" in modes.names
    assert "same" not in modes.names

    file.unlink()
    folder.sync()
    assert modes.names == generator_modes().names


@pytest.mark.parametrize("name", ["standard", ""])
def test_a_mode_s_name_has_to_be_its_own(
    tmp_path: Path, registry: TemplateRegistry, name: str
) -> None:
    modes = generator_modes()
    standard = modes.get("standard")
    (tmp_path / "same.py").write_text(MODE.replace("NAME", name))
    TemplateFolder(tmp_path, registry, [modes]).sync()

    assert modes.get("standard") is standard
    assert "generator mode" in registry.problems()[0].error
