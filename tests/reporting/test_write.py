"""From a run directory to a report: what is in it, what is said where something is missing, what is refused."""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from headway import reporting
from headway.errors import RunDirectoryError, StorageError, UsageError
from headway.integrity.audit import Audit
from headway.integrity.files import MEANING, Finding
from headway.progress import Silent
from headway.reporting import export, markdown, write
from headway.reporting import page as page_module
from headway.reporting.measured import measurement
from headway.reporting.writing import chapters_of, read_results
from headway.store import RunDirectory, TableRecord
from headway.studies import Result
from support_report import heads_frame, run_directory, studied
from support_studies import split

EVIL = '<img src=x onerror="alert(1)"></script><!--'


class Reader(HTMLParser):
    """The elements and texts of a page, as a browser would split them."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.texts, self.ids, self.links = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.elements.append((tag, attributes))
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if attributes.get("href", "").startswith("#"):
            self.links.append(attributes["href"][1:])

    def handle_data(self, data):
        self.texts.append(data)


class Recorder:
    def __init__(self):
        self.total, self.done = 0, 0

    def start(self, what, total, done=0):
        self.total = total

    def advance(self, n=1, note=""):
        self.done += n

    def close(self):
        pass


@pytest.fixture(scope="module")
def result():
    return studied(heads_frame())


@pytest.fixture(scope="module")
def written(result, tmp_path_factory):
    directory = run_directory(tmp_path_factory.mktemp("runs") / "made", result)
    progress = Recorder()
    path = write(directory, progress=progress)
    return directory, path, path.read_text(encoding="utf-8"), progress


@pytest.fixture
def with_result(tmp_path, result, written):
    """A directory of the result, with its pictures, which take long to draw."""
    directory = run_directory(tmp_path / "made", result)
    shutil.copytree(written[0].figures, directory.figures)
    return directory


def test_the_page_stands_alone(written):
    _, path, text, _ = written
    assert path.name == "report.html"
    reader = Reader(text)
    for tag, attributes in reader.elements:
        assert tag not in ("iframe", "object", "embed", "base"), tag
        for name in ("src", "href", "action", "data", "srcset"):
            assert attributes.get(name, "#")[:1] == "#" or attributes[name] == "data:,", (tag, attributes)
    styles = re.findall(r"<style>(.*?)</style>", text, flags=re.DOTALL)
    assert styles
    assert not any("url(" in style or "@import" in style for style in styles)


def test_its_policy_allows_its_own_scripts_and_no_network(written):
    *_, text, _ = written
    policy = dict(
        part.strip().split(" ", 1)
        for part in re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1].replace("&#39;", "'").split(";")
    )
    assert policy["default-src"] == "'none'"
    assert "connect-src" not in policy
    assert "unsafe" not in policy["script-src"]
    scripts = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    hashes = {f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts}
    assert len(hashes) == 2
    assert set(policy["script-src"].split()) == hashes


def test_everything_can_be_linked_to(written):
    reader = Reader(written[2])
    assert len(reader.ids) == len(set(reader.ids))
    assert set(reader.links) <= set(reader.ids)
    figures = [attributes["id"] for tag, attributes in reader.elements if tag == "figure"]
    assert len(figures) > 20
    assert set(figures) <= set(reader.links)


def test_a_reader_finds_summary_measurement_definitions_and_limits(written, result):
    reader = Reader(written[2])
    said = " ".join(" ".join(reader.texts).split())
    for finding in result.found:
        assert " ".join(finding.text.split()) in said
    for words in (
        "What was found",
        "What was measured",
        "Definitions",
        "Methods and limits",
        "c0ffee",
        "9 runs, 6 steps",
    ):
        assert words in said
    for note in result.notes:
        assert note in said
    for model in ("onset", "peak"):
        assert " ".join(result.values["lmm"][model]["summary"].split()) in said


def test_every_figure_has_a_sentence_a_picture_and_words_for_those_who_cannot_see_it(written):
    directory, _, text, progress = written
    reader = Reader(text)
    charts = [attributes for tag, attributes in reader.elements if "data-chart" in attributes]
    folded = set(re.findall(r'<details class="folded">.*?data-chart="([^"]+)"', text, flags=re.DOTALL))
    figures = [box for box in charts if not box["data-chart"].rpartition("-")[0].endswith("-small")]
    boxes = [box for box in figures if box["data-chart"] not in folded]
    assert len(folded) == 8  # the diagnostics of the published models, which are not exported
    assert len(boxes) == progress.total == progress.done
    for box in boxes:
        assert box["role"] == "img"
        assert len(box["aria-label"]) > 20
        svg = ElementTree.parse(directory.figures / f"{box['data-chart']}.svg").getroot()
        assert svg.tag.endswith("svg")
        assert len(list(svg.iter())) > 20
        png = (directory.figures / f"{box['data-chart']}.png").read_bytes()
        assert png.startswith(b"\x89PNG")
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", text, flags=re.DOTALL)
    assert len(captions) == len(figures)
    assert all(caption.strip().endswith(".") for caption in captions)


def test_step_axes_say_what_they_show(written):
    directory = written[0]
    svg = (directory.figures / "development-prev_self_ratio-trajectories.svg").read_text()
    assert "Training step + 1 (log scale)" in svg


def test_a_picture_says_without_its_page_what_it_shows(written):
    svg = (written[0].figures / "development-prev_self_ratio-trajectories.svg").read_text()
    assert "The largest head of every run over training" in svg
    assert "Thin lines are seeds, the thick line is their mean." in svg


def test_the_report_separates_settings_from_provenance(written):
    [(_, record)] = measurement(written[0]).records
    said = dict(record)
    assert len(said) == len(record), "no label stands twice"
    assert (said["suite"], said["asked suite"]) == ("made", "models/made")
    assert (said["corpus sha256"], said["asked corpus"]) == ("c0ffee", "/data/texts.txt")


def test_two_studies_are_summed_up_at_the_top_and_each_is_a_chapter_of_its_own(result, with_result):
    directory = with_result
    clusters = Result("weight_clusters", "weights")
    clusters.find("groups", "groups", "No clusters were found.")
    clusters.save(directory)
    page = write(directory, figures=False).read_text(encoding="utf-8")
    summary = page[page.index('id="summary"') : page.index("<article")]
    texts = Reader(summary).texts
    assert {result.headline[0].answer, "No clusters were found."} <= set(texts)
    assert [attributes["id"] for tag, attributes in Reader(page).elements if tag == "article"] == [
        "development-prev_self_ratio", "weight_clusters-weights",
    ]  # fmt: skip
    assert page.count("</article>") == 2
    text = write(directory, format="md").read_text(encoding="utf-8")
    assert text.index("No clusters were found.") < text.index("## What was measured")


def test_the_same_result_gives_the_same_page(written, tmp_path, result):
    again = run_directory(tmp_path / "made", result)
    assert write(again, figures=False).read_text(encoding="utf-8") == written[2]
    assert not again.figures.exists()


def test_pictures_of_figures_that_are_no_more_go_away(written):
    directory, *_ = written
    stale = directory.figures / "development-prev_self_ratio-gone.svg"
    foreign = directory.figures / "mine.svg"
    stale.write_text("old")
    foreign.write_text("not ours")
    write(directory, format="md")
    assert not stale.exists()
    assert foreign.exists()


def test_pictures_are_drawn_again_only_if_they_or_their_figures_changed(written, tmp_path, monkeypatch):
    directory = RunDirectory(shutil.copytree(written[0].path, tmp_path / "copy"))
    chapters = chapters_of(read_results(directory))
    figures = [(chapter, figure) for chapter in chapters for figure in chapter.figures if not figure.folded]
    names = [page_module.address(chapter, figure.name) for chapter, figure in figures]
    drawn = []

    def pictures(spec):
        drawn.append(spec["title"]["text"])
        return b"<svg/>", b"png"

    monkeypatch.setattr(export, "_pictures", pictures)
    export.write_figures(chapters, directory, Silent())
    assert not drawn
    (directory.figures / f"{names[0]}.svg").write_text("edited")
    (directory.figures / f"{names[1]}.png").unlink()
    export.write_figures(chapters, directory, Silent())
    assert len(drawn) == 2
    assert (directory.figures / f"{names[1]}.png").read_bytes() == b"png"
    object.__setattr__(figures[0][1], "title", "Another title")  # as another version or other data would change it
    export.write_figures(chapters, directory, Silent())
    assert drawn[2:] == ["Another title"]
    (directory.figures / "drawn.json").write_text("[")
    export.write_figures(chapters, directory, Silent())
    assert len(drawn) == 3 + len(names)


def test_a_page_is_made_again_only_if_its_results_or_it_changed(tmp_path, result):
    made = replace(result, sources={"heads": "one"}, made={"options": {}})
    rundir = run_directory(tmp_path / "made", made)
    path = write(rundir, figures=False)

    def made_again():
        os.utime(path, (1, 1))
        write(rundir, figures=False, again=False)
        return path.stat().st_mtime > 1

    assert not made_again()
    page = path.read_bytes()
    path.write_bytes(page[:-1])  # damaged, or edited
    assert made_again()
    assert path.read_bytes() == page
    replace(made, sources={"heads": "other"}).save(rundir)
    assert made_again()
    result.save(rundir)  # nobody knows what it was made from
    assert made_again()
    assert made_again()


def test_the_script_of_the_page_is_kept_and_a_damaged_copy_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADWAY_CACHE", str(tmp_path))
    monkeypatch.setattr("vl_convert.javascript_bundle", lambda: "const vega = 1;")
    vega = page_module.vega.__wrapped__
    assert vega() == "{const vega = 1;}"
    monkeypatch.setattr("vl_convert.javascript_bundle", lambda: "made again")
    assert vega() == "{const vega = 1;}"
    (kept,) = (tmp_path / "vega").iterdir()
    kept.write_text("const vega = 2;")
    assert vega() == "{made again}"
    monkeypatch.setenv("HEADWAY_CACHE", str(kept / "below a file"))  # cannot be written to
    assert vega() == "{made again}"


def test_markdown_shows_the_same_figures(written, result):
    directory, *_ = written
    path = write(directory, format="md")
    text = path.read_text(encoding="utf-8")
    assert path.name == "report.md"
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert len(shown) > 20
    assert all((directory.path / picture).exists() for picture in shown)
    assert "\n## What was found\n" in text
    assert result.values["lmm"]["onset"]["summary"].strip("\n") in text


def test_names_with_html_are_shown_as_they_are(tmp_path):
    result = studied(
        heads_frame(sizes=("1m", "5m"), seeds=("1", "2"), names=lambda name: f"{name}{EVIL}"), bootstraps=0
    )
    result.notes.append(EVIL)
    result.find("growth", "evil", EVIL)
    directory = run_directory(tmp_path / "evil", result)
    with directory.changing_manifest() as manifest:
        manifest.tables["heads"].identity["corpus"]["name"] = EVIL
    text = write(directory, figures=False).read_text(encoding="utf-8")
    reader = Reader(text)
    assert not [element for element in reader.elements if element[0] == "img"]
    assert sum(tag == "script" for tag, _ in reader.elements) == 4
    assert EVIL in reader.texts
    unescaped = re.sub(r"\\<", "", markdown.render(chapters_of(read_results(directory)), measurement(directory)))
    assert "<img" not in re.sub(r"^(`{3,})text\n.*?^\1$", "", unescaped, flags=re.DOTALL | re.MULTILINE)


def test_a_directory_that_was_not_analysed(tmp_path):
    with pytest.raises(RunDirectoryError, match="run `headway analyze"):
        write(run_directory(tmp_path / "bare", None))


def test_a_folder_that_is_no_run_directory(tmp_path):
    with pytest.raises(RunDirectoryError, match="not a run directory"):
        write(tmp_path)


def test_a_format_that_does_not_exist(written):
    with pytest.raises(UsageError, match=r"--format: unknown value 'pdf'.*html, md"):
        write(written[0], format="pdf")


def test_a_damaged_result(tmp_path, result):
    directory = run_directory(tmp_path / "damaged", result)
    (directory.analysis / "development" / "prev_self_ratio.heads.parquet").write_bytes(b"PAR1")
    with pytest.raises(StorageError, match="Run `headway analyze"):
        write(directory)


@pytest.mark.parametrize("format", ["html", "md"])
def test_a_report_of_an_older_analysis_says_so(with_result, tmp_path, result, format):
    sources = {"heads": RunDirectory(tmp_path).contents("heads")}
    directory = run_directory(with_result.path, replace(result, sources=sources))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "Out of date" not in write(directory, format=format, figures=False).read_text(encoding="utf-8")
    directory.write_partition("heads", "a", 7, pl.DataFrame({"x": [1.0]}), {"job": directory.claimed("heads")})
    with pytest.warns(UserWarning, match=r"analysed before the table heads changed.*Run `headway analyze"):
        path = write(directory, format=format, figures=False)
    assert "Out of date" in path.read_text(encoding="utf-8")


def test_escape_sequences_do_not_reach_markdown():
    assert markdown.escaped("a\x1b[2Kb\u202ec\r\nd") == r"a\\x1b\[2Kb\\u202ec d"
    assert markdown.code_block("a\x1bb\nc") == "```text\na\\x1bb\nc\n```"


def test_a_missing_table_is_named_where_its_figure_would_be(tmp_path, result):
    tables = {name: frame for name, frame in result.tables.items() if name not in ("onset_shares", "mds")}
    left = {"what": "tables.mds_separation", "reason": "two runs make no map", "tables": ["mds"]}
    partial = replace(result, values=result.values | {"left_out": [left]}, tables=tables)
    directory = run_directory(tmp_path / "partial", partial)
    text = write(directory, figures=False).read_text(encoding="utf-8")
    assert "is not shown: the results hold no onset_shares" in text
    assert "is not shown: two runs make no map" in text
    assert 'data-chart="development-prev_self_ratio-onset-shares"' not in text


def test_figures_that_need_bootstraps_say_so(tmp_path):
    directory = run_directory(tmp_path / "quick", studied(heads_frame(), bootstraps=0))
    text = write(directory, figures=False).read_text(encoding="utf-8")
    assert "How many seeds tell two sizes apart?</strong> is not shown: it resamples or shuffles" in text
    assert "--bootstraps above 0" in text
    assert "where the data allow" not in text


def test_duplicates_and_the_coefficients_intervals_have_figures(written):
    for name in ("identical-steps", "relation-intervals"):
        assert f'data-chart="development-prev_self_ratio-{name}"' in written[2]
    assert "which of two identical steps" in written[2]


def test_the_summary_has_a_line_and_a_small_figure_for_each_key_finding(written, result):
    page = written[2]
    summary = page[page.index('id="summary"') : page.index("</section>")]
    texts = Reader(summary).texts
    assert [text for text in texts if text in {finding.answer for finding in result.headline}] == [
        finding.answer for finding in result.headline
    ]
    small = re.findall(r'data-chart="([^"]+)-small-\d+"', summary)
    assert len(small) == len(set(small)) == len(result.headline) == 7
    figures = set(re.findall(r'data-figure="([^"]+)"', page))
    assert set(small) <= figures
    drawn = json.loads(re.search(r'id="headway-figures">(.*?)</script>', page, flags=re.DOTALL)[1])["figures"]
    for place, name in enumerate(small, start=1):
        assert "facet" not in drawn[f"{name}-small-{place}"]["spec"], "one panel"


def test_the_summary_shows_a_picture_once(result):
    (chapter,) = chapters_of([result])
    one = chapter.summary[0]
    other = replace(one, at={"size": chapter.sizes[-1]})
    repeated = replace(chapter, summary=[one, replace(one, answer="The same picture."), other])
    assert [bool(item["figure"]) for item in page_module.chapter_view(repeated)["summary"]] == [True, False, True]
    small = [name.rpartition("-")[2] for name in page_module.figures([repeated])["figures"] if "-small-" in name]
    assert small == ["1", "3"]


def test_each_score_is_a_chapter_with_addresses_of_its_own(result, tmp_path, monkeypatch):
    """Two scores of one table: as alike as chapters can be."""
    monkeypatch.setattr(export, "_pictures", lambda spec: (b"<svg/>", b"png"))  # which files there are is asked here
    directory = run_directory(tmp_path / "made", result)
    other = heads_frame(sizes=("1m", "5m"), seeds=("1", "2"), steps=(0, 8, 64, 512)).rename(
        {"prev_self_ratio": "first"}
    )
    studied(other, bootstraps=0, score="first").save(directory)
    page = write(directory).read_text(encoding="utf-8")
    reader = Reader(page)
    assert [attributes["id"] for tag, attributes in reader.elements if tag == "article"] == [
        "development-first", "development-prev_self_ratio",
    ]  # fmt: skip
    assert len(reader.ids) == len(set(reader.ids))
    assert set(reader.links) <= set(reader.ids)
    headings = [text for text in reader.texts if text.endswith("how it develops during training")]
    assert {"Attention to the first token: how it develops during training"} < set(headings)
    for score in ("first", "prev_self_ratio"):
        assert (directory.figures / f"development-{score}-trajectories.svg").exists()


def test_captions_are_short_sentences(result):
    captions = [item.sentence for chapter in chapters_of([result]) for figure in chapter.figures for item in [figure]]
    assert len(captions) > 20
    for caption in captions:
        for sentence in split(caption):
            assert len(sentence.split()) <= 25, sentence


def test_the_page_holds_the_columns_that_are_drawn_and_no_others(result):
    [chapter] = chapters_of([result])
    peaks = page_module.tables([chapter])["development-prev_self_ratio.peaks"]
    assert set(peaks.columns) == {"run", "size", "seed", "n_params", "n_params_apart", "max_attn"}
    assert "seed_name" in chapter.tables["peaks"].columns


def test_the_report_says_that_no_steps_are_identical(tmp_path):
    result = studied(heads_frame(steps=(0, 8, 64, 512)), bootstraps=0)
    text = write(run_directory(tmp_path / "apart", result), figures=False).read_text(encoding="utf-8")
    assert "No two measured steps of a run have the same scores in all heads." in text
    assert "is not shown: no two steps of a run are identical" in text


def test_a_figure_without_its_table_gives_the_reason_of_its_part(tmp_path):
    text = write(run_directory(tmp_path / "one", studied(heads_frame(steps=(4000,)), bootstraps=0)), figures=False)
    page = text.read_text(encoding="utf-8")
    assert (
        "The onset of each run lies somewhere in its bar</strong> is not shown: no run has two distinct steps" in page
    )
    assert "where the data allow" not in page


@pytest.mark.parametrize("choice", [{"sizes": ("1m",)}, {"seeds": ("1",)}, {"steps": (4000,)}])
def test_one_size_one_seed_or_one_step(tmp_path, choice):
    directory = run_directory(tmp_path / "small", studied(heads_frame(**choice), bootstraps=5))
    text = write(directory).read_text(encoding="utf-8")
    assert "data-chart" in text
    assert "is not shown" in text


def test_scores_that_are_not_numbers_are_named(tmp_path):
    frame = heads_frame(sizes=("1m", "5m"), seeds=("1", "2"))
    holed = pl.when((pl.col("step") == 64) & (pl.col("head") == 0)).then(float("nan")).otherwise("prev_self_ratio")
    directory = run_directory(tmp_path / "holed", studied(frame.with_columns(prev_self_ratio=holed), bootstraps=0))
    text = write(directory, figures=False).read_text(encoding="utf-8")
    assert "scores that are not numbers at step 64" in text


def test_failed_checkpoints_are_listed(tmp_path, result):
    directory = run_directory(tmp_path / "failed", result)
    directory.add_failure({"table": "heads", "checkpoint": "5m-1@64", "error": "weights are <truncated>"})
    text = write(directory, figures=False).read_text(encoding="utf-8")
    assert "1 checkpoint could not be done" in text
    assert "weights are &lt;truncated&gt;" in text


def test_importing_the_report_loads_nothing_heavy():
    code = "import headway.reporting, sys; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"altair", "vl_convert", "jinja2", "torch", "scipy"} & set(loaded)


def audit_of(findings, where="", deep=False, flags=("equal_weights", "equal_weights", None)):
    table = pl.DataFrame({"findings": flags, "reference": [False, False, False]})
    return Audit("toy", tuple(findings), table, {}, where=where, deep=deep)


def test_an_audit_in_the_run_directory_is_shown_and_escaped(with_result):
    assert "Is the suite what it says it is?" not in write(with_result, figures=False).read_text()
    flag = Finding("equal_weights", "a", (0, 1), f"steps 0 and 1 have equal weights {EVIL}")
    audit_of([flag], where=f"step=0..4{EVIL}").save(with_result.path)
    page = write(with_result, figures=False).read_text()
    assert "of 3 checkpoints: 2 of them are flagged" in page
    assert "steps 0 and 1 have equal weights" in page
    assert EVIL not in page
    markdown = write(with_result, format="md").read_text()
    assert "of 3 checkpoints: 2 of them are flagged" in markdown
    assert EVIL not in markdown
    for damaged in ("{", "[]", '{"findings": 3}'):
        (with_result.path / "audit.json").write_text(damaged)
        assert "audit.json is damaged" in write(with_result, figures=False).read_text()


def test_every_finding_of_an_audit_is_shown_with_its_meaning(with_result):
    kinds = [*MEANING, "of_a_later_headway"]
    audit_of([Finding(kind, "toy", (i,), f"message {i}.", note=i % 2 == 1) for i, kind in enumerate(kinds)]).save(
        with_result.path
    )
    page = Reader(write(with_result, figures=False).read_text())
    markdown = write(with_result, format="md").read_text()
    for i, kind in enumerate(kinds):
        words = kind.replace("_", " ")
        assert f"message {i}." in page.texts
        assert words + (" (note)" if i % 2 == 1 else "") in page.texts
        assert f"| {words}{' (note)' if i % 2 == 1 else ''} | message {i}. |" in markdown
        if kind in MEANING:
            assert MEANING[kind] in page.texts
            assert f"- **{words}**: {MEANING[kind]}\n" in markdown
    assert len(re.findall(r"^\| toy \|", markdown, re.M)) == len(kinds)


def test_an_audit_says_what_it_was_of_and_what_it_cannot_see(with_result):
    sound = audit_of([], flags=[None] * 3)
    sound.save(with_result.path)
    shallow = write(with_result, format="md").read_text()
    assert "no proof that its weights are right" in shallow
    assert "The weights were not read" in shallow
    assert "A flag is" not in shallow
    note = Finding("equal_weights", "a", (1,), "as it should be", note=True)
    audit_of([Finding("not_finite", "a", (0,), "NaN"), note], deep=True).save(with_result.path)
    deep = write(with_result, format="md").read_text()
    assert "A flag is a reason to look at a step or to leave it out" in deep
    assert "Of the checkpoints that this report rests on, 1 is: a@0." in deep
    assert "The weights were not read" not in deep


def test_files_that_were_imported_are_named_with_a_short_hash(result, tmp_path):
    directory = run_directory(tmp_path / "imported", result)
    files = [{"name": "a.csv.gz", "sha256": "ab" * 32}, {"name": "b.csv", "sha256": "cd" * 32}]
    with directory.changing_manifest() as manifest:
        prompts = [["copying", "a b a"], ["capitals", "Rome is in"]]
        manifest.tables["heads"] = TableRecord({"suite": "published", "imported": files}, ["a@0"])
        manifest.tables["prompts"] = TableRecord({"suite": "published", "prompts": prompts}, ["a@0"])
    named = "a.csv.gz (sha256 abababababab…), b.csv (sha256 cdcdcdcdcdcd…)"
    measured = measurement(directory)
    assert ("imported", named) in measured.facts
    assert ("imported", named) in dict(measured.records)["heads"]
    assert ("prompts", "copying, a b a; capitals, Rome is in") in dict(measured.records)["prompts"]
    text = write(directory, figures=False).read_text(encoding="utf-8")
    assert named in text
    assert "{&#39;name&#39;" not in text


def test_the_report_averages_nothing():
    """What is averaged or counted over groups is a table that a study wrote."""
    folder = Path(reporting.__file__).parent
    found = {
        f"{path.relative_to(folder)}: {line.strip()}"
        for path in folder.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"\.(group_by|agg|mean|median|std|quantile)\(", line)
    }
    assert found == set()
