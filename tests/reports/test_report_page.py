"""The report as a reader gets it: what it says, what it never loads, and what it escapes."""

import re
from dataclasses import replace
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.text import Text

from reports import album, build, facts, html, inline, tables
from results import store
from tests.results import fake

FRAME = pd.DataFrame({"arm": ["a"]})
COMMAND = "python -m bench run --backbones llama3,mistral"
BANNER = "Phantom data, stand-in weights: these numbers say nothing about the backbones."


class Visible(HTMLParser):
    """The page as tags, and as the text that is shown."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.texts, self._hidden = [], [], False
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._hidden = tag in ("style", "title", "script")

    def handle_endtag(self, tag):
        self._hidden = False

    def handle_data(self, data):
        if data.strip() and not self._hidden:
            self.texts.append(" ".join(data.split()))

    @property
    def text(self):
        return "\n".join(self.texts)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A run of stand-ins on phantoms, with a failure and a trial that never ran."""
    made = fake.records(2)
    made[1] = fake.failure(made[1].spec, made[1].task, "Traceback\nRuntimeError: 1 < 2 & broke")
    run = fake.write_run(tmp_path_factory.mktemp("demo"), made)
    planned = [*(record.spec for record in made), fake.spec("Task02_Fake", "gpt2", "stand-in")]
    return build.write_report(run, expected=planned, command=COMMAND)


def real(**changes):
    """Records of real images and pre-trained weights."""
    return [
        replace(record, task=replace(record.task, origin="images", **changes))
        for record in fake.records(1, fake.REAL_ARMS)
    ]


def test_the_files_are_there(demo):
    folder = demo.parent
    for name in ("data", "by_task", "by_label", "by_modality", "cost", "failures"):
        assert (folder / "tables" / f"{name}.csv").stat().st_size and (folder / "tables" / f"{name}.tex").stat().st_size
    for name in ("dice", "difference", "learning_loss", "learning_dice", "cases_Task01_Fake", "cases_Task02_Fake"):
        assert (folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (folder / "figures" / f"{name}.svg").read_bytes()
        printed = (folder / "figures" / f"{name}.pdf").read_bytes()
        assert printed.startswith(b"%PDF") and b"/FontFile2" in printed and b"/Type3" not in printed
    assert len(pd.read_csv(folder.parent / "results.csv")) == 5 * 2 * 2
    assert not list(folder.rglob("*.tmp"))


def test_the_page_opens_with_the_warning(demo):
    page = Visible(demo.read_text())
    assert page.texts[0] == BANNER
    assert (demo.parent / "report.md").read_text().startswith(f"> **{BANNER}**")


def test_the_page_loads_nothing(demo):
    source = demo.read_text()
    loads = [
        value
        for tag, attributes in Visible(source).tags
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "data", "action", "poster")
    ]
    beside = [value for value in loads if not value.startswith(("data:", "#"))]
    assert loads and not beside  # the case viewer would be, but there are no volumes here
    assert not {tag for tag, _ in Visible(source).tags} & {"iframe", "object", "embed", "base"}
    scripts = [attributes for tag, attributes in Visible(source).tags if tag == "script"]
    assert scripts == [{}]  # ours, inside the page
    ours = re.search(r"<script>(.*?)</script>", source, re.DOTALL)[1]
    assert (
        ours == inline.source("sort.js", "hover.js", "fold.js")
        and escape(inline.policy(ours)).replace("&#x27;", "&#39;") in source
    )
    assert "@import" not in source and not re.search(r"url\(\s*['\"]?(?!data:)", source)


def test_what_is_on_the_page(demo):
    text = Visible(demo.read_text()).text
    for words in ("2 held-out cases", "cross-validation", "Table 1. Data", "Table 2", "Table 3", "n of expected"):
        assert words in text
    assert "5 of 7" in text and "1 failed" in text and "1 without a record" in text
    for words in (
        "RuntimeError: 1 < 2 & broke",
        COMMAND,
        "fake-host",
        "0.0-fake",
        "0123456789abcdef",
        "7,890,123",
        "512",
    ):
        assert words in text
    assert "Uncommitted changes\nyes" in text


def test_a_stand_in_is_called_so_everywhere(demo):
    folder = demo.parent
    texts = [Visible(demo.read_text()).text, (folder / "report.md").read_text()]
    texts += [path.read_text() for path in sorted((folder / "tables").iterdir()) if path.stem != "settings"]
    shown = 0
    for text in texts:
        named = text.replace(COMMAND, "")
        bare = re.findall(r"(?:llama3|mistral)(?! \(stand-in, random\))[^\n]{0,40}", named)
        # a CSV's column `backbone` follows the arm, which says it
        assert [found for found in bare if ",stand-in," not in found] == []
        shown += len(re.findall(r"(?:llama3|mistral) \(stand-in, random\)", named))
    assert shown > 20


def test_figures_say_it_too(tmp_path, monkeypatch):
    drawn = []
    run = fake.write_run(tmp_path, fake.records(2))
    monkeypatch.setattr(
        album, "save_all", lambda folder, figures: drawn.extend((n, f) for n, _, f in figures if f) or []
    )
    monkeypatch.setattr(html, "render", lambda page: "")
    monkeypatch.setattr(html, "render_markdown", lambda page, folder: "")
    build.write_report(run, command=COMMAND)
    assert len(drawn) == 13
    for name, figure in drawn:
        words = [" ".join(text.get_text().split()) for text in figure.findobj(Text)]
        assert any(word.startswith(BANNER) for word in words), name
        assert not [word for word in words if re.search(r"(llama3|mistral)(?!\s\(stand-in, random\))", word)], name
        assert any("(stand-in, random)" in word for word in words), name


def test_everything_from_data_is_escaped(tmp_path):
    evil = "<script>alert(1)</script>_$x$ & \"'"
    made = [
        replace(record, task=replace(record.task, labels=(evil,), notice=evil, source=evil, licence=evil))
        for record in fake.records(1)
    ]
    made = [
        replace(record, cases=tuple(replace(case, label=evil) for case in record.cases[::2]), provenance={"host": evil})
        for record in made
    ]
    made[2] = fake.failure(made[2].spec, made[2].task, evil)
    page = build.write_report(fake.write_run(tmp_path, made), title=evil, command=evil)
    source = page.read_text()
    assert source.count("<script") == 1 and "<script>alert" not in source
    assert Visible(source).text.count("<script>alert(1)</script>") >= 6
    prose = [line for line in (page.parent / "report.md").read_text().splitlines() if not line.startswith("    ")]
    assert "<script" not in "\n".join(prose)  # an indented line is code, in which nothing is markup
    assert r"\_\$x\$ \&" in (page.parent / "tables" / "data.tex").read_text()


def test_real_weights_and_images_have_no_banner_but_their_notice(tmp_path):
    made = real(notice="Labels are a model's output.")
    page = Visible(build.write_report(fake.write_run(tmp_path, made), command=COMMAND).read_text())
    assert "these numbers say nothing" not in page.text and ("p", {"class": "banner", "role": "alert"}) not in page.tags
    assert page.text.count("Labels are a model's output.") >= 3
    assert "smollm2 (random twin): frozen random weights" in page.text and fake.SHA in page.text


@pytest.mark.parametrize(
    ("origin", "arms", "banner"),
    [
        ("phantom", fake.REAL_ARMS, "Phantom data: these numbers say nothing about the backbones."),
        ("images", fake.ARMS, "Stand-in weights: these numbers say nothing about the backbones."),
    ],
)
def test_the_warning_names_what_applies(tmp_path, origin, arms, banner):
    made = [replace(record, task=replace(record.task, origin=origin)) for record in fake.records(1, arms)]
    page = build.write_report(fake.write_run(tmp_path, made, previews=False), command=COMMAND)
    assert Visible(page.read_text()).texts[0] == banner


def test_missing_knowledge_is_said_and_no_error(tmp_path):
    made = [replace(record, cost={}, provenance={}, curve=()) for record in real(source="", licence="")]
    text = Visible(build.write_report(fake.write_run(tmp_path, made, previews=False), command=COMMAND).read_text()).text
    assert text.count("unknown") > 10 and text.count("no preview file") == 3
    assert "No trial left a learning curve." in text


def test_a_run_where_all_failed_still_has_a_report(tmp_path):
    made = [fake.failure(record.spec, record.task) for record in fake.records(1)]
    text = Visible(build.write_report(fake.write_run(tmp_path, made), command=COMMAND).read_text()).text
    assert "No trial is complete: there are no scores." in text and "3 failed" in text


def test_the_baseline_alone(tmp_path):
    made = fake.records(1, (("none", "none"),))
    page = build.write_report(fake.write_run(tmp_path, made), command=COMMAND)
    assert "<strong>0." not in page.read_text()


def test_the_same_records_give_the_same_page(tmp_path):
    run = fake.write_run(tmp_path, fake.records(1))
    first = build.write_report(run, command=COMMAND).read_bytes()
    assert build.write_report(run, command=COMMAND).read_bytes() == first


def test_a_folder_without_records_is_refused(tmp_path):
    with pytest.raises(build.ReportError, match="no trial record"):
        build.write_report(tmp_path, command=COMMAND)
    assert store.read(tmp_path) == [] and not list(tmp_path.iterdir())


def test_the_markdown_shows_every_figure(demo):
    text = (demo.parent / "report.md").read_text()
    shown = re.findall(r"\(<(figures/[^>]+)>\)", text)
    assert sorted(shown) == sorted(f"figures/{path.name}" for path in (demo.parent / "figures").glob("*.png"))


@pytest.mark.slow
def test_ten_tasks_fit_into_the_page(tmp_path):
    page = build.write_report(fake.write_run(tmp_path, fake.records(10, cases=3)), command=COMMAND)
    assert page.stat().st_size < 15_000_000


def test_a_cell_says_its_interval_and_answers_open_the_page():
    cell = tables.Cell("0.743", hover="95% interval <0.70 to 0.78>")
    table = tables.Table("by_task", "Scores.", ("Arm", "Dice"), (tables.Group("", ((tables.Cell("a"), cell),)),), FRAME)
    told = facts.Facts("title", "", (), {}, 1, 1, 0, 1)
    answers = html.Answers("No arm is called a gain.", replace(table, name="answers", caption="Three questions."))
    page = html.Page(told, table, {"by_task": table}, [], [], COMMAND, answers)
    source = html.render(page)
    assert source.count('title="95% interval &lt;0.70 to 0.78&gt;"') == 3
    text = Visible(source).text
    assert text.index("No arm is called a gain.") < text.index("Scores.")
    assert "Three questions." in html.render_markdown(page, Path())


def test_sections_without_a_table_of_theirs_are_not_in_the_contents():
    table = tables.plain("cost", "Cost.", pd.DataFrame({"Arm": ["a"]}))
    page = html.Page(facts.Facts("t", "", (), {}, 1, 1, 0, 1), table, {"cost": table}, [], [], COMMAND)
    links = [attributes["href"] for tag, attributes in Visible(html.render(page)).tags if tag == "a"]
    assert links == ["#cost", "#training", "#cases", "#failures"]


def test_every_link_leads_to_a_section(demo):
    tags = Visible(demo.read_text()).tags
    places = {attributes.get("id") for _, attributes in tags}
    links = [attributes["href"][1:] for tag, attributes in tags if tag == "a"]
    assert links == [key for key in html.SECTIONS if key in links] and set(links) <= places
    assert {"data", "by_task", "ranking", "cost", "cases", "provenance"} <= set(links)
